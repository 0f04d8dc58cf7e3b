"""HetRec 2011 Last.fm: listeners who tagged artists, read as people who save pins to boards.

pin = artist, interest = tag, board = (user, tag), follow = friend (both ways), save = tag assignment at its date.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loaders.dataset import EventDataset, Section, fingerprint, section, texts
from loaders.files import columns, input_files
from loaders.interactions import first_use, most_used, popularity, runs_of
from services.core.columns import I64, U64
from services.core.events import Action

FILES = ("artists", "tags", "user_artists", "user_friends", "user_tagged_artists")
INTERESTS_OF_A_PIN = 5
INTERESTS_OF_A_USER = 5
DAY_MS = 86_400_000
FIRST_MS = 946_684_800_000  # 2000-01-01: dates before the site began are mistakes


@dataclass(frozen=True, slots=True)
class Tables:
    """The files as arrays. Tag assignments (`user`, `artist`, `tag`, `at_ms`: int64[n]) are only the usable ones."""

    artists: I64
    names: list[str]
    urls: list[str]
    tags: I64
    tag_names: list[str]
    friends: tuple[I64, I64]
    listens: tuple[I64, I64]
    user: I64
    artist: I64
    tag: I64
    at_ms: I64


def open(path: Path) -> EventDataset:
    """Read the folder at `path`. Raises InvalidArgument naming a file or column that is missing."""
    files = input_files(path, FILES)
    tables, notes = _read(files)
    parts = [*_definitions(tables), *_follows(tables), _saves(tables)]
    return EventDataset("lastfm", fingerprint(list(files.values())), parts, notes)


def board_of(user: I64, tag: I64) -> U64:
    """The id of a user's board of a tag: the user in the upper 32 bits, the tag in the lower."""
    return user.astype(np.uint64) << np.uint64(32) | tag.astype(np.uint64)


def _read(files: dict[str, Path]) -> tuple[Tables, list[str]]:
    artist_id, names, urls = columns(files["artists"], "id", "name", "url")
    tag_id, tag_names = columns(files["tags"], "tagID", "tagValue")
    user, artist, tag, date = columns(files["user_tagged_artists"], "userID", "artistID", "tagID", "date")
    listener, listened, _ = columns(files["user_artists"], "userID", "artistID", "weight")
    friends = columns(files["user_friends"], "userID", "friendID")
    at_ms = date.astype("datetime64[ms]").astype(np.int64)
    dated, named, worded = at_ms >= FIRST_MS, np.isin(artist, artist_id), np.isin(tag, tag_id)
    keep = dated & named & worded
    wanted = np.isin(artist_id, np.union1d(artist[keep], listened))
    unused = ~np.isin(tag_id, tag[keep])
    notes = [
        f"{(~dated).sum()} tag assignments dated before 2000 skipped",
        f"{(dated & ~named).sum()} tag assignments of {len(np.unique(artist[~named]))} artists without a row skipped",
        f"{(dated & named & ~worded).sum()} tag assignments of tags without a row skipped",
        f"{(~wanted).sum()} artists without a tag or a listener skipped",
        f"{unused.sum()} tags without a usable assignment skipped",
        "dates are whole days (mostly the first of a month): saves are at midnight UTC, in the file's order",
        "definitions and follows have no date: each has that of its first use, or else the first date of the set",
    ]
    rows = np.flatnonzero(wanted)[np.argsort(artist_id[wanted])]
    used = np.flatnonzero(~unused)[np.argsort(tag_id[~unused])]
    tables = Tables(
        artist_id[rows], names[rows].tolist(), urls[rows].tolist(), tag_id[used], tag_names[used].tolist(),
        (friends[0], friends[1]), (listener, listened), user[keep], artist[keep], tag[keep], at_ms[keep],
    )  # fmt: skip
    return tables, [line for line in notes if not line.startswith("0 ")]


def _definitions(t: Tables) -> list[Section]:
    """Names of users and interests, boards, pins."""
    users, first = _users(t)
    boards, row = np.unique(board_of(t.user, t.tag), return_index=True)
    words = dict(zip(t.tags.tolist(), t.tag_names, strict=True))
    return [
        section(Action.NAME_USER, first, user=users, title=texts([f"user {user}" for user in users.tolist()])),
        section(Action.NAME_INTEREST, _first(t, t.tags, t.tag), target=t.tags, title=texts(t.tag_names)),
        section(
            Action.CREATE_BOARD,
            _first(t, boards, board_of(t.user, t.tag)),
            user=t.user[row],
            board=boards,
            title=texts([words[tag] for tag in t.tag[row].tolist()]),
        ),
        _pins(t),
    ]


def _pins(t: Tables) -> Section:
    artist, tag, _ = most_used(t.artist, t.tag, INTERESTS_OF_A_PIN, at_least=2)
    return section(
        Action.CREATE_PIN,
        _first(t, t.artists, t.artist),
        pin=t.artists,
        title=texts(t.names),
        link=texts(t.urls),
        interests=runs_of(t.artists, artist, tag),
        quality=_quality(t),
    )


def _follows(t: Tables) -> list[Section]:
    """Friends both ways, once both are there; each user's most used tags, from their first use on."""
    users, first = _users(t)
    one, other = t.friends
    pairs = np.unique(np.concatenate([one << 32 | other, other << 32 | one]))
    follower, followed = pairs >> 32, pairs & 0xFFFFFFFF
    met = np.maximum(first[np.searchsorted(users, follower)], first[np.searchsorted(users, followed)])
    user, tag, _ = most_used(t.user, t.tag, INTERESTS_OF_A_USER)
    boards = board_of(user, tag)
    order = np.argsort(boards)
    began = np.empty(len(boards), np.int64)
    began[order] = _first(t, boards[order], board_of(t.user, t.tag))
    return [
        section(Action.FOLLOW_USER, met, user=follower, target=followed),
        section(Action.FOLLOW_INTEREST, began, user=user, target=tag),
    ]


def _saves(t: Tables) -> Section:
    quality = _quality(t)[np.searchsorted(t.artists, t.artist)]
    return section(Action.SAVE, t.at_ms, user=t.user, pin=t.artist, board=board_of(t.user, t.tag), quality=quality)


def _quality(t: Tables) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """log(1 + listeners) over that of the artist with most listeners."""
    return popularity(t.artists, t.listens[1][np.isin(t.listens[1], t.artists)])


def _users(t: Tables) -> tuple[I64, I64]:
    """All users, sorted, and the first activity of each."""
    users = np.unique(np.concatenate([t.user, t.listens[0], *t.friends]))
    return users, _first(t, users, t.user)


def _first(t: Tables, keys: I64 | U64, uses: I64 | U64) -> I64:
    return first_use(keys, uses, t.at_ms, int(t.at_ms.min(initial=np.iinfo(np.int64).max)))
