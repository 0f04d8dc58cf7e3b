"""Every view answers the same over a log whose offsets have gaps and whose records come twice as over a plain one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.checking import VIEWS
from roadrunner.aggregation import Aggregation, MemoryValues
from services.core.errors import NotReady
from services.core.events import Batch
from services.core.topics import Topic, split
from services.log.memory import MemoryLog, MemoryWriter
from services.log.protocol import Draft, Partition, Positions, Provenance, Record
from services.log.reading import read_all
from tests.damage.world import EVERY_ID, PARTITIONS, checked, happened, open_view
from tests.services.batches import rows_of

INGEST = 77  # a topic that the views do not read
SLICE = 40


def batches() -> Iterator[Batch]:
    """Some of everything, a few events at a time."""
    for seed in (1, 2):
        whole = happened(400, seed)
        for start in range(0, len(whole), SLICE):
            yield whole.slice(start, start + SLICE)


def parts_of(batch: Batch, aggregation: Aggregation) -> list[tuple[Topic, int, Batch]]:
    """Where the events of a batch belong, and the counts that come of them."""
    parts = [(part.topic, part.partition, part.batch) for part in split(batch, PARTITIONS)]
    objects = [Record(topic, partition, 0, 0, of) for topic, partition, of in parts if topic is Topic.OBJECTS]
    return parts + [(Topic.COUNTS, *counts) for counts in aggregation.increments(objects, PARTITIONS)]


def plain() -> MemoryLog:
    """As the embedded log: offsets without gaps, each record once."""
    log, aggregation = MemoryLog(PARTITIONS), Aggregation(MemoryValues(), MemoryValues())
    for batch in batches():
        for topic, partition, of in parts_of(batch, aggregation):
            log.append_to(topic, partition, of)
    return log


def split_twice() -> MemoryLog:
    """As on Kafka: gaps, records that say what they were made of, and splitters that crash and split some of it again; where
    nothing is to be said there is a marker.
    """
    log, aggregation = MemoryLog(PARTITIONS, gaps=4), Aggregation(MemoryValues(), MemoryValues())
    writer, made = log.writer(), list[list[Draft]]()
    for n, batch in enumerate(batches()):
        source, offset, parts = n % 3, n // 3 * 5, parts_of(batch, aggregation)
        drafts = [Draft(*part, Provenance(INGEST, source, offset, i)) for i, part in enumerate(parts)]
        marker = Provenance(INGEST, source, offset, len(parts))
        drafts += [Draft(topic, n % PARTITIONS, batch.slice(0, 0), marker) for topic in Topic]
        made.append(drafts)
        writer.append(drafts, 1)
        if n % 4 == 3:
            writer = another(log, made[-3:])
    return log


def another(log: MemoryLog, again: list[list[Draft]]) -> MemoryWriter:
    """A splitter that begins with what the one before had done, the last of it only in part."""
    writer = log.writer()
    for drafts in again:
        writer.append(drafts, 1)
    return writer


def applied(folder: Path, service: str, log: MemoryLog) -> dict[str, str]:
    """The answers of a view that has followed the log, opened again in between."""
    mine = [(int(topic), partition) for topic in checked(service).topics for partition in range(PARTITIONS)]
    for most in (20, None):
        store = open_view(folder, service)
        records = everything(log, store.shard.positions(mine))[:most]
        for start in range(0, len(records), 7):
            store.apply(store.shard.fresh(records[max(0, start - 2) : start + 7]))  # some of them come again
        found, ends = checked(service).answers(store, EVERY_ID), log.ends()
        store.shard.close()
    assert store.shard.positions(mine) == {at: ends[at].next for at in mine}
    assert store.shard.applied_events() == sum(ends[at].events or 0 for at in mine)
    return found


def everything(log: MemoryLog, positions: Positions) -> list[Record]:
    """All records from the positions on, as they lie in the log."""
    missing = {at for at, end in log.ends().items() if positions.get(at, end.next) < end.next}
    reader, found = log.reader(), list[Record]()
    chunks = reader.subscribe(positions)
    while missing:
        found += next(chunks)
        missing -= {(int(r.topic), r.partition) for r in found if r.offset + 1 == log.ends()[r.topic, r.partition].next}
    reader.close()
    return found


@pytest.fixture(scope="module")
def logs() -> dict[str, MemoryLog]:
    return {"plain": plain(), "gaps": split_twice()}


@pytest.mark.parametrize("service", VIEWS)
def test_a_view_applies_each_event_once(tmp_path: Path, logs: dict[str, MemoryLog], service: str) -> None:
    expected = applied(tmp_path / "plain", service, logs["plain"])
    found = applied(tmp_path / "gaps", service, logs["gaps"])
    assert found == expected
    assert any(character.isdigit() for text in expected.values() for character in text), "there is something to say"


def test_reading_the_whole_log_gives_each_event_once(logs: dict[str, MemoryLog]) -> None:
    read = {}
    for name, log in logs.items():
        reader, ends = log.reader(), log.ends()
        records = [record for chunk in read_all(reader, dict.fromkeys(ends, 0), 60) for record in chunk]
        reader.close()
        assert sum(len(record.batch) + record.repeated for record in records) == sum(
            end.events or 0 for end in ends.values()
        )
        read[name] = {
            at: rows_of(Batch.concat([r.batch for r in records if (int(r.topic), r.partition) == at])) for at in ends
        }
    assert read["gaps"] == read["plain"]


@pytest.mark.parametrize("service", VIEWS)
def test_a_view_refuses_a_log_of_which_a_record_is_missing(
    tmp_path: Path, logs: dict[str, MemoryLog], service: str
) -> None:
    store, lost = open_view(tmp_path, service), one_less(logs["gaps"], (int(checked(service).topics[0]), 0))
    with pytest.raises(
        NotReady, match="topic . partition 0: offset .* with number 2 of its writer .* number 1 is next"
    ):
        store.apply(store.shard.fresh(lost))
    assert store.shard.applied_events() == 0
    store.shard.close()


def one_less(log: MemoryLog, at: Partition) -> list[Record]:
    """The records of a partition without the second."""
    found = everything(log, {at: 0})
    del found[1]
    return found
