"""Freezing and dropping; and readers, kills and the log's applying never see half of it."""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from itertools import count
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from aperture import layout
from aperture.store import TOPICS, ApertureStore, By
from services.core.clock import DAY_MS
from services.core.events import Action, events
from services.log.memory import MemoryLog
from tests.aperture.reference import (
    NOON,
    PARTITIONS,
    TODAY,
    batch_of,
    chunk_of,
    freeze_all,
    kinds,
    opened,
    records,
    saves,
)

ROOT = Path(__file__).parents[2]


def test_a_page_of_impressions_is_one_key(tmp_path: Path) -> None:
    with opened(tmp_path) as found:
        found.apply(records(saves(1, [NOON] * 25)))
        assert kinds(found) == (0, 1)
        assert found.freezer.recent == 1


def test_a_day_is_frozen_when_it_has_ended(tmp_path: Path) -> None:
    now = [NOON]
    with opened(tmp_path, lambda: now[0]) as found:
        found.apply(records(saves(1, [NOON]), saves(2, [NOON - DAY_MS]), saves(1, [NOON + 1])))
        freeze_all(found)
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
        freeze_all(found)
        assert kinds(found) == (0, 3)
        found.apply([came[3]])
        freeze_all(found)
        assert kinds(found) == (1, 0)
        for record in came[4:]:
            found.apply([record])
        freeze_all(found)
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


# --- keeping --------------------------------------------------------------------------------------------------------


def test_what_is_past_keeping_is_never_answered_and_is_dropped(tmp_path: Path) -> None:
    now = [NOON]
    dates = [NOON - d * DAY_MS for d in range(8)]
    idle = events(1, action=Action.FOLLOW_USER, user=1, target=2, at_ms=NOON, id=1)
    with opened(tmp_path, lambda: now[0], keep_days=5) as found:
        log = MemoryLog(PARTITIONS)
        for rows in (saves(1, dates), saves(2, dates), saves(3, [NOON])):
            found.apply(log.append(batch_of(rows), TOPICS, NOON))
        assert found.history(1).at_ms.tolist() == dates[:6]
        freeze_all(found)
        assert kinds(found) == (10, 3)
        now[0] += 3 * DAY_MS
        assert found.history(1).at_ms.tolist() == dates[:3]
        assert found.seen(2).tolist() == [1, 2, 3]
        assert found.counts(1, np.array([Action.SAVE], np.uint8), np.array([2**40]), By.NOTHING).counts.item() == 3
        freeze_all(found)
        assert kinds(found) == (13, 0), "no clock makes anything go from the disk"
        found.apply(log.append(idle, TOPICS, now[0]))
        freeze_all(found)
        assert kinds(found) == (7, 0)
        now[0] -= 30 * DAY_MS
        assert found.history(1).at_ms.tolist() == dates[:3], "a clock that is behind shows nothing that may be gone"
        now[0] += 60 * DAY_MS
        found.apply(log.append(idle, TOPICS, now[0]))
        freeze_all(found)
        assert kinds(found) == (0, 0)
        assert not len(found.history(3))


def test_rows_that_wait_to_be_frozen_past_keeping_are_dropped(tmp_path: Path) -> None:
    now = [NOON]
    with opened(tmp_path, lambda: now[0], keep_days=5) as found:
        log = MemoryLog(PARTITIONS)
        found.apply(log.append(batch_of(saves(1, [NOON, NOON - DAY_MS])), TOPICS, NOON))
        now[0] += 9 * DAY_MS
        found.apply(
            log.append(events(1, action=Action.FOLLOW_USER, user=1, target=2, at_ms=NOON, id=1), TOPICS, now[0])
        )
        freeze_all(found)
        assert kinds(found) == (0, 0)
        assert found.freezer.recent == 0


# --- concurrently ---------------------------------------------------------------------------------------------------


def test_reading_while_freezing_and_applying_shows_every_row_once(tmp_path: Path) -> None:
    """A reader sees a prefix of the applied records, never less than those applied before it asked."""
    offsets, size, users = MemoryLog(PARTITIONS), 5, (1, 2)
    applied, done = 0, threading.Event()
    chunks = []
    for i in range(600):
        dates = [NOON - DAY_MS * ((i + j) % 3) for j in range(size)]
        rows = [row for user in users for row in saves(user, dates, pin=1 + i * size)]
        chunks.append(offsets.append(batch_of(rows), TOPICS))
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
    from tests.aperture.reference import chunk_of, opened

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
