"""The items of a file: titles, links, and genres or tags as interests."""

import ast
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loaders.convert import mask
from loaders.dataset import cut, texts
from loaders.delimited import Text
from loaders.hashes import hash64
from loaders.ids import read_ids
from loaders.interactions import most_used, runs_of
from loaders.place import Place
from loaders.roles import roles_of
from services.core.columns import I64, U64, Ragged
from services.core.events import MAX_INTERESTS, MAX_TEXT, RESERVED_FROM
from services.core.texts import CONTROL, LINK

NO_GENRES = ("(no genres listed)", "unknown", "none", "n/a")


@dataclass(slots=True)
class Items:
    """n items, ascending by id. titles, links: empty where not known. owner, interest: pairs of item and position in
    `interests` (uint64 ids, ascending), whose names are `names`.
    """

    ids: U64
    titles: list[str]
    links: list[str]
    owner: I64  # positions in ids
    interest: I64  # positions in interests
    interests: U64
    names: list[str]
    notes: list[str] = field(default_factory=list)

    def titles_of(self, pins: U64) -> Ragged:
        """A title for each pin (sorted, with all of `ids`); a pin without one is called after its id."""
        found = dict(zip(self.ids.tolist(), self.titles, strict=True))
        return texts([found.get(pin) or f"pin {pin}" for pin in pins.tolist()])

    def links_of(self, pins: U64) -> Ragged:
        """A link for each pin, or an empty one."""
        found = dict(zip(self.ids.tolist(), self.links, strict=True))
        return texts([found.get(pin, "") for pin in pins.tolist()])

    def interests_of(self, pins: U64) -> Ragged:
        """The interests of each pin."""
        positions = np.searchsorted(pins, self.ids)[self.owner]
        order = np.argsort(positions, kind="stable")
        values = self.interests[self.interest[order]] if len(order) else np.empty(0, np.uint64)
        return runs_of(np.arange(len(pins)), positions[order], values)

    def followed(self, user: U64, item: U64, most: int, uses: int) -> tuple[U64, U64]:
        """(user, interest): up to `most` interests that each user saved most, each at least `uses` times."""
        if not len(self.owner):
            return np.empty(0, np.uint64), np.empty(0, np.uint64)
        users, who = np.unique(user, return_inverse=True)
        at = np.minimum(np.searchsorted(self.ids, item), len(self.ids) - 1)
        known = self.ids[at] == item
        runs = runs_of(np.arange(len(self.ids)), self.owner, self.interest)
        taken = runs.take(at[known])
        owner, thing, count = most_used(np.repeat(who[known], taken.lengths()), taken.values.astype(np.int64), most)
        keep = count >= uses
        return users[owner[keep]], self.interests[thing[keep]]


def items_of(described: Text | None, rated: Text) -> Items:
    """The items of `described`, or else those beside the interactions of `rated`."""
    text = described or rated
    roles = roles_of(text.names)
    wanted = {role: name for role, name in roles.items() if role in ("item", "title", "interests", "link")}
    if len(wanted) == 1:
        empty = np.empty(0, np.uint64)
        return Items(
            empty,
            [],
            [],
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            empty,
            [],
            ["no titles: pins are called after their ids"],
        )
    found = text.columns(list(wanted.values()))
    every = read_ids(found[wanted["item"]], Place(text.path, wanted["item"]), null=True)
    ids, rows = np.unique(every, return_index=True)
    rows = rows[ids != 0]
    taken = {role: found[name].take(pa.array(rows)) for role, name in wanted.items()}
    titles, links, notes = _words(text, taken)
    owner, interest, names = _interests(taken.get("interests"))
    keys = np.array([hash64("interest", name.casefold()) % RESERVED_FROM or 1 for name in names], np.uint64)
    order = np.argsort(keys)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    said = [
        *(described.notes if described else []),
        *notes,
        f"{text.path.name}: {len(rows):,} items, {len(names):,} interests",
    ]
    return Items(
        ids[ids != 0], titles, links, owner, place[interest], keys[order], [names[i] for i in order.tolist()], said
    )


def _words(text: Text, taken: dict[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """(titles, links, notes): text without control characters and not too long, and only links that a browser may follow."""
    n, notes = len(taken["item"]), []
    titles, links = (taken[role].fill_null("") if role in taken else pa.repeat("", n) for role in ("title", "link"))
    titles = pc.replace_substring_regex(titles, CONTROL, " ")
    allowed = mask(pc.match_substring_regex(links, LINK)) & ~mask(pc.greater(pc.binary_length(links), MAX_TEXT))
    if not allowed.all():
        row = int((~allowed).argmax())
        left_out = f"{int((~allowed).sum()):,} links left out that are not http or https"
        notes.append(f"{text.path.name}: {left_out}, first {links[row].as_py()[:80]!r}")
    kept = pc.if_else(pa.array(allowed), links, "").to_pylist()
    return [cut(title) for title in titles.to_pylist()], kept, notes


def _interests(column: Any) -> tuple[I64, I64, list[str]]:
    """(row, position in names, names) of each genre or tag of each row; each distinct text is taken apart once."""
    if column is None:
        return np.empty(0, np.int64), np.empty(0, np.int64), []
    coded = column.fill_null("").dictionary_encode()
    parts = [split(word) for word in coded.dictionary.to_pylist()]
    names = sorted({name for part in parts for name in part})
    place = {name: i for i, name in enumerate(names)}
    runs = Ragged.of_lists([[place[name] for name in part] for part in parts], "i8")
    taken = runs.take(coded.indices.to_numpy(zero_copy_only=False))
    return np.repeat(np.arange(len(column)), taken.lengths()), taken.values.astype(np.int64), names


def split(word: str) -> list[str]:
    """The genres or tags in a text: "Drama|War", "Drama;War", "Drama, War" or "['Drama', 'War']"; at most 64."""
    if word.startswith("["):
        try:
            listed = ast.literal_eval(word)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            listed = word.strip("[]").split(",")
        found = [str(part) for part in listed] if isinstance(listed, list) else [word]
    else:
        mark = next((mark for mark in "|;," if mark in word), "|")
        found = word.split(mark)
    bare = [cut(re.sub(CONTROL, " ", name).strip()) for name in found]
    return list(dict.fromkeys(name for name in bare if name and name.casefold() not in NO_GENRES))[:MAX_INTERESTS]
