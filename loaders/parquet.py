"""A user's own data: a folder of Parquet files, one for each kind of thing. README.md beside this lists the columns."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from loaders.dataset import EventDataset, Section, fingerprint
from loaders.dates import NO_DATE
from loaders.folder import files, find
from loaders.identity import content_of
from loaders.marks import OWN_ID
from loaders.place import Place
from loaders.quality import Votes
from loaders.tables import LINK_TEXT, LIST, NAME, SHARE, TEXT, Column, Decoded, InputTable, date, ident, word
from loaders.text_ids import as_stated
from services.core.clock import wall_clock
from services.core.columns import F32, U64, Ragged, among
from services.core.errors import InvalidArgument
from services.core.events import EARLIEST_MS, ENGAGEMENTS, NEVER_STATED, Action, Batch, Surface, events

ACTIONS = {action.name.lower(): int(action) for action in (*ENGAGEMENTS, Action.UNSAVE)}
FOLLOWS = {
    "user": int(Action.FOLLOW_USER),
    "board": int(Action.FOLLOW_BOARD),
    "interest": int(Action.FOLLOW_INTEREST),
}
SURFACES = {surface.name.lower(): int(surface) for surface in Surface}
PINS = "pins.parquet"
NEEDS_BOARD = (Action.SAVE, Action.UNSAVE)


def spec(now_ms: int) -> dict[str, dict[str, Column]]:
    """The columns of each file; dates may reach up to `now_ms`."""
    at = date(now_ms)
    return {
        "users": {"user": ident(), "name": TEXT, "at": at},
        "interests": {"interest": ident(), "name": NAME, "at": at},
        "boards": {"board": ident(), "user": ident(), "title": TEXT, "at": at},
        "pins": {
            "pin": ident(), "user": ident(False), "title": TEXT, "link": LINK_TEXT, "interests": LIST,
            "quality": SHARE, "at": at,
        },
        "follows": {"user": ident(), "kind": word(FOLLOWS), "target": ident(), "at": at},
        "events": {
            "user": ident(), "action": word(ACTIONS), "pin": ident(), "board": ident(False),
            "at": date(now_ms, required=True), "surface": word(SURFACES, int(Surface.IMPORT)), "id": OWN_ID,
        },
    }  # fmt: skip


def open(path: Path, now_ms: int | None = None) -> EventDataset:
    """Check every file of the folder `path`, and read them in order of date.

    `now_ms`: the latest date allowed; the machine's clock by default. Raises InvalidArgument naming the file, column,
    row and what is allowed.
    """
    columns = spec(wall_clock() if now_ms is None else now_ms)
    found, notes = find(path, list(columns))
    if "pins" not in found:
        raise InvalidArgument(
            f"{path / PINS}: no such file; the folder has {files(list(columns))}, all but pins optional"
        )
    tables = {name: InputTable(found[name], columns[name]) for name in columns if name in found and name != "events"}
    stated = PinQualities(tables["pins"])
    if "events" in found:
        tables["events"] = InputTable(found["events"], columns["events"], stated.look)
    notes += [f"no {name}.parquet in the folder" for name in columns if name not in tables]
    first = min((table.dates[0] for table in tables.values() if table.dates), default=EARLIEST_MS)
    build = {**BUILD, "pins": stated.pins, "events": stated.events}
    parts = [_section(name, tables[name], first, build[name]) for name in columns if name in tables]
    inputs = [part.path for table in tables.values() for part in table.parts]
    return EventDataset("parquet", fingerprint(inputs, path), parts, notes + stated.notes + _notes(tables))


def _saved_somewhere(path: Path, columns: Decoded, row: int) -> None:
    """A save or unsave is on a board."""
    lost = np.isin(columns["action"], NEEDS_BOARD) & (columns.get("board", np.uint64(0)) == 0)
    if lost.any():
        first = row + int(lost.argmax())
        Place(path, "board").fail(f"row {first} (from 0): null is not allowed: a save or unsave needs a board")


def _notes(tables: dict[str, InputTable]) -> list[str]:
    unsorted = [
        f"{table.path.name} is not in order of date: sorted in memory" for table in tables.values() if not table.sorted
    ]
    undated = [
        f"{table.path.name} has no dates: they get the earliest of all files"
        for table in tables.values()
        if not table.dates
    ]
    return [note for table in tables.values() for note in table.notes] + unsorted + undated


def _section(name: str, table: InputTable, first_ms: int, build: Callable[[int, Decoded], Batch]) -> Section:
    """The rows of a table as events; the last run of rows that was read is kept, as they are asked for in order."""
    ends = np.cumsum([0, *table.groups])

    @lru_cache(maxsize=1)
    def group(i: int) -> Batch:
        columns = table.group(i)
        columns["id"] = _content(table.groups[i], columns)
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

    newest = table.dates[1] if table.dates else first_ms
    return Section(name, table.size, rows, newest if table.size else 0)


def _content(n: int, columns: Decoded) -> U64:
    """uint64[n]: the content of each row, or the id of its own. A row without a surface has `import`."""
    stated = {name: values for name, values in columns.items() if name not in ("id", "surface")}
    if "surface" in columns:
        stated["surface"] = np.where(columns["surface"] == int(Surface.IMPORT), np.uint8(0), columns["surface"])
    content = content_of(n, stated)
    own = columns.get("id", np.zeros(n, np.uint64))
    return np.where(own == 0, content, own)


def _users(n: int, columns: Decoded) -> Batch:
    names: Ragged = columns.pop("name", Ragged.empty(n))
    given = names.strings()
    named = [name or f"user {user}" for name, user in zip(given, as_stated(columns["user"]), strict=True)]
    return events(n, action=int(Action.NAME_USER), title=named, **columns)


def _interests(n: int, columns: Decoded) -> Batch:
    return events(
        n, action=int(Action.NAME_INTEREST), target=columns.pop("interest"), title=columns.pop("name"), **columns
    )


def _boards(n: int, columns: Decoded) -> Batch:
    return events(n, action=int(Action.CREATE_BOARD), **columns)


def _follows(n: int, columns: Decoded) -> Batch:
    kind, target = columns.pop("kind"), columns.pop("target")
    board = kind == FOLLOWS["board"]
    zero = np.uint64(0)
    return events(n, action=kind, board=np.where(board, target, zero), target=np.where(board, zero, target), **columns)


BUILD = {"users": _users, "interests": _interests, "boards": _boards, "follows": _follows}


class PinQualities:
    """The quality of each pin: as pins.parquet states it, or else from the saves and impressions of the events.

    `look` sees each run of events when they are checked; pins() and events() build theirs after that.
    """

    def __init__(self, table: InputTable) -> None:
        pins, qualities = [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
        for i in range(len(table.groups)):
            group = table.group(i)
            pins.append(group["pin"])
            qualities.append(group.get("quality", np.full(len(group["pin"]), NEVER_STATED)))
        ids, quality = np.concatenate(pins), np.concatenate(qualities)
        order = np.argsort(ids, kind="stable")
        self._stated = (ids[order], quality[order]) if not np.isnan(quality).all() else None
        self._votes = Votes(np.unique(ids))
        self._found: tuple[U64, F32] | None = None
        self.notes: list[str] = []

    def look(self, path: Path, columns: Decoded, row: int) -> None:
        """Check a run of events, and count the votes in it."""
        _saved_somewhere(path, columns, row)
        if self._stated is None:
            if not self.notes:
                self.notes.append(f"{PINS} states no quality: it is the pin's rate of saves, as README.md has it")
            self._votes.add(columns["action"], columns["user"], columns["pin"])

    def _known(self) -> tuple[U64, F32]:
        """(ids sorted, float32 quality) of all pins."""
        if self._stated:
            return self._stated
        if self._found is None:
            pins = self._votes.pins
            self._found = (pins, self._votes.quality() if self.notes else np.full(len(pins), NEVER_STATED))
        return self._found

    def _of(self, pin: U64) -> F32:
        known, quality = self._known()
        if not len(known):
            return np.full(len(pin), NEVER_STATED)
        return np.where(
            among(pin, known), quality[np.minimum(np.searchsorted(known, pin), len(known) - 1)], NEVER_STATED
        )

    def pins(self, n: int, columns: Decoded) -> Batch:
        """Pins as events."""
        if self._stated is None:
            columns["quality"] = self._of(columns["pin"])
        return events(n, action=int(Action.CREATE_PIN), **columns)

    def events(self, n: int, columns: Decoded) -> Batch:
        """The actions of users; a save carries the quality of its pin."""
        batch = events(n, **columns)
        return batch.replace(quality=np.where(batch.action == Action.SAVE, self._of(batch.pin), NEVER_STATED))
