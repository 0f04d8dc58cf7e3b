"""The two stores under a power that is cut: what writes them, in a process of its own, and what must be there afterwards."""

import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from apiary import layout
from apiary.store import ApiaryStore
from bench.recounts import FOLLOWED
from roadrunner.committer import Committer
from services.core.events import Action, events
from services.core.topics import Topic, partition_of
from services.log.protocol import Record
from services.state.database import Database
from services.state.shard import Shard, open_or_rebuild, set_aside
from tests.drill.recount import Recount
from tests.roadrunner.running import open_log, publish, users_ids
from tests.services.batches import follows

WRITERS, EACH = 3, 7  # threads that publish, and the events of a batch
PARTITIONS, ROWS, USERS = 2, 60, 40
DATE_MS = 1_700_000_000_000
A = Action
_DOES = (A.FOLLOW_USER, A.FOLLOW_BOARD, A.FOLLOW_INTEREST, A.UNFOLLOW_USER, A.UNFOLLOW_BOARD)
_FAMILIES = layout.FAMILIES

Say = Callable[[str], object]


class Store(Protocol):
    """One that is written until the power is cut, and looked at afterwards."""

    name: str

    def write(self, folder: Path, known: Any, say: Say) -> None:
        """Write for ever, and say what is acknowledged. known: of `heard`."""
        ...

    def look(self, folder: Path) -> Any:
        """What is there, opened anew, for `check`."""
        ...

    def heard(self, lines: list[str]) -> Any:
        """Take what was acknowledged; what the next `write` must know."""
        ...

    def check(self, found: Any) -> list[str]:
        """What is wrong with what `look` found."""
        ...


class Log:
    """The embedded log, with several threads that publish."""

    name = "log"

    def __init__(self) -> None:
        self.acknowledged = [0] * WRITERS  # batches of each writer

    def write(self, folder: Path, known: Any, say: Say) -> None:
        """Every writer first publishes again the batch of which it does not know the fate."""
        committer = Committer(open_log(folder), 100, lambda: "")
        committer.start()

        def one(writer: int, first: int) -> None:
            for batch in itertools.count(first):
                ids = 1 + writer * 10**7 + batch * EACH
                publish(committer, follows(EACH, first_id=ids, user=writer + 1), 60)
                say(f"{writer} {batch}")

        threads = [threading.Thread(target=one, args=of) for of in enumerate(known)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def look(self, folder: Path) -> Counter[int]:
        """How often each id is in the topic of users."""
        log = open_log(folder)
        try:
            return users_ids(log)
        finally:
            log.close()

    def heard(self, lines: list[str]) -> list[int]:
        for line in lines:
            writer, batch = map(int, line.split())
            self.acknowledged[writer] = max(self.acknowledged[writer], batch + 1)
        return list(self.acknowledged)

    def check(self, found: Counter[int]) -> list[str]:
        """Every acknowledged event once, and of each writer at most one batch more, whole."""
        wrong = [f"id {one} is there {n} times" for one, n in found.items() if n > 1]
        for writer, batches in enumerate(self.acknowledged):
            first = 1 + writer * 10**7
            there = {one for one in found if first <= one < first + 10**7}
            lost = set(range(first, first + EACH * batches)) - there
            if lost:
                wrong.append(f"writer {writer}: {len(lost)} acknowledged events are gone, the first {min(lost)}")
            if len(there) not in (EACH * batches, EACH * (batches + 1)):
                wrong.append(f"writer {writer}: {len(there)} events are there of {EACH * batches} acknowledged")
        return wrong


class CarelessLog(Log):
    """One whose sync does nothing: the drill must find it."""

    def write(self, folder: Path, known: Any, say: Say) -> None:
        """As the log."""
        Database.sync = lambda self: None  # type: ignore[method-assign]
        super().write(folder, known, say)


class View:
    """A view, which syncs nothing by itself: it may fall back, and must then stand as it stood at its position."""

    name = "view"

    def __init__(self) -> None:
        self.rebuilt = 0
        self._begin()

    def _begin(self) -> None:
        self._recount, self._at = Recount(), [0] * PARTITIONS

    def write(self, folder: Path, known: Any, say: Say) -> None:
        """Apply the log from where the view stands; now and then its tables go to files, as they do when they are full."""
        shard = _opened(folder)
        store = ApiaryStore(shard, range(PARTITIONS), PARTITIONS)
        for turn in itertools.count():
            at = [shard.positions([(int(Topic.USERS), p)])[int(Topic.USERS), p] for p in range(PARTITIONS)]
            store.apply(shard.fresh([record(p, next_) for p, next_ in enumerate(at)]))
            if turn % 7 == 6:
                for family in _FAMILIES:
                    shard.family(family).raw.flush()
            say(str(turn))

    def look(self, folder: Path) -> Any:
        """Its positions, every user's follows, and how often it was set aside."""
        shard = _opened(folder)
        store = ApiaryStore(shard, range(PARTITIONS), PARTITIONS)
        at = [shard.positions([(int(Topic.USERS), p)])[int(Topic.USERS), p] for p in range(PARTITIONS)]
        follows_of = {}
        for user in range(1, USERS + 1):
            of, named, at_ms = (column.tolist() for column in store.followed(user))
            follows_of[user] = {(FOLLOWED[kind], id_): ms for id_, kind, ms in zip(of, named, at_ms, strict=True)}
        shard.close()
        return at, follows_of, len(set_aside(folder))

    def heard(self, lines: list[str]) -> None:
        """A view acknowledges nothing."""

    def check(self, found: Any) -> list[str]:
        at, follows_of, aside = found
        if aside > self.rebuilt or any(new < old for new, old in zip(at, self._at, strict=True)):
            self._begin()
        self.rebuilt = max(self.rebuilt, aside)
        for p in range(PARTITIONS):
            for offset in range(self._at[p], at[p]):
                self._recount.add(record(p, offset))
        self._at = at
        return [
            f"user {user} follows {held!r:.150}, expected {self._recount.follows[user]!r:.150}"
            for user, held in follows_of.items()
            if held != self._recount.follows[user]
        ]


def _opened(folder: Path) -> Shard:
    return open_or_rebuild(folder, layout.FORMAT, _FAMILIES, 1, 1)


def record(partition: int, offset: int) -> Record:
    """The same each time."""
    chance = np.random.default_rng((partition, offset))
    users = np.arange(1, USERS + 1, dtype=np.uint64)
    own = users[partition_of(users, PARTITIONS) == partition]
    batch = events(
        ROWS,
        action=chance.choice(np.array(_DOES), ROWS),
        user=chance.choice(own, ROWS),
        board=chance.integers(1, 50, ROWS),
        target=chance.integers(1, 50, ROWS),
        at_ms=DATE_MS + offset * 1_000 + np.arange(ROWS),
        id=1 + offset * ROWS + np.arange(ROWS),
    )
    return Record(Topic.USERS, partition, offset, DATE_MS, batch)


def say_into(pipe: int) -> Say:
    """Lines into a pipe, each whole."""
    return lambda line: os.write(pipe, f"{line}\n".encode())
