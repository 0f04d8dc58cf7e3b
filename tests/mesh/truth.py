"""The expected pages, recomputed from the Parquet files in plain Python: nothing here is asked of the mesh."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Sets = dict[int, set[int]]


@dataclass
class Truth:
    """friends: the users each one follows; pins_of: the pins on a user's boards; boards_of: a user's boards;
    met: the pins that a user saved, hid or otherwise met.
    """

    friends: Sets = field(default_factory=lambda: defaultdict(set))
    pins_of: Sets = field(default_factory=lambda: defaultdict(set))
    boards_of: Sets = field(default_factory=lambda: defaultdict(set))
    met: Sets = field(default_factory=lambda: defaultdict(set))

    def candidates(self, user: int) -> set[int]:
        """Pins of the boards of whom the user follows, that the user never met."""
        return set[int]().union(*(self.pins_of[friend] for friend in self.friends[user])) - self.met[user]

    def boards(self, user: int) -> int:
        """How many boards that are."""
        return sum(len(self.boards_of[friend]) for friend in self.friends[user])


def _columns(path: Path, *names: str) -> list[list[Any]]:
    table = pq.read_table(path, columns=list(names))
    return [table.column(name).to_pylist() for name in names]


def of_lastfm(folder: Path) -> Truth:
    """Last.fm: a tag of a user is a board, a tagged artist a pin saved on it; friends follow each other."""
    truth = Truth()
    artists = set(_columns(folder / "artists.parquet", "id")[0])
    tags = set(_columns(folder / "tags.parquet", "tagID")[0])
    for one, other in zip(*_columns(folder / "user_friends.parquet", "userID", "friendID"), strict=True):
        truth.friends[one].add(other)
        truth.friends[other].add(one)
    rows = zip(*_columns(folder / "user_tagged_artists.parquet", "userID", "artistID", "tagID", "date"), strict=True)
    for user, artist, tag, date in rows:
        if date.year >= 2000 and artist in artists and tag in tags:
            truth.pins_of[user].add(artist)
            truth.met[user].add(artist)
            truth.boards_of[user].add(user << 32 | tag)
    return truth
