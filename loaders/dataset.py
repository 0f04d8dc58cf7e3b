"""The sections of events that every set yields, in a fixed order. The id of an event depends on the content of its row alone.

A section is asked for a range of rows and builds just those, so a set of any size can be read from any event on.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loaders.identity import ROWS_AT_ONCE, Identities, identify
from services.core.columns import Array, Ragged
from services.core.errors import InvalidArgument
from services.core.events import RAGGED, Action, Batch, Surface, events


@dataclass(frozen=True, slots=True)
class Section:
    """`size` events; `rows(start, stop)` builds those of the range. `name` goes into their ids.

    The ids that `rows` states are hashes of the content of each row (identity.py), or 0: then it is that of the event.
    `newest_ms`: the latest date of them, or 0 where there are none.
    """

    name: str
    size: int
    rows: Callable[[int, int], Batch]
    newest_ms: int = 0


@dataclass(slots=True)
class EventDataset:
    """One set of events in a fixed order: definitions, then follows, then actions, each part by date.

    `fingerprint` (hex) is that of the input's bytes. `notes` are lines for people on what was skipped or made up, and why.
    """

    name: str
    fingerprint: str
    sections: list[Section]
    notes: list[str] = field(default_factory=list)
    _identities: Identities | None = field(default=None, repr=False, compare=False)

    @property
    def size(self) -> int:
        """How many events the set has."""
        return sum(section.size for section in self.sections)

    @property
    def newest_ms(self) -> int:
        """The latest date of all events, Unix ms; 0 where there are none."""
        return max((section.newest_ms for section in self.sections), default=0)

    def identities(self) -> Identities:
        """Which event each row is; the whole set is read for it, once."""
        if self._identities is None:
            self._identities = identify(self.name, self.sections)
        return self._identities

    def batches(self, start: int = 0, size: int = 1000) -> Iterator[Batch]:
        """The events from position `start` on, `size` a batch (the last one may be shorter).

        Where batches are cut depends on `start`; the events, their order and their ids do not.
        Raises InvalidArgument for a negative start or a size below 1.
        """
        if start < 0 or size < 1:
            raise InvalidArgument(f"batches(start={start}, size={size}): start is at least 0, size at least 1")
        return self.chosen(np.arange(start, self.size), size)

    def chosen(self, positions: Array, size: int = 1000) -> Iterator[Batch]:
        """The events at positions (int64[m], ascending), `size` a batch."""
        waiting: list[Batch] = []
        for part in self._parts(positions, size):
            waiting.append(part)
            held = sum(len(batch) for batch in waiting)
            if held >= size:
                joined = Batch.concat(waiting)
                yield joined.slice(0, size)
                waiting = [joined.slice(size, held)] if held > size else []
        if waiting:
            yield Batch.concat(waiting)

    def _parts(self, positions: Array, size: int) -> Iterator[Batch]:
        """The same events in runs of at most `size`, none across two sections, none from rows that lie far apart."""
        ids, first = self.identities().ids, 0
        for section in self.sections:
            low, high = np.searchsorted(positions, [first, first + section.size])
            within, at = positions[low:high] - first, 0
            while at < len(within):
                reach = int(np.searchsorted(within, within[at] + max(size, ROWS_AT_ONCE)))
                some = within[at : min(at + size, reach)]
                start, stop = int(some[0]), int(some[-1]) + 1
                batch = section.rows(start, stop)
                batch = batch if len(some) == len(batch) else batch.take(some - start)
                yield batch.replace(id=ids[first + some])
                at += len(some)
            first += section.size


def section(action: Action, at_ms: Array, done: Array | None = None, **columns: Any) -> Section:
    """A section of one action from columns in memory, put in order of date (equal dates keep their order).

    `done`: uint8[n], the action of each row where they differ.
    `at_ms`: int64[n] Unix milliseconds. Columns are arrays of n, scalars, or `Ragged` of n (title, link, interests).
    """
    n, order = len(at_ms), np.argsort(at_ms, kind="stable")
    columns = {
        "action": int(action) if done is None else done,
        "surface": int(Surface.IMPORT),
        "at_ms": at_ms,
        **columns,
    }
    ordered = {name: _ordered(name, values, n, order) for name, values in columns.items()}

    def rows(start: int, stop: int) -> Batch:
        return events(stop - start, **{name: _slice(values, start, stop) for name, values in ordered.items()})

    return Section(action.name.lower(), n, rows, int(at_ms.max(initial=0)))


def _ordered(name: str, values: Any, n: int, order: Array) -> Any:
    """A column in another order; a scalar stays one, so that only stated values take memory."""
    if np.isscalar(values):
        return values
    if len(values) != n:
        raise InvalidArgument(f"batch.{name}: {len(values)} values, expected {n}")
    if name in RAGGED and not isinstance(values, Ragged):
        kind = RAGGED[name][0]
        values = Ragged.of_strings(values) if kind == "<u1" else Ragged.of_lists(values, kind)
    return values.take(order) if isinstance(values, Ragged) else np.asarray(values)[order]


def _slice(values: Any, start: int, stop: int) -> Any:
    if np.isscalar(values):
        return values
    return values.slice(start, stop) if isinstance(values, Ragged) else values[start:stop]


def fingerprint(files: list[Path], root: Path | None = None) -> str:
    """Hex of a hash over the files' names (below `root`, if given), sizes and bytes, in order of name; 32 digits."""
    total = hashlib.blake2b(digest_size=16)
    names = {path: path.name if root is None else path.relative_to(root).as_posix() for path in files}
    for path in sorted(files, key=lambda path: names[path]):
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "blake2b").hexdigest()
        total.update(f"{names[path]}\0{path.stat().st_size}\0{inner}\n".encode())
    return total.hexdigest()


def texts(values: list[str]) -> Ragged:
    """Strings as a column, each cut to what an event allows (2,048 bytes) without splitting a character."""
    return Ragged.of_strings([cut(value) for value in values])


def cut(value: str, most: int = 2048) -> str:
    """`value`, or as much of it as fits `most` bytes of UTF-8."""
    data = value.encode()
    return value if len(data) <= most else data[:most].decode(errors="ignore")
