"""Anybody's own data: a folder of Parquet files, one a kind of thing. The columns are in README.md beside this."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from datasets.dataset import Dataset, Section, fingerprint
from datasets.tables import LIST, NAME, NO_DATE, SHARE, TEXT, Column, Decoded, Place, Table, date, ident, word
from services.clock import wall_clock
from services.columns import Array, Ragged
from services.errors import InvalidArgument
from services.events import EARLIEST_MS, ENGAGEMENTS, NEVER_STATED, Action, Batch, Surface, events

ACTIONS = {action.name.lower(): int(action) for action in (*ENGAGEMENTS, Action.UNSAVE)}
FOLLOWS = {
    "user": int(Action.FOLLOW_USER),
    "board": int(Action.FOLLOW_BOARD),
    "interest": int(Action.FOLLOW_INTEREST),
}
SURFACES = {surface.name.lower(): int(surface) for surface in Surface}
NEEDS_BOARD = (Action.SAVE, Action.UNSAVE)


def spec(now_ms: int) -> dict[str, dict[str, Column]]:
    """The columns of each file; dates may reach up to `now_ms`."""
    at = date(now_ms)
    return {
        "users": {"user": ident(), "name": TEXT, "at": at},
        "interests": {"interest": ident(), "name": NAME, "at": at},
        "boards": {"board": ident(), "user": ident(), "title": TEXT, "at": at},
        "pins": {
            "pin": ident(), "user": ident(False), "title": TEXT, "link": TEXT, "interests": LIST,
            "quality": SHARE, "at": at,
        },
        "follows": {"user": ident(), "kind": word(FOLLOWS), "target": ident(), "at": at},
        "events": {
            "user": ident(), "action": word(ACTIONS), "pin": ident(), "board": ident(False),
            "at": date(now_ms, required=True), "surface": word(SURFACES, int(Surface.IMPORT)),
        },
    }  # fmt: skip


def open(path: Path, now_ms: int | None = None) -> Dataset:
    """Check every file of the folder `path`, and read them in order of date.

    `now_ms`: the latest date allowed; the machine's clock by default. Raises InvalidArgument naming the file, column,
    row and what is allowed.
    """
    columns = spec(wall_clock() if now_ms is None else now_ms)
    if not (path / "pins.parquet").is_file():
        known = ", ".join(f"{name}.parquet" for name in columns)
        raise InvalidArgument(f"{path / 'pins.parquet'}: no such file; the folder has {known}, all but pins optional")
    paths = {name: path / f"{name}.parquet" for name in columns}
    tables = {n: Table(paths[n], columns[n], RULES.get(n)) for n in columns if paths[n].is_file()}
    missing = [f"no {name}.parquet in the folder" for name in columns if name not in tables]
    first = min((table.dates[0] for table in tables.values() if table.dates), default=EARLIEST_MS)
    build = {**BUILD, "events": _events(tables["pins"])}
    parts = [_section(name, table, first, build[name]) for name, table in tables.items()]
    return Dataset("parquet", fingerprint([table.path for table in tables.values()]), parts, missing + _notes(tables))


def _saved_somewhere(path: Path, columns: Decoded, row: int) -> None:
    """A save or unsave is on a board."""
    lost = np.isin(columns["action"], NEEDS_BOARD) & (columns.get("board", np.uint64(0)) == 0)
    if lost.any():
        first = row + int(lost.argmax())
        Place(path, "board").fail(f"row {first} (from 0): null is not allowed: a save or unsave needs a board")


RULES = {"events": _saved_somewhere}


def _notes(tables: dict[str, Table]) -> list[str]:
    unsorted = [
        f"{table.path.name} is not in order of date: sorted in memory" for table in tables.values() if not table.sorted
    ]
    undated = [
        f"{table.path.name} has no dates: they get the earliest of all files"
        for table in tables.values()
        if not table.dates
    ]
    return unsorted + undated


def _section(name: str, table: Table, first_ms: int, build: Callable[[int, Decoded], Batch]) -> Section:
    """The rows of a table as events; the last run of rows that was read is kept, as they are asked for in order."""
    ends = np.cumsum([0, *table.groups])

    @lru_cache(maxsize=1)
    def group(i: int) -> Batch:
        columns = table.group(i)
        at_ms = columns.pop("at", np.full(table.groups[i], NO_DATE))
        columns["at_ms"] = np.where(at_ms == NO_DATE, first_ms, at_ms)
        columns.setdefault("surface", np.uint8(Surface.IMPORT))
        return build(table.groups[i], columns)

    def rows(start: int, stop: int) -> Batch:
        low, high = int(np.searchsorted(ends, start, "right")) - 1, int(np.searchsorted(ends, stop, "left"))
        parts = [
            group(i).slice(max(start - int(ends[i]), 0), min(stop, int(ends[i + 1])) - int(ends[i]))
            for i in range(low, high)
        ]
        return Batch.concat([part for part in parts if len(part)])

    return Section(name, table.size, rows)


def _users(n: int, columns: Decoded) -> Batch:
    names: Ragged = columns.pop("name", Ragged.empty(n))
    given = names.strings()
    named = [name or f"user {user}" for name, user in zip(given, columns["user"].tolist(), strict=True)]
    return events(n, action=int(Action.NAME_USER), title=named, **columns)


def _interests(n: int, columns: Decoded) -> Batch:
    return events(
        n, action=int(Action.NAME_INTEREST), target=columns.pop("interest"), title=columns.pop("name"), **columns
    )


def _boards(n: int, columns: Decoded) -> Batch:
    return events(n, action=int(Action.CREATE_BOARD), **columns)


def _pins(n: int, columns: Decoded) -> Batch:
    return events(n, action=int(Action.CREATE_PIN), **columns)


def _follows(n: int, columns: Decoded) -> Batch:
    kind, target = columns.pop("kind"), columns.pop("target")
    board = kind == FOLLOWS["board"]
    zero = np.uint64(0)
    return events(n, action=kind, board=np.where(board, target, zero), target=np.where(board, zero, target), **columns)


BUILD = {"users": _users, "interests": _interests, "boards": _boards, "pins": _pins, "follows": _follows}


def _events(pins: Table) -> Callable[[int, Decoded], Batch]:
    """Builds what users did; a save carries the quality of its pin, as stated in pins.parquet."""
    known, quality = _qualities(pins)

    def build(n: int, columns: Decoded) -> Batch:
        batch = events(n, **columns)
        slots = np.minimum(np.searchsorted(known, batch.pin), max(len(known) - 1, 0))
        stated = (batch.action == Action.SAVE) & (known[slots] == batch.pin if len(known) else False)
        return batch.replace(quality=np.where(stated, quality[slots] if len(known) else NEVER_STATED, NEVER_STATED))

    return build


def _qualities(pins: Table) -> tuple[Array, Array]:
    """(ids sorted, float32 quality) of the pins that state one."""
    if "quality" not in pins.has:
        return np.empty(0, np.uint64), np.empty(0, np.float32)
    groups = [pins.group(i) for i in range(len(pins.groups))]
    ids, quality = (
        np.concatenate([g[name] for g in groups] or [np.empty(0, np.uint64)]) for name in ("pin", "quality")
    )
    order = np.argsort(ids, kind="stable")
    return ids[order], quality[order].astype(np.float32)
