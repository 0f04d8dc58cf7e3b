"""Ratings or interactions of any site as delimited text: MovieLens, Amazon, Goodreads, or a user's own.

A rating from `save_from` on is a save on the user's board, a lower one a close-up; without ratings every row is a save.
Titles and genres come from a second file of items, or from columns beside the ratings.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loaders.convert import mask
from loaders.dataset import EventDataset, Section, fingerprint, section, texts
from loaders.delimited import Form, Text, joined, text_of
from loaders.hashes import mix
from loaders.identity import content_of
from loaders.ids import read_ids
from loaders.interactions import DAY_MS, first_use, popularity
from loaders.items import Items, items_of
from loaders.moments import read_moments
from loaders.parts import is_hidden, readable
from loaders.place import Place, shown
from loaders.quality import of_ratings
from loaders.roles import LAYOUTS, check_columns, roles_of
from loaders.text_ids import as_stated
from services.core.clock import wall_clock
from services.core.columns import F64, I64, U64, Array
from services.core.errors import InvalidArgument
from services.core.events import Action

SAVED = 0.75  # of the way from the lowest rating to the highest: 4 of 1 to 5, 8 of 1 to 10
DATES = "; dates are Unix time in one unit, or ISO 8601 such as 2024-02-29 18:30:00+02:00"
MOST = 1e15  # a rating of more is none
MOST_SKIPPED = 0.2  # of the rows; more is a file that is misread
SPREAD_MS = 90 * DAY_MS
END_MS = 1_735_689_600_000  # 2025-01-01: where undated rows end; a load moves them to today
FOLLOWED, USED = 3, 3  # interests of a user that are followed, and saves of each that it takes


@dataclass(frozen=True, slots=True)
class Options:
    """How the files are to be read. `save_from`: the lowest rating that is a save; None: SAVED of the scale."""

    form: Form = field(default_factory=Form)
    save_from: float | None = None


@dataclass(slots=True)
class InteractionRows:
    """n interactions. ratings: NaN where there is none; board: 0 where there is none."""

    user: U64
    item: U64
    rating: F64
    at_ms: I64
    board: U64
    notes: list[str] = field(default_factory=list)


def open(path: Path, options: Options | None = None, now_ms: int | None = None) -> EventDataset:
    """Read a file of interactions, or a folder with one and perhaps a file of items.

    Raises InvalidArgument naming the file and what is missing or not allowed.
    """
    options = options or Options()
    if options.form.columns:
        check_columns(options.form.columns)
    rated, described, notes = _found(path, options.form)
    rows = _rows(rated, wall_clock() if now_ms is None else now_ms)
    items = items_of(described, rated)
    parts, said = _sections(rows, items, options.save_from)
    paths = [path for text in (rated, described) if text is not None for path in text.files]
    return EventDataset("csv", fingerprint(paths), parts, [*notes, *rated.notes, *rows.notes, *items.notes, *said])


def _found(path: Path, form: Form) -> tuple[Text, Text | None, list[str]]:
    """(interactions, items or None, notes on the files that are not read)."""
    if not path.is_dir():
        return _opened(path, form), None, []
    with readable(path):
        names = sorted(entry.name for entry in path.iterdir() if not is_hidden(entry.name))
    rated: list[Text] = []
    described: list[Text] = []
    notes = []
    for name in names:
        text, why = _candidate(path / name, form)
        kind = None if text is None else _kind(text)
        if text is None or kind is None:
            notes.append(f"{name} is not read: {why or 'it has neither user and item nor item and title'}")
        else:
            (rated if kind == "rated" else described).append(text)
    rated, described = joined(rated), joined(described)
    with_ratings = [text for text in rated if "rating" in roles_of(text.names)]
    if len(rated) > 1 and len(with_ratings) == 1:
        notes += [
            f"{t.path.name} is not read: {with_ratings[0].path.name} has ratings"
            for t in rated
            if t not in with_ratings
        ]
        rated = with_ratings
    if len(rated) != 1 or len(described) > 1:
        many = ", ".join(text.path.name for text in (rated if len(rated) > 1 else described))
        raise InvalidArgument(
            f"{path}: {many} could each be read; name one file, or leave one" if many else
            f"{path}: no file with columns user and item; {'; '.join(notes) or 'the folder is empty'}"
        )  # fmt: skip
    return rated[0], described[0] if described else None, notes


def _candidate(path: Path, form: Form) -> tuple[Text | None, str]:
    try:
        if path.is_dir():
            return None, "it is a folder"
        layout = LAYOUTS.get(path.name)
        return text_of(path, Form(layout or form.columns, form.separator, form.encoding, form.quotes)), ""
    except InvalidArgument as error:
        return None, str(error).removeprefix(f"{path}: ")


def _kind(text: Text) -> str | None:
    roles = roles_of(text.names)
    if "user" in roles and "item" in roles:
        return "rated"
    return "described" if "item" in roles and ("title" in roles or "interests" in roles) else None


def _opened(path: Path, form: Form) -> Text:
    text = text_of(path, Form(form.columns or LAYOUTS.get(path.name), form.separator, form.encoding, form.quotes))
    if _kind(text) != "rated":
        lacking = ", ".join(role for role in ("user", "item") if role not in roles_of(text.names))
        stands = shown(", ".join(text.names))
        raise InvalidArgument(
            f"{path}: no column {lacking}; the first line is {stands}; if it is data, say what its columns are: "
            "--columns user,item,rating,timestamp"
        )
    return text


def _rows(text: Text, now_ms: int) -> InteractionRows:
    roles = roles_of(text.names)
    wanted = [roles[role] for role in ("user", "item", "rating", "timestamp", "board") if role in roles]
    found = text.columns(wanted)
    columns = {role: found[roles[role]] for role in roles if roles[role] in found}
    n = len(columns["user"])
    again = pc.and_(pc.equal(columns["user"], roles["user"]), pc.equal(columns["item"], roles["item"])).fill_null(False)
    for role in ("user", "item"):
        columns[role] = pc.if_else(again, pa.scalar(None, columns[role].type), columns[role])
    user, item = (_ids(text, roles[role], columns[role]) for role in ("user", "item"))
    board = _ids(text, roles["board"], columns["board"]) if "board" in columns else np.zeros(n, np.uint64)
    skips = Skips(text.path, n)
    skips.add("the header again", mask(again))
    skips.add("no user", user == 0)
    skips.add("no item", item == 0)
    rating = np.full(n, np.nan)
    if "rating" in columns:
        rating = _numbers(columns["rating"])
        skips.add(f"no {roles['rating']}", mask(columns["rating"].is_null()))
        skips.add(f"a {roles['rating']} that is no number", np.isnan(rating), columns["rating"])
    at_ms = _undated(user, item)
    if "timestamp" in columns:
        at_ms, bad = read_moments(columns["timestamp"], now_ms)
        skips.add(f"no {roles['timestamp']}", mask(columns["timestamp"].is_null()))
        skips.add(f"a {roles['timestamp']} that is no date from 1970 to now", bad, columns["timestamp"], DATES)
    keep = ~skips.rows
    notes = [*skips.notes(), _what_is_read(text, roles)]
    if "timestamp" not in columns:
        notes.append("no dates: rows are spread over 90 days by a hash of user and item")
    if not keep.any():
        raise InvalidArgument(f"{text.path}: no row can be read: {'; '.join(notes) or 'there is none'}")
    return InteractionRows(user[keep], item[keep], rating[keep], at_ms[keep], board[keep], notes)


def _what_is_read(text: Text, roles: dict[str, str]) -> str:
    read = ", ".join(name if name == role else f"{name} as {role}" for role, name in roles.items())
    rest = [name for name in text.names if name and name not in roles.values()]
    return f"{text.path.name}: read are {read}" + (f"; not read are {shown(', '.join(rest))}" if rest else "")


class Skips:
    """Which rows are left out, and why: a row counts for the first reason alone."""

    def __init__(self, path: Path, n: int) -> None:
        self._path, self.rows, self._said = path, np.zeros(n, bool), [f"{path.name}: {n:,} rows"]

    def add(self, why: str, bad: Array, values: Any = None, allowed: str = "") -> None:
        """Leave out the rows of the mask `bad`; values: their values; allowed: the values that are allowed."""
        new = bad & ~self.rows
        self.rows |= bad
        if new.any():
            row = int(new.argmax())
            first = "" if values is None else f", first in row {row} (from 0): {values[row].as_py()!r}{allowed}"
            self._said.append(f"{self._path.name}: {int(new.sum()):,} rows skipped with {why}{first}")

    def notes(self) -> list[str]:
        """The rows that were left out, in words for people. Raises InvalidArgument where that is most of the file."""
        if self.rows.sum() > MOST_SKIPPED * len(self.rows):
            raise InvalidArgument(f"{self._path}: more than a fifth of the rows can't be read: {'; '.join(self._said)}")
        return self._said


def _ids(text: Text, name: str, column: Any) -> U64:
    return read_ids(column, Place(text.path, name), null=True)


def _numbers(column: Any) -> F64:
    """float64[n] of texts, also with a decimal comma; NaN where it is no number."""
    dotted = pc.replace_substring(column, ",", ".")
    is_number = pc.match_substring_regex(dotted, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$")
    numbers = pc.if_else(is_number, dotted, pa.scalar(None, dotted.type)).cast(pa.float64())
    values = np.asarray(numbers.fill_null(np.nan).to_numpy(zero_copy_only=False))
    return np.where(np.abs(values) < MOST, values, np.nan)


def _undated(user: U64, item: U64) -> I64:
    return END_MS - SPREAD_MS + (mix(mix(user) ^ item) % np.uint64(SPREAD_MS)).astype(np.int64)


def _sections(rows: InteractionRows, items: Items, save_from: float | None) -> tuple[list[Section], list[str]]:
    saved, notes = _saved(rows, save_from)
    pins = np.union1d(np.unique(rows.item), items.ids)
    has_ratings = not np.isnan(rows.rating).all()
    quality = of_ratings(pins, rows.item, rows.rating) if has_ratings else popularity(pins, rows.item)
    notes.append(
        "quality is the "
        + ("shrunk mean of a pin's ratings" if has_ratings else "number of a pin's saves, as a logarithm")
    )
    board = np.where(rows.board == 0, rows.user, rows.board) if rows.board.any() else rows.user
    first = int(rows.at_ms.min())
    users = np.unique(rows.user)
    boards, at = np.unique(board[saved], return_index=True)
    owners, follows = rows.user[saved][at], items.followed(rows.user[saved], rows.item[saved], FOLLOWED, USED)
    action = np.where(saved, np.uint8(Action.SAVE), np.uint8(Action.CLOSEUP))
    on_board = np.where(saved, board, np.uint64(0))
    of_pin = quality[np.searchsorted(pins, rows.item)]
    began = first_use(boards, board[saved], rows.at_ms[saved], first)
    parts = [
        section(Action.NAME_USER, first_use(users, rows.user, rows.at_ms, first), user=users, title=_named("user", users)),
        section(Action.NAME_INTEREST, np.full(len(items.names), first), target=items.interests, title=texts(items.names)),
        section(Action.CREATE_BOARD, began, user=owners, board=boards, title=_named("saved by user", owners)),
        section(
            Action.CREATE_PIN, first_use(pins, rows.item, rows.at_ms, first), pin=pins, title=items.titles_of(pins),
            link=items.links_of(pins), interests=items.interests_of(pins), quality=quality,
        ),
        section(Action.FOLLOW_INTEREST, np.full(len(follows[0]), first), user=follows[0], target=follows[1]),
        section(
            Action.SAVE, rows.at_ms, done=action, user=rows.user, pin=rows.item, board=on_board, id=_content(rows),
            quality=np.where(saved, of_pin, np.float32("nan")),
        ),
    ]  # fmt: skip
    return [part for part in parts if part.size], notes


def _content(rows: InteractionRows) -> U64:
    """uint64[n]: the content of each row. Whether it is a save depends on all ratings, so that is not part of it."""
    stated = {"user": rows.user, "item": rows.item, "rating": rows.rating, "at": rows.at_ms, "board": rows.board}
    return content_of(len(rows.user), stated)


def _saved(rows: InteractionRows, save_from: float | None) -> tuple[Array, list[str]]:
    """(bool[n]: which rows are saves, notes)."""
    if np.isnan(rows.rating).all():
        return np.ones(len(rows.user), bool), ["no ratings: every row is a save"]
    low, high = float(rows.rating.min()), float(rows.rating.max())
    least = low + SAVED * (high - low) if save_from is None else save_from
    saved = rows.rating >= least
    if not saved.any():
        raise InvalidArgument(f"--save-from {least:g}: no rating is as high; they are {low:g} to {high:g}")
    scale = f"ratings are {low:g} to {high:g}: {int(saved.sum()):,} from {least:g} on are saves"
    return saved, [f"{scale}, {int((~saved).sum()):,} lower ones close-ups (--save-from)"]


def _named(what: str, ids: U64) -> Any:
    return texts([f"{what} {stated}" for stated in as_stated(ids)])
