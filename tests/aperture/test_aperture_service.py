"""Real calls to real servers in this process, on one shard and on two."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from aperture import layout
from aperture.client import BOARD, DAY, NOTHING, PIN, SURFACE, ApertureClient
from aperture.service import Aperture
from aperture.settings import Settings
from aperture.store import TOPICS, ApertureStore
from protos.aperture_pb2_grpc import add_ApertureServicer_to_server
from services.core.clock import DAY_MS
from services.core.columns import ids
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch, events
from services.kernels import bloom
from services.log.memory import MemoryLog
from services.rpc.mesh import Mesh
from services.rpc.server import AddServicer
from tests.kit import asked, open_shards, serve_shards

PARTITIONS = 8
NOW = 19_700 * DAY_MS + DAY_MS // 2
USERS = range(1, 21)
T = TypeVar("T")


def servicer(store: ApertureStore) -> AddServicer:
    return lambda server: add_ApertureServicer_to_server(Aperture(store), server)


@contextmanager
def aperture(folder: Path, shards: int, batch: Batch) -> Iterator[Mesh]:
    """An aperture of several shards that has applied a batch, and frozen all days that it could."""
    records = MemoryLog(PARTITIONS).append(batch, TOPICS)
    with open_shards(folder, layout.FORMAT, layout.FAMILIES, shards, PARTITIONS) as opened:
        servicers = []
        for shard, own in opened:
            store = ApertureStore(shard, own, PARTITIONS, lambda: NOW)
            store.apply([record for record in records if record.partition in own])
            while store.freezer.step():
                pass
            servicers.append([servicer(store)])
        with serve_shards("aperture", servicers, PARTITIONS) as made:
            yield made


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mesh]:
    """Every user has, a day each back from now: an impression of pin 1, a save of pin 2 on board 5, a click on pin 1."""
    n = len(USERS)
    batch = events(
        3 * n,
        user=np.repeat(np.array(USERS), 3),
        action=np.tile([Action.IMPRESSION, Action.SAVE, Action.CLICK], n),
        pin=np.tile([1, 2, 1], n),
        board=np.tile([0, 5, 5], n),
        surface=np.tile([4, 6, 4], n),
        at_ms=np.tile([NOW, NOW - DAY_MS, NOW - 2 * DAY_MS], n),
        id=np.arange(1, 3 * n + 1),
    )
    with aperture(tmp_path, request.param, batch) as made:
        yield made


def ask(mesh: Mesh, question: Callable[[ApertureClient], Awaitable[T]]) -> T:
    return asked(ApertureClient, mesh, question)


def test_history_is_newest_first(mesh: Mesh) -> None:
    for user in (1, 13, 20):
        found = ask(mesh, partial(ApertureClient.history, user=user, limit=10, timeout=5))
        assert found.pins.tolist() == [1, 2, 1]
        assert found.boards.tolist() == [0, 5, 5]
        assert found.actions.tolist() == [Action.IMPRESSION, Action.SAVE, Action.CLICK]
        assert found.surfaces.tolist() == [4, 6, 4]
        assert found.at_ms.tolist() == [NOW, NOW - DAY_MS, NOW - 2 * DAY_MS]


def test_history_of_a_span_of_actions_and_of_a_limit(mesh: Mesh) -> None:
    async def question(client: ApertureClient) -> list[list[int]]:
        spans: list[dict[str, Any]] = [
            {"since_ms": NOW - DAY_MS},
            {"until_ms": NOW},
            {"since_ms": NOW - DAY_MS, "until_ms": NOW},
            {"since_ms": NOW, "until_ms": NOW},
            {"actions": [Action.SAVE, Action.CLICK]},
            {"limit": 1},
        ]
        found = [await client.history(3, **{"limit": 10, "timeout": 5, **span}) for span in spans]
        return [history.actions.tolist() for history in found]

    impression, save, click = int(Action.IMPRESSION), int(Action.SAVE), int(Action.CLICK)
    assert ask(mesh, question) == [[impression, save], [save, click], [save], [], [save, click], [impression]]


def test_the_filter_holds_what_was_seen(mesh: Mesh) -> None:
    found = ask(mesh, lambda client: client.seen_filter(9, exact=True, timeout=5))
    assert found.pins == 2
    assert found.exact.tolist() == [1, 2]
    assert bloom.probe(bloom.of_bytes(found.filter, "filter"), ids([1, 2])).all()
    saved = ask(mesh, lambda client: client.seen_filter(9, actions=[Action.SAVE], timeout=5))
    assert saved.pins == 1
    assert not len(saved.exact)
    recent = ask(mesh, lambda client: client.seen_filter(9, since_ms=NOW, exact=True, timeout=5))
    assert recent.exact.tolist() == [1]


def test_counts_by_each_key(mesh: Mesh) -> None:
    async def question(client: ApertureClient) -> dict[int, tuple[list[int], Any]]:
        found = {}
        for by in (NOTHING, PIN, BOARD, SURFACE, DAY):
            counts = await client.counts(
                4, actions=[Action.CLICK, Action.SAVE], windows_ms=[3 * DAY_MS, DAY_MS + 1], by=by, timeout=5
            )
            found[int(by)] = (counts.keys.tolist(), counts.counts.tolist())
        return found

    day = NOW // DAY_MS
    assert ask(mesh, question) == {
        NOTHING: ([0], [[[1, 1], [0, 1]]]),
        PIN: ([1, 2], [[[1, 0], [0, 0]], [[0, 1], [0, 1]]]),
        BOARD: ([5], [[[1, 1], [0, 1]]]),
        SURFACE: ([4, 6], [[[1, 0], [0, 0]], [[0, 1], [0, 1]]]),
        DAY: ([day - 2, day - 1], [[[1, 0], [0, 0]], [[0, 1], [0, 1]]]),
    }


def test_counts_reach_back_from_any_moment(mesh: Mesh) -> None:
    async def question(client: ApertureClient) -> list[int]:
        terms: dict[str, Any] = {"actions": [Action.SAVE], "windows_ms": [DAY_MS], "timeout": 5}
        found = [await client.counts(4, now_ms=NOW - back, **terms) for back in (DAY_MS, DAY_MS + 1, 0, 1)]
        return [int(counts.counts.item()) for counts in found]

    assert ask(mesh, question) == [1, 0, 0, 1]


def test_an_unknown_user_has_an_empty_history(mesh: Mesh) -> None:
    async def question(client: ApertureClient) -> None:
        assert not len((await client.history(999, limit=10, timeout=5)).pins)
        seen = await client.seen_filter(999, exact=True, timeout=5)
        assert (seen.filter, seen.pins, len(seen.exact)) == (b"", 0, 0)
        counts = await client.counts(999, actions=[Action.SAVE], windows_ms=[5], by=PIN, timeout=5)
        assert counts.counts.shape == (0, 1, 1)
        counts = await client.counts(999, actions=[Action.SAVE], windows_ms=[5], timeout=5)
        assert counts.counts.tolist() == [[[0]]]

    ask(mesh, question)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("history", {"user": 0}, "user = 0: is no user"),
    ("history", {"limit": 0}, "limit = 0: allowed are 1 to 1000000"),
    ("history", {"limit": 1_000_001}, "limit = 1000001: allowed are 1 to 1000000"),
    ("history", {"since_ms": -1}, "since_ms = -1: allowed are 0 to "),
    ("history", {"until_ms": -1}, "until_ms = -1: allowed are 0 to "),
    ("history", {"since_ms": 2**63 - 1}, f"since_ms = {2**63 - 1}: allowed are 0 to "),
    ("history", {"since_ms": 9, "until_ms": 8}, "until_ms = 8: allowed are since_ms = 9 and later, or 0"),
    ("history", {"actions": [23, 25]}, r"actions\[1\] = 25: allowed are 20 impression, 21 closeup, 22 click, 23 save"),
    ("history", {"actions": [23, 23]}, r"actions = \[23, 23\]: each is allowed once"),
    ("seen_filter", {"user": 0}, "user = 0: is no user"),
    ("seen_filter", {"false_positive_rate": 0.6}, "false_positive_rate = 0.6: allowed are 0.0001 to 0.5"),
    ("seen_filter", {"false_positive_rate": 0.0}, "false_positive_rate = 0.0: allowed are 0.0001 to 0.5"),
    ("seen_filter", {"false_positive_rate": float("nan")}, "false_positive_rate = nan: allowed are 0.0001 to 0.5"),
    ("seen_filter", {"since_ms": -5}, "since_ms = -5: allowed are 0 to "),
    ("seen_filter", {"actions": [1]}, r"actions\[0\] = 1: allowed are 20 impression"),
    ("counts", {"user": 0}, "user = 0: is no user"),
    ("counts", {"actions": []}, "actions: none given; at least one of 20 impression"),
    ("counts", {"actions": [0]}, r"actions\[0\] = 0: allowed are 20 impression"),
    ("counts", {"windows_ms": []}, "windows_ms: 0 windows; allowed are 1 to 32 of them"),
    ("counts", {"windows_ms": [1] * 33}, "windows_ms: 33 windows; allowed are 1 to 32 of them"),
    ("counts", {"windows_ms": [5, 0]}, r"windows_ms\[1\] = 0: allowed are 1 and more"),
    ("counts", {"by": 5}, "by = 5: allowed are 0 nothing, 1 pin, 2 board, 3 surface, 4 day"),
    ("counts", {"now_ms": -1}, "now_ms = -1: allowed are 0 to "),
]
PLAIN: dict[str, dict[str, Any]] = {
    "history": {"limit": 10},
    "seen_filter": {},
    "counts": {"actions": [23], "windows_ms": [DAY_MS]},
}


def test_what_is_not_allowed_is_refused_by_name(mesh: Mesh) -> None:
    async def question(client: ApertureClient) -> None:
        for method, wrong, message in REFUSED:
            terms = {"user": 1, "timeout": 5, **PLAIN[method], **wrong}
            with pytest.raises(InvalidArgument, match=message):
                await getattr(client, method)(terms.pop("user"), **terms)

    ask(mesh, question)


def test_extremes_are_answered(mesh: Mesh) -> None:
    async def question(client: ApertureClient) -> None:
        assert len((await client.history(1, until_ms=layout.LAST_MS, limit=1_000_000, timeout=5)).pins) == 3
        assert not len((await client.history(1, since_ms=layout.LAST_MS, limit=1, timeout=5)).pins)
        counts = await client.counts(1, actions=[23], windows_ms=[2**63 - 1] * 32, now_ms=layout.LAST_MS, timeout=5)
        assert counts.counts.tolist() == [[[1]] * 32]
        assert not len((await client.history(2**64 - 1, limit=1, timeout=5)).pins)

    ask(mesh, question)


def test_the_entry_point_declares_its_settings() -> None:
    assert (Settings().recent_keys, Settings().keep_days) == (64, 0)
