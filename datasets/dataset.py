"""What every set yields: sections of events in a fixed order, each with an id that depends on the input alone.

A section is asked for a range of rows and builds just those, so a set of any size can be read from any event on.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from services.columns import U64, Array, Ragged
from services.errors import InvalidArgument
from services.events import Action, Batch, Surface, events

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Section:
    """`size` events; `rows(start, stop)` builds those of the range. `name` goes into their ids."""

    name: str
    size: int
    rows: Callable[[int, int], Batch]


@dataclass(slots=True)
class Dataset:
    """One set of events in a fixed order: definitions, then follows, then what was done, each part by date.

    `fingerprint` (hex) is that of the input's bytes; it seeds the event ids, so the same input always makes the same
    ids, and another input others. `notes` are lines for people on what was skipped or made up, and why.
    """

    name: str
    fingerprint: str
    sections: list[Section]
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many events the set has."""
        return sum(section.size for section in self.sections)

    def batches(self, start: int = 0, size: int = 1000) -> Iterator[Batch]:
        """The events from position `start` on, `size` a batch (the last one may be shorter).

        Where batches are cut depends on `start`; the events, their order and their ids do not.
        Raises InvalidArgument for a negative start or a size below 1.
        """
        if start < 0 or size < 1:
            raise InvalidArgument(f"batches(start={start}, size={size}): start is at least 0, size at least 1")
        waiting: list[Batch] = []
        for part in self._parts(start, size):
            waiting.append(part)
            held = sum(len(batch) for batch in waiting)
            if held >= size:
                joined = Batch.concat(waiting)
                yield joined.slice(0, size)
                waiting = [joined.slice(size, held)] if held > size else []
        if waiting:
            yield Batch.concat(waiting)

    def _parts(self, start: int, size: int) -> Iterator[Batch]:
        """The same events in runs of at most `size`, none across two sections."""
        for section in self.sections:
            first = min(start, section.size)
            start -= first
            seed = hash64(self.name, self.fingerprint, section.name)
            for row in range(first, section.size, size):
                stop = min(row + size, section.size)
                yield section.rows(row, stop).replace(id=event_ids(seed, row, stop))


def section(action: Action, at_ms: Array, **columns: Any) -> Section:
    """A section of one action from columns in memory, put in order of date (equal dates keep their order).

    `at_ms`: int64[n] Unix milliseconds. Columns are arrays of n, scalars, or `Ragged` of n (title, link, interests).
    """
    order = np.argsort(at_ms, kind="stable")
    columns = {"action": int(action), "surface": int(Surface.IMPORT), "at_ms": at_ms, **columns}
    whole = events(len(at_ms), **columns).take(order)
    return Section(action.name.lower(), len(at_ms), whole.slice)


def hash64(*parts: str) -> int:
    """A 64-bit hash of texts (blake2b)."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


def mix(values: U64) -> U64:
    """uint64[n] -> uint64[n], one to one and well spread: the finaliser of SplitMix64 (Steele et al., 2014)."""
    z = values * GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def event_ids(seed: int, start: int, stop: int) -> U64:
    """uint64[stop - start]: the ids of a section's rows, distinct within the section and never 0."""
    mixed = mix(np.arange(start, stop, dtype=np.uint64) ^ np.uint64(seed))
    return np.where(mixed == 0, np.uint64(seed | 1), mixed)


def fingerprint(files: list[Path]) -> str:
    """Hex of a hash over the files' names, sizes and bytes, in order of name; 32 digits."""
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(files, key=lambda path: path.name):
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "blake2b").hexdigest()
        total.update(f"{path.name}\0{path.stat().st_size}\0{inner}\n".encode())
    return total.hexdigest()


def texts(values: list[str]) -> Ragged:
    """Strings as a column, each cut to what an event allows (2,048 bytes) without splitting a character."""
    return Ragged.of_strings([cut(value) for value in values])


def cut(value: str, most: int = 2048) -> str:
    """`value`, or as much of it as fits `most` bytes of UTF-8."""
    data = value.encode()
    return value if len(data) <= most else data[:most].decode(errors="ignore")
