"""Last.fm as it would have come in: whatever is said of a pin or a user is said when it was first true.

`loaders/lastfm.py` states a pin's interests, its quality and a user's interests once, from the whole set, as a load of
finished history has them. A replay that is judged by later saves may not know them before: here a tag
joins a pin when the second user gave it, an interest is followed when it was used on three pins, and the quality of a
pin is its popularity so far, stated again whenever the number of its savers has doubled. Friendships have no date in
the set; each holds from the day on which both have saved something.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from learning.training.events import EventHistory, of_batches
from loaders.files import columns, input_files
from loaders.lastfm import board_of
from services.core.columns import F32, I64, U64, Array, Ragged
from services.core.events import Action, Batch, Surface, events

FILES = ("artists", "tags", "user_friends", "user_tagged_artists")
GIVEN_BY = 2  # users, from whom on a tag is an interest of a pin
USED_ON = 3  # pins, from where on a user follows an interest
FIRST_MS = 946_684_800_000  # 2000-01-01: dates before the site began are mistakes
INTERESTS = 8  # of a pin, and of a user, the first ones
A = Action


class Tags:
    """Tag assignments in order of time. user, pin, tag, at_ms: int64[n]; board: uint64[n]."""

    def __init__(self, folder: Path) -> None:
        files = input_files(folder, FILES)
        (known,) = columns(files["artists"], "id")
        (named,) = columns(files["tags"], "tagID")
        user, pin, tag, date = columns(files["user_tagged_artists"], "userID", "artistID", "tagID", "date")
        at_ms = date.astype("datetime64[ms]").astype(np.int64)
        rows = np.flatnonzero((at_ms >= FIRST_MS) & np.isin(pin, known) & np.isin(tag, named))
        rows = rows[np.argsort(at_ms[rows], kind="stable")]
        self.user, self.pin, self.tag, self.at_ms = user[rows], pin[rows], tag[rows], at_ms[rows]
        self.board = board_of(self.user, self.tag)
        self.friends = columns(files["user_friends"], "userID", "friendID")

    def __len__(self) -> int:
        return len(self.at_ms)


def history(tags: Tags) -> EventHistory:
    """Its events."""
    parts = [_boards(tags), _pins(tags), _friends(tags), _interests(tags), *_by_day(tags)]
    whole = of_batches([part for part in parts if len(part)], "Last.fm as it came in")
    n = len(whole.events)
    return EventHistory(whole.events.replace(id=np.arange(1, n + 1, dtype=np.uint64)), whole.served, whole.source)


def _events(action: Action, at_ms: I64, **named: Array | Ragged) -> Batch:
    return events(len(at_ms), action=int(action), at_ms=at_ms, surface=int(Surface.IMPORT), **named)


def _boards(tags: Tags) -> Batch:
    boards, first = np.unique(tags.board, return_index=True)
    return _events(A.CREATE_BOARD, tags.at_ms[first], user=tags.user[first], board=boards)


def _pins(tags: Tags) -> Batch:
    pins, first = np.unique(tags.pin, return_index=True)
    return _events(A.CREATE_PIN, tags.at_ms[first], pin=pins)


def _friends(tags: Tags) -> Batch:
    users, first = np.unique(tags.user, return_index=True)
    one, other = tags.friends
    there = np.isin(one, users) & np.isin(other, users)
    pairs = np.unique(np.concatenate([one[there] << 32 | other[there], other[there] << 32 | one[there]]))
    follower, followed = pairs >> 32, pairs & 0xFFFFFFFF
    began = tags.at_ms[first]
    met = np.maximum(began[np.searchsorted(users, follower)], began[np.searchsorted(users, followed)])
    return _events(A.FOLLOW_USER, met, user=follower, target=followed)


def reached(group: U64, times: int, most: int, of: I64) -> I64:
    """The rows at which a group's count reaches `times`, the first `most` of each `of`, ascending."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=group[order][:1] ^ np.uint64(1)) != 0)
    sizes = np.diff(np.append(starts, len(group)))
    rows = np.sort(order[starts[sizes >= times] + times - 1])
    order = np.argsort(of[rows], kind="stable")
    within = np.arange(len(rows)) - np.searchsorted(of[rows][order], of[rows][order])
    return np.sort(rows[order[within < most]])


def _interests(tags: Tags) -> Batch:
    """A user follows a tag that they use; each assignment is another pin."""
    rows = reached(tags.board, USED_ON, INTERESTS, tags.user)
    return _events(A.FOLLOW_INTEREST, tags.at_ms[rows], user=tags.user[rows], target=tags.tag[rows])


def _by_day(tags: Tags) -> Sequence[Batch]:
    """Saves with the quality of before that day; then the joins of the day, and the qualities that have changed."""
    of_pin = tags.pin.astype(np.uint64) << np.uint64(32) | tags.tag.astype(np.uint64)
    joining = reached(of_pin, GIVEN_BY, INTERESTS, tags.pin)
    joins = np.zeros(len(tags), bool)
    joins[joining] = True
    size = int(tags.pin.max()) + 1
    savers, stated = np.zeros(size, np.int64), np.zeros(size, np.int64)
    new = _firsts(tags.user << 32 | tags.pin)
    interests: dict[int, list[int]] = {}
    found: list[Batch] = []
    for day in np.unique(tags.at_ms).tolist():
        a, b = np.searchsorted(tags.at_ms, [day, day + 1])
        at = np.arange(a, b)
        quality = _quality(savers)
        found.append(
            _events(
                A.SAVE, tags.at_ms[at], user=tags.user[at], pin=tags.pin[at], board=tags.board[at],
                quality=quality[tags.pin[at]],
            )
        )  # fmt: skip
        np.add.at(savers, tags.pin[at][new[at]], 1)
        for row in at[joins[at]].tolist():
            interests.setdefault(int(tags.pin[row]), []).append(int(tags.tag[row]))
        level = np.where(savers > 0, np.frexp(savers.astype(np.float64))[1], 0)
        changed = np.union1d(np.flatnonzero(level > stated), tags.pin[at[joins[at]]])
        stated[changed] = level[changed]
        found.append(
            _events(
                A.UPDATE_PIN, np.full(len(changed), day), pin=changed, quality=_quality(savers)[changed],
                interests=Ragged.of_lists([interests.get(int(pin), []) for pin in changed.tolist()], "<u8"),
            )
        )  # fmt: skip
    return found


def _quality(savers: I64) -> F32:
    """log(1 + savers) over that of the most saved pin."""
    return np.asarray(np.log1p(savers) / max(float(np.log1p(savers.max())), 1.0), np.float32)


def _firsts(keys: I64) -> Array:
    """bool[n]: whether a key comes for the first time."""
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first
