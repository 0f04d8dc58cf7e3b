"""The files of a RocksDB folder by what they are, and what can happen to one."""

import random
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: In the properties of a sorted file: the entry `rocksdb.column.family.name` after that of the id, its key cut short.
_FAMILY = re.compile(rb"column\.family\.id.{1,5}?\x16\x04(.)name", re.DOTALL)
KINDS = {"MANIFEST": "MANIFEST", "OPTIONS": "OPTIONS", "CURRENT": "CURRENT", "IDENTITY": "IDENTITY"}
KINDS |= {"rocksdict-config.json": "config", "SEAL": "SEAL"}


def family_of(path: Path) -> str:
    """The column family of a sorted file: its properties name it. Of a dataset's file there is none: `rows` take it."""
    data = path.read_bytes()
    found = _FAMILY.search(data)
    return data[found.end() : found.end() + found[1][0]].decode() if found else "rows"


def files_of(folder: Path) -> dict[str, list[Path]]:
    """The files of a database: sorted ones by `family NAME`, the others by their kind."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        kind = KINDS.get(path.name.split("-")[0]) or KINDS.get(path.name)
        if path.suffix == ".sst":
            kind = f"family {family_of(path)}"
        elif path.suffix == ".log" and path.name != "LOG" and path.stat().st_size:
            kind = "WAL"
        if kind:
            found.setdefault(kind, []).append(path)
    return found


@dataclass(frozen=True)
class Damage:
    """What happens to a file, and under which heading the table has it."""

    column: str
    detail: str
    do: Callable[[Path], None]


def _flip(position: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[position] ^= 1 << (position % 8)
        path.write_bytes(data)

    return flip


def _cut(size: int) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:size])

    return cut


def _swap(older: Path) -> Callable[[Path], None]:
    def swap(path: Path) -> None:
        path.unlink()
        shutil.copyfile(older, path)

    return swap


def one_of_each(found: Iterable[Damage], seed: str) -> list[Damage]:
    """One damage of every column, which one depends on the seed."""
    drawn, of = random.Random(seed), dict[str, list[Damage]]()
    for damage in found:
        of.setdefault(damage.column, []).append(damage)
    return [drawn.choice(damages) for damages in of.values()]


def damages(path: Path, older: list[Path], positions: int) -> Iterator[Damage]:
    """All that happens to a file: bits spread over it and at its end, lengths, its absence, older files of its kind."""
    size = path.stat().st_size
    spread = {size * i // positions for i in range(positions)}
    for position in sorted(spread | {size - back for back in (2, 12, 30, 50) if back <= size}):
        if position < size:
            yield Damage("bit flipped", f"at {position} of {size}", _flip(position))
    for left in sorted({0, size // 2, size - 1}):
        yield Damage("truncated", f"to {left} of {size}", _cut(left))
    yield Damage("deleted", "", lambda path: path.unlink())
    for one in older:
        yield Damage("older copy", one.name, _swap(one))
