"""The ingest API over real RPCs: the batches it accepts, its refusals, and streams that end when their reader goes."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from protos import events_pb2, roadrunner_pb2_grpc
from protos import roadrunner_pb2 as pb
from roadrunner.service import MAX_EVENTS
from services.core import tokens
from services.core.boards import IS_OF_BOARDS
from services.core.clock import wall_clock
from services.core.errors import Exhausted, InvalidArgument, OutOfRange, Unavailable
from services.core.events import RESERVED_FROM, Action, Batch, events
from services.core.probes import TURNS, probe
from services.core.topics import Topic, split
from services.log.protocol import rows
from services.log.reading import open_reader, read_all
from tests.roadrunner.running import PARTITIONS, Running, running
from tests.services.batches import follows, good_batches, rows_of
from tests.services.children import until

NOW_MS = time.time_ns() // 1_000_000
Code = grpc.StatusCode
NEW_IDS = itertools.count(1)


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def stub(ingest: Running) -> Any:
    return roadrunner_pb2_grpc.RoadrunnerStub(ingest.channel())


def places(token: bytes) -> tokens.Reached:
    """The offsets of a token, without its epochs."""
    return {at: offset for at, offset in tokens.decode(token).items() if at[0] != tokens.EPOCH}


def test_what_was_published_is_read_back_and_its_token_says_where(ingest: Running) -> None:
    published = ingest.publisher().publish(follows(40, user=5), 10)
    assert (published.accepted, published.duplicates) == (40, 0)
    log = ingest.reader()
    (at,) = places(published.token)
    ends = log.ends(10)
    assert places(published.token) == {at: ends[at].next - 1}
    assert tokens.epochs(tokens.decode(published.token)) == [log.history(10).epoch]
    assert ends[at].events == 40
    batch, partition = rows([record for chunk in read_all(log, {at: 0}, 10) for record in chunk])
    assert rows_of(batch) == rows_of(follows(40, user=5))
    assert set(partition) == {at[1]}
    log.close()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=good_batches(max_size=12))
def test_any_good_batch_is_accepted_and_its_token_names_every_partition(ingest: Running, batch: Batch) -> None:
    batch = batch.replace(id=np.array([next(NEW_IDS) for _ in range(len(batch))], np.uint64))
    published = ingest.publisher().publish(batch, 10)
    assert (published.accepted, published.duplicates) == (len(batch), 0)
    ingest.hang_up()
    holds = batch.take(
        ~IS_OF_BOARDS[batch.action]
    )  # a statement of a board may hold or not: then it is in `objects` alone
    least, most = ({(int(p.topic), p.partition) for p in split(of, PARTITIONS)} for of in (holds, batch))
    assert least <= set(places(published.token)) <= most
    assert {at for at in most if at[0] == Topic.OBJECTS} <= set(places(published.token))


def test_publishing_again_is_no_error_and_no_second_event(ingest: Running) -> None:
    publisher = ingest.publisher()
    first = publisher.publish(follows(3), 10)
    again = publisher.publish(follows(4), 10)
    assert (again.accepted, again.duplicates) == (1, 3)
    assert places(again.token).keys() == places(first.token).keys()


def test_an_empty_batch_is_accepted(ingest: Running) -> None:
    published = ingest.publisher().publish(events(0), 10)
    assert (published.accepted, published.duplicates, published.token) == (0, 0, b"")
    assert sum(end.next for end in ingest.log.ends().values()) == 0


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (events(1, action=99, user=1, at_ms=NOW_MS, id=1), r"batch.action\[0\] = 99 is not allowed: known actions are"),
        (events(1, action=Action.TAKEDOWN, at_ms=NOW_MS, id=1), r"batch.pin\[0\] = 0 \(action takedown\)"),
        (events(1, action=Action.TAKEDOWN, pin=1, at_ms=NOW_MS), r"batch.id\[0\] = 0"),
        (
            events(1, action=Action.TAKEDOWN, pin=RESERVED_FROM, at_ms=NOW_MS, id=1),
            r"batch.pin\[0\] = .*the mesh's own",
        ),
        (events(1, action=Action.TAKEDOWN, pin=1, at_ms=NOW_MS + 86_400_000, id=1), r"batch.at_ms\[0\] = "),
    ],
)
def test_what_is_not_allowed_is_refused_by_name_and_nothing_of_it_kept(
    ingest: Running, batch: Batch, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        ingest.publisher().publish(Batch.concat([batch, follows(5)]), 10)
    assert sum(end.next for end in ingest.log.ends().values()) == 0
    assert ingest.publisher().publish(follows(5), 10).accepted == 5, "no id was taken"


def test_reserved_ids_are_written_by_probes_alone(ingest: Running) -> None:
    sample = probe(7, wall_clock())
    with pytest.raises(InvalidArgument, match="the mesh's own"):
        ingest.publisher().publish(sample, 10)
    for turn in (TURNS, 2**63):
        with pytest.raises(grpc.RpcError, match=f"turn = {turn}: allowed are 0 to {TURNS - 1}"):
            stub(ingest).Probe(pb.ProbeRequest(turn=turn, at_ms=wall_clock()), timeout=30)
    with pytest.raises(grpc.RpcError, match="at_ms"):
        stub(ingest).Probe(pb.ProbeRequest(turn=7, at_ms=2**62), timeout=30)
    assert sum(end.events or 0 for end in ingest.log.ends().values()) == 0
    assert stub(ingest).Probe(pb.ProbeRequest(turn=7, at_ms=wall_clock()), timeout=30).accepted == len(sample)
    assert sum(end.events or 0 for end in ingest.log.ends().values()) > len(sample)


def test_damaged_and_oversized_batches_are_refused_by_status(ingest: Running) -> None:
    asked = stub(ingest)

    def status(batch: events_pb2.Batch) -> tuple[Code, str]:
        with pytest.raises(grpc.RpcError) as refused:
            asked.Publish(pb.PublishRequest(batch=batch), timeout=30)
        return refused.value.code(), refused.value.details() or ""

    code, message = status(events_pb2.Batch(n=2**32 - 1))
    assert (code, message) == (Code.INVALID_ARGUMENT, f"batch.n = 4294967295: at most {MAX_EVENTS} events a batch")
    assert status(events_pb2.Batch(n=3, action=b"\x01")) == (
        Code.INVALID_ARGUMENT,
        "batch.action: 1 values, expected 3",
    )
    code, message = status(events_pb2.Batch(user=b"12345678"))
    assert code == Code.INVALID_ARGUMENT
    code, message = status(events_pb2.Batch(user=bytes(100 << 20)))
    assert code == Code.RESOURCE_EXHAUSTED
    assert "larger than max" in message
    assert ingest.publisher().publish(follows(5), 10).accepted == 5, "and it goes on"


def test_a_body_of_100_mb_is_refused_by_the_server_also_when_the_client_sends_it(ingest: Running) -> None:
    with grpc.insecure_channel(ingest.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        asked: Any = roadrunner_pb2_grpc.RoadrunnerStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            asked.Publish(pb.PublishRequest(batch=events_pb2.Batch(user=bytes(100 << 20))), timeout=30)
        assert refused.value.code() == Code.RESOURCE_EXHAUSTED
    assert ingest.publisher().publish(follows(5), 10).accepted == 5


def test_a_publish_on_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with running(tmp_path, no_space=lambda: "disk nearly full: 3 MB free") as ingest:
        with pytest.raises(Exhausted, match="roadrunner: disk nearly full: 3 MB free"):
            ingest.publisher().publish(follows(1), 10)
        log = ingest.reader()
        assert log.ends(10)
        log.close()


def test_subscribing_to_what_is_not_there_is_refused_by_status(ingest: Running) -> None:
    log = ingest.reader()
    for positions, message in (
        ({(9, 0): 0}, "roadrunner: no topic 9 partition 0"),
        ({(0, 99): 0}, "no topic 0 partition 99"),
        ({(0, 0): 5}, "topic 0 partition 0: offset 5 is not in the log, which holds 0 to 0"),
    ):
        with pytest.raises(OutOfRange, match=message):
            next(log.subscribe(positions))
    with pytest.raises(InvalidArgument, match="from: name at least one topic, partition and offset"):
        next(log.subscribe({}))
    log.close()


def streams(ingest: Running) -> int:
    """How many streams wait at the end of the log."""
    return len({woken for waiting in ingest.log._readers.values() for woken in waiting})


def test_a_reader_that_goes_away_frees_its_thread(ingest: Running) -> None:
    everything = {(int(topic), p): 0 for topic in Topic for p in range(PARTITIONS)}
    for how in ("cancel", "hang up"):
        readers = [ingest.reader() for _ in range(12)]
        calls = [iter(reader.subscribe(everything)) for reader in readers]
        ingest.publisher().publish(follows(1, first_id=1 if how == "cancel" else 2), 10)
        assert all(next(call) for call in calls)
        until(lambda: streams(ingest) > 0)
        for reader, call in zip(readers, calls, strict=True):
            if how == "cancel":
                call.close()  # type: ignore[attr-defined]
            else:
                reader._channel.close()
        until(lambda: not ingest.service._streams, 10)
        for reader in readers:
            reader.close()
    assert ingest.publisher().publish(follows(1, first_id=9), 10).accepted == 1


def test_draining_ends_the_streams(ingest: Running) -> None:
    log = ingest.reader()
    ingest.publisher().publish(follows(1, user=1), 10)
    (at,) = (at for at, end in ingest.log.ends().items() if end.next)
    stream = log.subscribe({at: 0})
    assert len(next(stream)) == 1
    ingest.close_streams()
    assert list(stream) == []
    log.close()


def test_an_ingest_api_that_is_away_is_an_error(tmp_path: Path) -> None:
    with running(tmp_path) as ingest:
        mesh = ingest.mesh
    log = open_reader(mesh)
    with pytest.raises(Unavailable, match="roadrunner is away; try again in a moment"):
        log.ends(2)
    with pytest.raises(Unavailable, match="roadrunner is away; try again in a moment"):
        next(log.subscribe({(0, 0): 0}))
    log.close()
