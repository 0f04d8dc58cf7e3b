"""The store against an obvious list, with freezing, reopening and kills at any moment."""

import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aperture import freezer, kernel, layout, store
from aperture.store import TOPICS, ApertureStore, By
from services.clock import DAY_MS
from services.events import ENGAGEMENTS, Action, Batch, events, flags
from services.log import Record
from services.shard import Shard
from tests.kit import Offsets

PARTITIONS = 4
OWN = range(PARTITIONS)
TODAY = 19_700 * DAY_MS  # 2023-12-09
NOON = TODAY + DAY_MS // 2
ROOT = Path(__file__).parents[2]


class Event(NamedTuple):
    user: int
    action: int
    pin: int
    board: int
    at_ms: int
    surface: int


Now = Callable[[], int]


def batch_of(rows: list[Event]) -> Batch:
    user, action, pin, board, at_ms, surface = zip(*rows, strict=True)
    return events(
        len(rows),
        user=user,
        action=action,
        pin=pin,
        board=board,
        at_ms=at_ms,
        surface=surface,
        id=range(1, len(rows) + 1),
    )


@contextmanager
def opened(
    folder: Path, now: Now = lambda: NOON, recent_keys: int = 1000, keep_days: int = 0
) -> Iterator[ApertureStore]:
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES, 8, 8)
    try:
        yield ApertureStore(shard, OWN, PARTITIONS, now, recent_keys, keep_days)
    finally:
        shard.close()


def records(*batches: list[Event]) -> list[Record]:
    offsets = Offsets(PARTITIONS)
    return [record for rows in batches for record in offsets.records(batch_of(rows), TOPICS)]


def freeze_all(found: ApertureStore) -> int:
    steps = 0
    while found.freezer.step():
        steps += 1
    return steps


def tuples(rows: layout.Rows, user: int) -> list[Event]:
    columns = [getattr(rows, name).tolist() for name in ("actions", "pins", "boards", "at_ms", "surfaces")]
    return [Event(user, *row) for row in zip(*columns, strict=True)]


def kinds(found: ApertureStore) -> tuple[int, int]:
    """How many frozen and recent keys there are, recounted."""
    frozen = [layout.is_frozen(key) for key, _ in found.shard.family("days").items()]
    return sum(frozen), len(frozen) - sum(frozen)


# --- the obvious ----------------------------------------------------------------------------------------------------


def slow_history(log: list[Event], user: int, since: int, until: int, actions: set[int], limit: int) -> list[Event]:
    kept = [
        (-e.at_ms, -i, e)
        for i, e in enumerate(log)
        if e.user == user and e.action in actions and since <= e.at_ms < until
    ]
    return [e for _, _, e in sorted(kept)][:limit]


def slow_counts(
    log: list[Event], user: int, actions: list[int], windows: list[int], by: int, now: int
) -> dict[int, list[list[int]]]:
    key: Callable[[Event], int] = {
        By.NOTHING: lambda e: 0,
        By.PIN: lambda e: e.pin,
        By.BOARD: lambda e: e.board,
        By.SURFACE: lambda e: e.surface,
        By.DAY: lambda e: e.at_ms // DAY_MS,
    }[By(by)]
    found: dict[int, list[list[int]]] = {}
    for e in log:
        if e.user == user and e.action in actions and now - max(windows) < e.at_ms <= now:
            counts = found.setdefault(key(e), [[0] * len(actions) for _ in windows])
            for w, window in enumerate(windows):
                counts[w][actions.index(e.action)] += e.at_ms > now - window
    if by == By.NOTHING:
        found.setdefault(0, [[0] * len(actions) for _ in windows])
    return dict(sorted(found.items()))


# --- hypothesis -----------------------------------------------------------------------------------------------------

IDS = st.integers(1, 6) | st.just(2**64 - 1)
DATES = st.integers(-4, 1).map(lambda d: TODAY + d * DAY_MS) | st.integers(TODAY - 3 * DAY_MS, NOON)
DATES = DATES | st.just(946_684_800_000)
EVENT = st.builds(
    Event,
    st.sampled_from([1, 2, 3, 2**64 - 1]),
    st.sampled_from([*map(int, ENGAGEMENTS), int(Action.FOLLOW_USER)]),
    IDS,
    st.integers(0, 3),
    DATES,
    st.integers(0, 9),
)
OPS = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), st.lists(EVENT, min_size=1, max_size=12)),
        st.tuples(st.just("freeze"), st.integers(1, 4)),
        st.tuples(st.just("reopen"), st.integers(0, 5)),
        st.tuples(st.just("midnight"), st.just(0)),
    ),
    min_size=1,
    max_size=14,
)
ACTION_SETS = st.sets(st.sampled_from([int(a) for a in ENGAGEMENTS]), min_size=1)


class Model:
    """A store and the list that it must agree with."""

    def __init__(self, folder: Path, stack: ExitStack, recent_keys: int) -> None:
        self.folder, self.stack, self.recent_keys = folder, stack, recent_keys
        self.now, self.log = NOON, list[Event]()
        self.offsets, self.taken = Offsets(PARTITIONS), list[Record]()
        self._open()

    def _open(self) -> None:
        self.stack.close()
        self.store = self.stack.enter_context(opened(self.folder, lambda: self.now, self.recent_keys))

    def run(self, op: str, value: Any) -> None:
        if op == "apply":
            came = self.offsets.records(batch_of(value), TOPICS)
            self.taken += came
            self.log += [e for e in value if e.action != Action.FOLLOW_USER]
            self._apply(came)
        elif op == "freeze":
            for _ in range(value):
                self.store.freezer.step()
        elif op == "midnight":
            self.now += DAY_MS
        else:
            self._open()
            self._apply(self.taken[-value:] if value else [])

    def _apply(self, came: list[Record]) -> None:
        fresh = self.store.shard.fresh(came)
        half = len(fresh) // 2
        for part in (fresh[:half], fresh[half:]):
            self.store.apply(part)

    def check(self, since: int, until: int, actions: set[int], limit: int, windows: list[int]) -> None:
        wanted, now = flags(*map(Action, actions)), self.now
        for user in (1, 2, 3, 4, 2**64 - 1):
            rows = self.store.history(user, since, until, wanted, limit)
            assert tuples(rows, user) == slow_history(self.log, user, since, until, actions, limit)
            pins = {e.pin for e in slow_history(self.log, user, since, layout.LAST_MS, actions, 10**6)}
            assert self.store.seen(user, since, wanted).tolist() == sorted(pins)
            for by in By:
                ordered = sorted(actions, reverse=True)
                counts = self.store.counts(user, np.array(ordered, np.uint8), np.array(windows), by, now)
                slow = slow_counts(self.log, user, ordered, windows, by, now)
                assert counts.keys.tolist() == list(slow)
                assert counts.counts.tolist() == list(slow.values())


@settings(max_examples=60)
@given(
    ops=OPS,
    recent_keys=st.integers(1, 3),
    segment=st.sampled_from([1, 100, layout.SEGMENT_BYTES]),
    step=st.integers(1, 3),
    max_due=st.integers(0, 3),
    span=st.tuples(DATES, DATES),
    actions=ACTION_SETS,
    limit=st.integers(1, 8),
    windows=st.lists(st.integers(1, 5 * DAY_MS) | st.just(2**62), min_size=1, max_size=3),
)
def test_it_answers_as_a_list_would_whatever_is_frozen_when(
    ops: list[tuple[str, Any]],
    recent_keys: int,
    segment: int,
    step: int,
    max_due: int,
    span: tuple[int, int],
    actions: set[int],
    limit: int,
    windows: list[int],
) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, ExitStack() as sizes:
        for module, name, value in (
            (layout, "SEGMENT_BYTES", segment),
            (freezer, "STEP_DAYS", step),
            (freezer, "MAX_DUE", max_due),
            (store, "_BLOCK_ROWS", 2),
        ):
            sizes.enter_context(patch.object(module, name, value))
        model = Model(Path(folder), stack, recent_keys)
        for op, value in ops:
            model.run(op, value)
        model.check(min(span), max(span), actions, limit, windows)
        model.check(0, layout.LAST_MS, actions, 10**6, windows)
        model.now += 2 * DAY_MS
        freeze_all(model.store)
        assert kinds(model.store)[1] == model.store.freezer.recent == 0
        assert not list(model.store.shard.family("pending").keys())
        model.check(0, layout.LAST_MS, actions, limit, windows)


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 2)), max_size=30),
    windows=st.lists(st.integers(1, 31), min_size=1, max_size=4),
)
def test_a_tally_counts_each_row_in_every_window_that_reaches_it(
    rows: list[tuple[int, int, int]], windows: list[int]
) -> None:
    slow = np.zeros((4, len(windows), 3), np.uint32)
    for key, age, slot in rows:
        for w, window in enumerate(windows):
            slow[key, w, slot] += age < window
    keys, ages, slots = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    assert np.array_equal(kernel.tally(keys, 4, ages, np.array(windows), slots, 3), slow)


@given(st.lists(st.integers(0, 5), max_size=8))
def test_values_hold_rows_as_they_were(lengths: list[int]) -> None:
    n = sum(lengths)
    random = np.random.default_rng(n)
    pins, boards = (random.integers(0, 2**64, n, np.uint64) for _ in range(2))
    codes = random.integers(0, 256, n).astype(np.uint8)
    rows = layout.Rows(pins, boards, random.integers(0, 2**62, n), codes, codes[::-1])
    ends = np.cumsum(lengths, dtype=np.int64)
    values = layout.pack(rows, ends)
    assert [layout.rows_in(value) for value in values] == lengths
    for value, (start, end) in zip(values, pairwise([0, *ends.tolist()]), strict=True):
        assert tuples(layout.unpack([value]), 1) == tuples(rows, 1)[start:end]
    assert tuples(layout.unpack(values), 1) == tuples(rows, 1)


# --- what is frozen when --------------------------------------------------------------------------------------------


def saves(user: int, dates: list[int], pin: int = 1) -> list[Event]:
    return [Event(user, Action.SAVE, pin + i, 7, at_ms, 4) for i, at_ms in enumerate(dates)]


def test_a_page_of_impressions_is_one_key(tmp_path: Path) -> None:
    with opened(tmp_path) as found:
        found.apply(records(saves(1, [NOON] * 25)))
        assert kinds(found) == (0, 1)
        assert found.freezer.recent == 1


def test_a_day_is_frozen_when_it_has_ended(tmp_path: Path) -> None:
    now = [NOON]
    with opened(tmp_path, lambda: now[0]) as found:
        found.apply(records(saves(1, [NOON]), saves(2, [NOON - DAY_MS]), saves(1, [NOON + 1])))
        assert freeze_all(found) == 1
        assert kinds(found) == (1, 1)
        now[0] = TODAY + DAY_MS
        freeze_all(found)
        assert kinds(found) == (2, 0)
        assert found.freezer.frozen_days == 2


def test_a_busy_day_is_frozen_before_it_ends(tmp_path: Path) -> None:
    with opened(tmp_path, recent_keys=3) as found:
        came = records(*(saves(1, [NOON + i]) for i in range(7)))
        found.apply([came[0]])
        for record in came[1:3]:
            found.apply([record])
        assert freeze_all(found) == 0
        found.apply([came[3]])
        assert freeze_all(found) == 1
        assert kinds(found) == (1, 0)
        for record in came[4:]:
            found.apply([record])
        assert freeze_all(found) == 0
        assert kinds(found) == (1, 3)
        assert found.history(1).at_ms.tolist() == [NOON + i for i in reversed(range(7))]


def test_what_was_due_before_a_restart_is_frozen_after_it(tmp_path: Path) -> None:
    with opened(tmp_path) as found:
        found.apply(records(saves(1, [NOON - d * DAY_MS for d in range(1, 100)])))
    with opened(tmp_path) as found:
        assert found.freezer.recent == 99
        freeze_all(found)
        assert kinds(found) == (99, 0)


def test_a_large_day_is_frozen_in_segments(tmp_path: Path) -> None:
    batches = [saves(1, [NOON - DAY_MS] * 40, pin=40 * i) for i in range(6)]
    with opened(tmp_path) as found, patch.object(layout, "SEGMENT_BYTES", 60 * layout.ROW_BYTES):
        for record in records(*batches):
            found.apply([record])
            freeze_all(found)
        assert kinds(found) == (3, 0)
        assert found.history(1).pins.tolist() == list(reversed(range(240)))


def test_equal_dates_show_the_later_arrival_first_and_duplicates_are_two_rows(tmp_path: Path) -> None:
    with opened(tmp_path) as found:
        found.apply(records(saves(1, [NOON, NOON]), saves(1, [NOON]), saves(1, [NOON - 1], pin=9)))
        assert found.history(1).pins.tolist() == [1, 2, 1, 9]
        assert found.history(1, limit=2).pins.tolist() == [1, 2]
        assert found.seen(1).tolist() == [1, 2, 9]


def test_follows_are_passed_over_but_their_offsets_are_not(tmp_path: Path) -> None:
    follow = Event(1, Action.FOLLOW_BOARD, 0, 3, NOON, 0)
    with opened(tmp_path) as found:
        came = records([follow], [follow, *saves(1, [NOON])])
        found.apply(came)
        assert found.shard.fresh(came) == []
        assert found.shard.applied_events() == 3
        assert kinds(found) == (0, 1)
        found.apply([])


def test_counts_beyond_what_can_be_answered_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as found, patch.object(store, "MAX_CELLS", 5):
        found.apply(records(saves(1, [NOON] * 3)))
        with pytest.raises(Exception, match="3 keys x 2 windows x 1 actions are more than 5 counts"):
            found.counts(1, np.array([Action.SAVE], np.uint8), np.array([10, DAY_MS]), By.PIN)


# --- keeping --------------------------------------------------------------------------------------------------------


def test_what_is_past_keeping_is_never_answered_and_is_dropped(tmp_path: Path) -> None:
    now = [NOON]
    dates = [NOON - d * DAY_MS for d in range(8)]
    with opened(tmp_path, lambda: now[0], keep_days=5) as found:
        came = records(saves(1, dates), saves(2, dates), saves(3, [NOON]))
        found.apply(came)
        assert found.history(1).at_ms.tolist() == dates[:6]
        freeze_all(found)
        assert kinds(found) == (10, 3)
        now[0] += 3 * DAY_MS
        assert found.history(1).at_ms.tolist() == dates[:3]
        assert found.seen(2).tolist() == [1, 2, 3]
        assert found.counts(1, np.array([Action.SAVE], np.uint8), np.array([2**40]), By.NOTHING).counts.item() == 3
        freeze_all(found)
        assert kinds(found) == (7, 0)
        now[0] += 30 * DAY_MS
        freeze_all(found)
        assert kinds(found) == (0, 0)
        assert not len(found.history(3))


def test_rows_that_wait_to_be_frozen_past_keeping_are_dropped(tmp_path: Path) -> None:
    now = [NOON]
    with opened(tmp_path, lambda: now[0], keep_days=5) as found:
        found.apply(records(saves(1, [NOON, NOON - DAY_MS])))
        now[0] += 9 * DAY_MS
        freeze_all(found)
        assert kinds(found) == (0, 0)
        assert found.freezer.recent == 0


# --- at once --------------------------------------------------------------------------------------------------------


def test_reading_while_freezing_and_applying_shows_every_row_once(tmp_path: Path) -> None:
    """A reader sees a prefix of what was applied, never less than what was applied before it asked."""
    offsets, size, users = Offsets(PARTITIONS), 5, (1, 2)
    applied, done = 0, threading.Event()
    chunks = []
    for i in range(600):
        dates = [NOON - DAY_MS * ((i + j) % 3) for j in range(size)]
        rows = [row for user in users for row in saves(user, dates, pin=1 + i * size)]
        chunks.append(offsets.records(batch_of(rows), TOPICS))
    problems: list[str] = []
    reads = count()

    def read(found: ApertureStore, user: int) -> None:
        while not done.is_set():
            before = applied
            pins = [found.seen(user).tolist(), sorted(found.history(user).pins.tolist())]
            after = applied
            next(reads)
            for got in pins:
                if got != list(range(1, len(got) + 1)) or not before * size <= len(got) <= (after + 1) * size:
                    problems.append(f"{before}..{after} chunks: {len(got)} rows, {len(set(got))} distinct")

    with opened(tmp_path, recent_keys=2) as found, patch.object(layout, "SEGMENT_BYTES", 500):
        threads = [threading.Thread(target=read, args=(found, user)) for user in users]
        for thread in threads:
            thread.start()
        found.freezer.start()
        for chunk in chunks:
            found.apply(chunk)
            applied += 1
            if not applied % 5:
                found.freezer.step()  # beside the freezer's own, which a busy machine may leave waiting
        freeze_all(found)
        done.set()
        for thread in threads:
            thread.join()
        found.freezer.stop()
        assert not problems, problems[:3]
        assert next(reads) > 10
        assert found.freezer.frozen_days > 100, "there was freezing beside the readers"
        assert found.freezer.recent == kinds(found)[1]


CHILD = """
    import os, signal, sys
    from itertools import count
    from pathlib import Path
    from tests.aperture.test_aperture_store import chunk_of, opened

    with opened(Path(sys.argv[1]), recent_keys=2) as found:
        write, writes = found.shard.write, count(1)

        def mortal(batch):
            write(batch)
            if next(writes) == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)

        found.shard.write = mortal
        start = found.shard.positions([(0, 0)])[0, 0]
        for i in count(start):
            found.apply(chunk_of(i))
            found.freezer.step()
            if i == start + 50:
                print("ready", flush=True)
"""


def chunk_of(i: int) -> list[Record]:
    """Record i of each partition: for users 1..8 five saves on three days."""
    dates = [NOON - DAY_MS * (j % 3) for j in range(5)]
    rows = [row for user in range(1, 9) for row in saves(user, dates, pin=1 + 5 * i)]
    part = Offsets(PARTITIONS).records(batch_of(rows), TOPICS)
    return [Record(r.topic, r.partition, i, 0, r.batch) for r in part]


def test_the_chunks_of_the_killed_child_have_rows_in_partition_0() -> None:
    assert 0 in {record.partition for record in chunk_of(0)}


def live(folder: Path, writes: int, wait: float) -> None:
    """Apply and freeze in another process, killed right after so many writes, or after `wait` seconds."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), str(writes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        if not writes:
            time.sleep(wait)  # only spreads the moment of the kill; any moment must do
            child.send_signal(signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize(("writes", "wait"), [(0, 0.0), (0, 0.05), *((150 + i, 0.0) for i in range(4))])
def test_killed_while_freezing_it_has_lost_and_doubled_nothing(tmp_path: Path, writes: int, wait: float) -> None:
    for _ in range(2):  # the second life goes on where the first was killed
        live(tmp_path / "shard", writes, wait)
    with opened(tmp_path / "shard", recent_keys=2) as found:
        applied = found.shard.positions([(0, 0)])[0, 0]
        assert applied > 50
        for _ in range(2):
            for user in range(1, 9):
                assert sorted(found.history(user).pins.tolist()) == list(range(1, 5 * applied + 1))
            assert found.freezer.recent == kinds(found)[1]
            freeze_all(found)
