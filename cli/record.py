"""The record of a set: which rows of it are in the log, as hashes, in `<data>/loads/<set>.record`.

Sorted arrays in one file with a checksum; new rows of a load are appended to `<set>.record.new` as blocks, and put into the
first at the end. Read whole: 8 bytes for each event, 16 for each thing that is defined. Damage is refused.
"""

import hashlib
import os
import secrets
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from services.core.columns import U64, Array, among
from services.core.durable import replace_durably, sync_folder, sync_written
from services.core.errors import InvalidArgument

MAGIC = b"feedmesh loads 1"
_HEAD = len(MAGIC) + 3 * 8  # magic, identity u8, events u8, things u8; then a checksum of all else
_SUM = 16
_BLOCK = 3 * 4  # events u4, things u4, CRC u4 of these counts and what follows
_NONE = np.empty(0, np.uint64)


class Record:
    """Events that were loaded (uint64[n], ascending), and things with their state (uint64[k, 2], ascending by the first)."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidArgument naming a file that is damaged, and what to do."""
        self.path, self._added = path, path.with_name(path.name + ".new")
        self.identity, self.events, self.things = 0, _NONE, _NONE.reshape(0, 2)  # identity 0: there is no record yet
        self._waiting: list[tuple[U64, U64]] = []
        self._appended = 0  # events
        self._read()
        self._merge_in(self._blocks())

    @property
    def size(self) -> int:
        """Events that it has, with those that were added and saved."""
        return len(self.events) + self._appended

    def check_size(self, least: int) -> None:
        """Raises InvalidArgument for a record that had more events once: it was put back from an older copy."""
        if self.size < least:
            raise self._damaged(self.path, f"it is an older copy: it has {self.size:,} events, and had {least:,}")

    def knows(self, events: U64) -> Array:
        """bool[n]: which of the events are in the log."""
        order = np.argsort(
            events
        )  # in order the search walks the record once, and does not miss the cache at each step
        found = np.empty(len(events), bool)
        found[order] = among(events[order], self.events)
        return found

    def knows_things(self, keys: U64, states: U64) -> Array:
        """bool[n]: of which of the things this state was loaded last."""
        if not len(self.things):
            return np.zeros(len(keys), bool)
        at = np.minimum(np.searchsorted(self.things[:, 0], keys), len(self.things) - 1)
        return np.asarray((self.things[at, 0] == keys) & (self.things[at, 1] == states))

    def begin(self) -> None:
        """Make the file, if there is none."""
        if not self.identity:
            self.identity = secrets.randbits(63) + 1
            self._write()

    def add(self, events: U64, things: U64) -> None:
        """These are in the log (uint64[n], uint64[k, 2]); on the disk after the next `save`."""
        self._waiting.append((events, things))

    def save(self) -> None:
        """Append the added rows. A crash leaves them out, or a part of them, which counts as nothing."""
        events = np.concatenate([_NONE, *(events for events, _ in self._waiting)])
        things = np.concatenate([_NONE.reshape(0, 2), *(things for _, things in self._waiting)])
        if not len(events) and not len(things):
            return
        body = np.array([len(events), len(things)], "<u4").tobytes()
        data = events.astype("<u8").tobytes() + things.astype("<u8").tobytes()
        is_new = not self._added.exists()
        with open(os.open(self._added, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            file.write(body + zlib.crc32(data, zlib.crc32(body)).to_bytes(4, "little") + data)
            sync_written(file)
        if is_new:
            sync_folder(self.path.parent)
        self._appended += len(events)
        self._waiting.clear()

    def merge(self) -> None:
        """Put all into the sorted file; killed at any moment, nothing is lost."""
        self.save()
        blocks = self._blocks()
        if blocks:
            self._merge_in(blocks)
            self._write()
        self._appended = 0
        with suppress(FileNotFoundError):
            self._added.unlink()

    def _merge_in(self, blocks: list[tuple[U64, U64]]) -> None:
        if not blocks:
            return
        events = np.sort(np.concatenate([self.events, *(events for events, _ in blocks)]))
        self.events = events[np.append(events[1:] != events[:-1], True)[: len(events)]]
        things = np.concatenate([self.things, *(things for _, things in blocks)])
        things = things[np.argsort(things[:, 0], kind="stable")]
        last = np.append(things[1:, 0] != things[:-1, 0], True)[: len(things)]  # of two states the later
        self.things = things[last]

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head = MAGIC + np.array([self.identity, len(self.events), len(self.things)], "<u8").tobytes()
        data = self.events.astype("<u8").tobytes() + self.things.astype("<u8").tobytes()
        replace_durably(self.path, head + _checksum(head, data) + data)

    def _read(self) -> None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            if self._added.exists():
                raise self._damaged(self._added, f"it belongs to {self.path.name}, which is missing") from None
            return
        head, rows = data[:_HEAD], data[_HEAD + _SUM :]
        if why := damage(data):
            raise self._damaged(self.path, why)
        self.identity, events, _ = (int(of) for of in np.frombuffer(head[len(MAGIC) :], "<u8"))
        every = np.frombuffer(rows, "<u8")
        self.events, self.things = every[:events], every[events:].reshape(-1, 2)

    def _blocks(self) -> list[tuple[U64, U64]]:
        """The blocks that were appended. A block that a crash cut short is dropped, so that the next does not follow it."""
        try:
            data = self._added.read_bytes()
        except FileNotFoundError:
            return []
        blocks, at = [], 0
        while at < len(data):
            body = data[at : at + 8]
            events, things = (int(of) for of in np.frombuffer(body.ljust(8, b"\0"), "<u4"))
            start, stop = at + _BLOCK, at + _BLOCK + 8 * (events + 2 * things)
            rows = data[start:stop]
            if stop > len(data) or zlib.crc32(rows, zlib.crc32(body)).to_bytes(4, "little") != data[at + 8 : start]:
                if stop < len(data):
                    raise self._damaged(self._added, "it is damaged")
                os.truncate(self._added, at)
                break
            every = np.frombuffer(rows, "<u8")
            blocks.append((every[:events], every[events:].reshape(-1, 2)))
            at = stop
        return blocks

    def _damaged(self, path: Path, what: str) -> InvalidArgument:
        files = f"{self.path.name} and {self._added.name}"
        return InvalidArgument(
            f"{path}: {what}, so which rows were loaded is not known. Restore the folder from a copy, or remove {files} there "
            "and load each of the files again that were loaded before: rows that the .json files there count as loaded are then "
            "recorded anew, and not published twice"
        )


def _checksum(head: bytes, data: bytes) -> bytes:
    total = hashlib.blake2b(head, digest_size=_SUM)
    total.update(data)
    return total.digest()


def damage(data: bytes) -> str:
    """The problem with the bytes of a record's sorted file; empty when there is none."""
    head, rows = data[:_HEAD], data[_HEAD + _SUM :]
    if not head.startswith(MAGIC) or len(data) < _HEAD + _SUM:
        return "it is no record of a load"
    return "" if _checksum(head, rows) == data[_HEAD : _HEAD + _SUM] else "it is damaged"
