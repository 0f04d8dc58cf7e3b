"""The activity of the demo world's people: follows, saves, and the looks around each save.

Follows and saves are drawn in one go, without repetition; the rest is made for one slice of time after another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from loaders.world import DAYS, SPAN_MS, STEEPNESS, Clock, World
from services.core.columns import I64, U8, U32, Array
from services.core.events import Action

CHUNK = 4_000_000
SLICE_EVENTS = 400_000  # saves a slice of time; about a million events with what happens around them
FOLLOWED_USERS, FOLLOWED_BOARDS = 15, 8  # on average, of a user
#: For each save: how often its pin was also seen, looked at closely and clicked; how often another was seen or hidden.
SEEN, CLOSE, CLICKED, PASSED, HIDDEN = 0.6, 0.4, 0.15, 0.6, 0.02


@dataclass(frozen=True, slots=True)
class Actions:
    """n rows: who did what to which pin, on which board, when. `board` is -1 where there was none."""

    user: U32
    action: U8
    pin: U32
    board: I64
    at_ms: I64

    def in_order(self) -> "Actions":
        """The rows by date."""
        order = np.argsort(self.at_ms, kind="stable")
        return Actions(*(getattr(self, name)[order] for name in self.__slots__))


def later(rng: np.random.Generator, moments: Array) -> Array:
    """float64[n]: some moment after each."""
    return moments + (1 - moments) * rng.random(len(moments))


def repeats(first: Array, second: Array) -> I64:
    """The rows whose (first, second) occurred in an earlier row."""
    key = first.astype(np.uint64) << np.uint64(32) | second.astype(np.uint64)
    order = np.argsort(key, kind="stable")
    return np.asarray(order[1:][np.diff(key[order]) == 0])


def follow_users(world: World, rng: np.random.Generator) -> tuple[U32, U32, Array]:
    """(follower, followed, moment): mostly people of a common interest, popular ones more often."""
    follower = np.repeat(np.arange(world.spec.users, dtype=np.uint32), _many(rng, world.spec.users, FOLLOWED_USERS))
    common = world.fans.draw(rng, _own_interest(world, rng, follower), 2.5)
    anyone = world.crowd.draw(rng, np.zeros(len(follower), np.int64))
    followed = np.where(rng.random(len(follower)) < 0.85, common, anyone)
    keep = follower != followed
    keep[repeats(follower, followed)] = False
    follower, followed = follower[keep], followed[keep]
    return follower, followed, later(rng, np.maximum(world.joined[follower], world.joined[followed]))


def follow_boards(world: World, rng: np.random.Generator) -> tuple[U32, U32, Array]:
    """(follower, board, moment): boards of others about the follower's interests."""
    follower = np.repeat(np.arange(world.spec.users, dtype=np.uint32), _many(rng, world.spec.users, FOLLOWED_BOARDS))
    board = world.boards.draw(rng, _own_interest(world, rng, follower), 2.0)
    keep = world.owner[board] != follower
    keep[repeats(follower, board)] = False
    follower, board = follower[keep], board[keep]
    return follower, board, later(rng, np.maximum(world.joined[follower], world.opened[board]))


def follow_interests(world: World) -> tuple[U32, U32, Array]:
    """(follower, interest, moment): each user's own interests, when they join."""
    user, column = np.nonzero(world.own >= 0)
    return user.astype(np.uint32), world.own[user, column].astype(np.uint32), world.joined[user]


def _many(rng: np.random.Generator, n: int, average: float) -> I64:
    """int64[n]: how many each has; a few have many (log-normal), at most 300."""
    return np.minimum(rng.lognormal(np.log(average) - 0.32, 0.8, n).astype(np.int64), 300)


def _own_interest(world: World, rng: np.random.Generator, user: U32) -> I64:
    """One of each user's interests."""
    column = (rng.random(len(user)) * (world.own >= 0).sum(axis=1)[user]).astype(np.int64)
    return np.asarray(world.own[user, column], np.int64)


@dataclass(frozen=True, slots=True)
class Saves:
    """Every save of the world: board and pin (uint32[n], each pair once) and at_ms (int64[n]), not in order."""

    board: U32
    pin: U32
    at_ms: I64


def saves(world: World, clock: Clock) -> Saves:
    """About `spec.saves` saves (fewer where a board ran out of pins), each after its board and pin were there."""
    rng = np.random.default_rng([world.spec.seed, 3])
    busy = np.minimum(rng.pareto(2.0, world.spec.boards) + 0.4, 12.0)
    counts = rng.multinomial(world.spec.saves, busy / busy.sum())
    parts = []
    for start, stop in _chunks(counts):
        board = np.repeat(np.arange(start, stop, dtype=np.uint32), counts[start:stop])
        board, pin = _distinct(world, rng, board)
        at_ms = clock.at_ms(later(rng, np.maximum(world.opened[board], world.born[pin])))
        parts.append(Saves(board, pin, at_ms))
    return Saves(*(np.concatenate([getattr(part, name) for part in parts]) for name in Saves.__slots__))


def _chunks(counts: I64) -> Iterator[tuple[int, int]]:
    """Ranges of boards with about CHUNK saves each."""
    total = np.cumsum(counts)
    cuts = np.searchsorted(total, np.arange(CHUNK, int(total[-1]) + 1, CHUNK)) + 1
    edges = np.unique(np.r_[0, cuts, len(counts)]).tolist()
    return pairwise(edges)


def _distinct(world: World, rng: np.random.Generator, board: U32) -> tuple[U32, U32]:
    """A pin for each row, none twice on a board: repeated ones are drawn again, from further and further away."""
    pin = _draw(world, rng, board, 0)
    again = repeats(board, pin)
    for attempt in range(1, 10):
        if not len(again):
            break
        pin[again] = _draw(world, rng, board[again], attempt)
        again = repeats(board, pin)
    keep = np.ones(len(board), bool)
    keep[again] = False
    return board[keep], pin[keep]


def _draw(world: World, rng: np.random.Generator, board: U32, attempt: int) -> U32:
    """A pin about the board's interest, or sometimes one near it; late attempts reach for the unknown, then anything."""
    if attempt > 5:
        return rng.integers(0, world.spec.pins, len(board), dtype=np.uint32)
    about = world.about[board]
    away = rng.random(len(board), np.float32) < (0.12 if attempt < 4 else 0.5)
    about = np.where(away, world.words.nearby(rng, about), about).astype(np.int64)
    return world.pins.draw(rng, about, STEEPNESS if attempt < 4 else 1.0)


def slices(count: int) -> int:
    """Into how many slices of time `count` saves are cut: at most one an hour."""
    return max(1, min(DAYS * 24, count // SLICE_EVENTS))


def around(world: World, clock: Clock, rng: np.random.Generator, saved: Saves, span: tuple[int, int]) -> Actions:
    """All actions of one slice of time, by date: the saves, the actions before and after each, and the pins passed by.

    `span`: first and last Unix ms of the slice; nothing is dated outside it, or before its pin was there.
    """
    user, n = world.owner[saved.board], len(saved.board)
    near = _draw(world, rng, saved.board, 3)
    anything = rng.integers(0, world.spec.pins, n, dtype=np.uint32)
    plan = (
        (Action.IMPRESSION, SEEN, saved.pin, True, (-90, -20)),
        (Action.CLOSEUP, CLOSE, saved.pin, True, (-18, -3)),
        (Action.SAVE, 1.0, saved.pin, True, (0, 0)),
        (Action.CLICK, CLICKED, saved.pin, True, (2, 60)),
        (Action.IMPRESSION, PASSED, near, False, (-300, 300)),
        (Action.HIDE, HIDDEN, anything, False, (-300, 300)),
    )
    parts = []
    for action, share, pin, on_board, (low, high) in plan:
        rows = np.flatnonzero(rng.random(n, np.float32) < share)
        shift = rng.integers(low * 1000, high * 1000, len(rows), endpoint=True)
        at_ms, born = (saved.at_ms[rows] + shift).clip(*span), clock.at_ms(world.born[pin[rows]])
        if on_board:
            at_ms = np.maximum(at_ms, np.maximum(born, span[0]))
        there = np.flatnonzero(at_ms >= born)
        rows, at_ms = rows[there], at_ms[there]
        board = saved.board[rows].astype(np.int64) if on_board else np.full(len(rows), -1)
        parts.append(Actions(user[rows], np.full(len(rows), action, np.uint8), pin[rows], board, at_ms))
    return Actions(*(np.concatenate([getattr(p, name) for p in parts]) for name in Actions.__slots__)).in_order()


def by_slice(world: World, clock: Clock, saved: Saves) -> Iterator[Actions]:
    """All actions of the world in order of date, a slice of time at a time."""
    count = slices(len(saved.board))
    length = -(-SPAN_MS // count)
    which = ((saved.at_ms - clock.start_ms) // length).clip(0, count - 1).astype(np.uint16)
    order = np.argsort(which, kind="stable")
    ends = np.cumsum(np.bincount(which, minlength=count))
    for i, stop in enumerate(ends.tolist()):
        rows = order[int(ends[i - 1]) if i else 0 : stop]
        span = (clock.start_ms + i * length, min(clock.start_ms + (i + 1) * length - 1, clock.now_ms))
        rng = np.random.default_rng([world.spec.seed, 4, i])
        yield around(world, clock, rng, Saves(saved.board[rows], saved.pin[rows], saved.at_ms[rows]), span)
