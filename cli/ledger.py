"""The ledger of loads in `<data>/loads`: how far each input got, and which rows of its set are in the log.

Roadrunner accepts an event id once a day. Beyond that day it is this that keeps rows from being published twice.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from cli.archive import move_of
from cli.record import Record, damage
from services.core import summed
from services.core.clock import wall_clock
from services.core.columns import I64, U64, Array
from services.core.durable import replace_durably
from services.core.errors import InvalidArgument, Unavailable
from services.core.events import Batch

SAVE_EVERY_S = 1.0
_SPREAD = 0x9E3779B97F4A7C15  # an odd number: multiples stay distinct, and far apart


class AcceptedCounts(Protocol):
    """Roadrunner's answer."""

    @property
    def accepted(self) -> int:
        """Events taken."""

    @property
    def duplicates(self) -> int | None:
        """Events whose id had been taken within a day; None: it is not known yet, and `accepted` counts them too."""


class LedgerDataset(Protocol):
    """A set of events in a fixed order (loaders/dataset.py)."""

    name: str
    fingerprint: str
    notes: list[str]

    @property
    def size(self) -> int:
        """How many events it has."""

    @property
    def newest_ms(self) -> int:
        """The latest date of them, Unix ms; 0 where there are none."""

    def identities(self) -> Any:
        """Which event each row is (loaders/identity.py)."""

    def chosen(self, positions: Array, size: int = 1000) -> Iterator[Batch]:
        """The events at positions."""


class Loaded(msgspec.Struct, kw_only=True):
    """How far an input got: the first `events` of its `size` rows are in the log, published by it or before."""

    size: int
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    at_ms: int = 0
    moved_ms: int | None = None  # added to all dates; None: not decided
    turn: int = 0  # the place of its latest load among those of the set, from 1; 0 of versions that had none
    record: int = 0  # the identity of the record that has its rows; 0 of versions that kept none
    recorded: int = 0  # events that the record had then, or more


class Ledger:
    """The file that remembers how far an input got, beside the record of its set; saved once a second while loading."""

    def __init__(self, data: Path, dataset: LedgerDataset) -> None:
        """Raises InvalidArgument when a file is not one of ours, damaged, or of another reading of the same input."""
        self.path = data / "loads" / f"{dataset.name}-{dataset.fingerprint}.json"
        self._dataset = dataset
        self.record = Record(data / "loads" / f"{dataset.name}.record")
        self.loaded = _read(self.path) or Loaded(size=dataset.size)
        self._others = _others(self.path)
        if self.loaded.size != dataset.size:
            if not self._is_recorded(self.loaded):
                was = f"was begun as {self.loaded.size} events, and the same input now makes {dataset.size}"
                raise InvalidArgument(f"{self.path}: {was}; remove it to load from the start")
            self.loaded.size, self.loaded.events = dataset.size, min(self.loaded.events, dataset.size - 1)
        self._fresh: I64 = np.empty(0, np.int64)
        self._landed = 0
        self._positions: I64 | None = None  # of definitions
        self._due = time.monotonic() + SAVE_EVERY_S

    @property
    def is_done(self) -> bool:
        """Whether all of it was loaded, and nothing else of its set since."""
        done = 0 < self.loaded.events == self.loaded.size
        return done and self._is_recorded(self.loaded) and self._is_latest()

    @property
    def new(self) -> int:
        """How many rows are new to the log; known after `begin`."""
        return len(self._fresh)

    @property
    def landed(self) -> int:
        """How many of these are acknowledged."""
        return self._landed

    def begin(self) -> tuple[I64, U64]:
        """(int64[m], the positions of new rows, ascending; uint64[m], the ids to publish them under).

        Reads the whole set. Raises InvalidArgument where rows were loaded by what kept no record of them.
        """
        self._refuse_unrecorded()
        found = self._dataset.identities()
        self._adopt(found)
        held = (self.loaded, *(other for _, other in self._others))
        self.record.check_size(max((of.recorded for of in held if self._is_recorded(of)), default=0))
        fresh = np.ones(len(found.ids), bool)
        fresh[found.defines] = ~self.record.knows_things(found.keys, found.states)
        events = np.flatnonzero(~found.defines)
        _, first = np.unique(found.ids[events], return_index=True)
        once = np.zeros(len(events), bool)
        once[first] = True
        fresh[events] = once & ~self.record.knows(found.ids[events])
        if not self._is_latest():
            self.loaded.turn = max((other.turn for _, other in self._others), default=0) + 1
        self._fresh, self._landed = np.flatnonzero(fresh), 0
        self.loaded.events = self._reached()
        return self._fresh, self._published_ids(found)[self._fresh]

    def _published_ids(self, found: Any) -> U64:
        """uint64[n]. A definition that is stated again, after another in between, is another event."""
        again = np.uint64(self.loaded.turn * _SPREAD % 2**64)
        ids = np.where(found.defines, found.ids ^ again, found.ids)
        return np.where(ids == 0, again, ids)

    def _is_recorded(self, loaded: Loaded) -> bool:
        return loaded.record == self.record.identity != 0

    def _is_latest(self) -> bool:
        return self.loaded.turn > max((other.turn for _, other in self._others), default=0)

    def _refuse_unrecorded(self) -> None:
        """Rows of other inputs may be in this one too, and which they are is not known."""
        lost = [path for path, other in self._others if other.events and not self._is_recorded(other)]
        if lost and self.loaded.events < self.loaded.size:
            raise InvalidArgument(
                f"{lost[0]}: that part of the set was loaded by an older version, or its record was removed, so which rows "
                "of this one are new is not known. Load that part again first: nothing of it is published twice, and its "
                "rows are recorded. If you no longer have it, remove that file: then all of this one is published"
            )

    def _adopt(self, found: Any) -> None:
        """Record the rows that an earlier load of this input had published."""
        self.record.begin()
        was_recorded, done = self._is_recorded(self.loaded), self.loaded.events
        self.loaded.record = self.record.identity
        before = np.arange(len(found.ids)) < done
        events = found.ids[before & ~found.defines]
        events = events[~self.record.knows(events)]
        no_things = np.empty((0, 2), np.uint64)
        takes = not was_recorded or self._is_latest()
        things = np.stack([found.keys, found.states], 1)[before[found.defines] & found.last] if takes else no_things
        if len(events) or (len(things) and not self.record.knows_things(things[:, 0], things[:, 1]).all()):
            self.record.add(events, things)
            self.record.merge()

    def _reached(self) -> int:
        return int(self._fresh[self._landed]) if self._landed < len(self._fresh) else self.loaded.size

    def decide_dates(self, newest_ms: int, keep: bool) -> int:
        """The milliseconds added to all dates. Decided once a set: a load that goes on, and later files of the set, follow it."""
        if self.loaded.moved_ms is None:
            begun = 0 if keep or self.loaded.events else move_of(newest_ms, wall_clock(), self._earlier())
            self.loaded.moved_ms = begun
        return self.loaded.moved_ms

    def _earlier(self) -> int | None:
        """The milliseconds that other loads of the same set were moved by."""
        decided = [other for _, other in self._others if other.events and other.moved_ms is not None]
        return max(decided, key=lambda other: other.at_ms).moved_ms if decided else None

    def add(self, rows: int, published: AcceptedCounts) -> None:
        """The next `rows` of the new ones are acknowledged."""
        some = self._fresh[self._landed : self._landed + rows]
        self._landed += rows
        found = self._dataset.identities()
        defines = found.defines[some]
        place = np.searchsorted(self._defining(found), some[defines])
        place = place[found.last[place]]
        self.record.add(found.ids[some[~defines]], np.stack([found.keys[place], found.states[place]], 1))
        self.loaded.events = self._reached()
        self.loaded.accepted += published.accepted
        self.loaded.duplicates += published.duplicates or 0
        if time.monotonic() >= self._due:
            self.save()

    def _defining(self, found: Any) -> I64:
        if self._positions is None:
            self._positions = np.flatnonzero(found.defines)
        return self._positions

    def save(self) -> None:
        """Write the record, then this file; a crash leaves the old ones or the new ones."""
        self.loaded.at_ms = wall_clock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.record.save()
        if self._is_recorded(self.loaded):
            self.loaded.recorded = self.record.size
        replace_durably(self.path, summed.encoded(self.loaded))
        self._due = time.monotonic() + SAVE_EVERY_S

    def finish(self) -> None:
        """Save, and put the record in order."""
        self.save()
        self.record.merge()


def _read(path: Path) -> Loaded | None:
    try:
        return summed.decoded(path.read_bytes(), Loaded)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        remedy = "remove it, and load that part of the set again: rows that were loaded are not published twice"
        raise InvalidArgument(f"{path}: not a record of a load: {error}; {remedy}") from None


def _others(path: Path) -> list[tuple[Path, Loaded]]:
    """The files of other inputs of the same set."""
    name = path.name.rpartition("-")[0]
    found = [(other, _read(other)) for other in sorted(path.parent.glob(f"{name}-*.json")) if other != path]
    return [(other, loaded) for other, loaded in found if loaded is not None]


@contextmanager
def alone(data: Path, name: str) -> Iterator[None]:
    """Within it no other process loads the same set into a data folder. Raises Unavailable while one does."""
    if not data.is_dir():  # which is said when the set is published
        yield
        return
    folder = data / "loads"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                f"another load of {name} into {data} is under way; load again when it has ended"
            ) from None
        yield


def damaged_files(data: Path, say: Callable[[str], None]) -> Iterator[tuple[Path, str, str]]:
    """(file, problem, remedy) of the records of loads."""
    for path in sorted((data / "loads").glob("*.json")):
        try:
            _read(path)
        except InvalidArgument as error:
            yield path, str(error), "rows that were loaded are in the log and stay there"
    for path in sorted((data / "loads").glob("*.record")):
        say(f"record of loads: {path.name}")
        if why := damage(path.read_bytes()):
            yield (
                path,
                why,
                f"restore the folder from a copy, or remove {path.name} and {path.name}.new and load the same files again",
            )
