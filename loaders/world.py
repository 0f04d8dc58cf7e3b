"""The demo world: people, boards and pins of communities with common interests, as arrays drawn from a seed.

Everything is uint32 positions counted from 0. Moments are fractions of the world's span (0..1) on a clock that runs
fast when people are awake, so "some time after both were there" keeps the daily rhythm. `activity.py` says what
people do, `generate.py` writes it all as the files that `parquet.py` reads.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from loaders.words import Theme, themes
from services.core.columns import F32, I64, U32, Array
from services.core.errors import InvalidArgument
from services.core.events import EARLIEST_MS

F64 = NDArray[np.float64]
HOUR_MS, DAYS = 3_600_000, 90
SPAN_MS = DAYS * 24 * HOUR_MS
#: How much happens in each hour of the day (UTC): quiet at night, a rise at noon, most in the evening.
DAY = (14, 9, 6, 5, 5, 8, 16, 28, 36, 38, 40, 45, 52, 48, 42, 42, 46, 55, 68, 82, 94, 88, 60, 30)
MOST = 2**31 - 1
MAX_OWN_INTERESTS = 5
PINS_A_THEME = 1000  # at least, while there are three themes
STEEPNESS = 5.0  # rank = n * u**5: popularity falls as rank**-0.8, a Zipf law


@dataclass(frozen=True, slots=True)
class Spec:
    """How large a world, and which one. Raises InvalidArgument for sizes that can't be."""

    users: int = 2_000
    pins: int = 20_000
    boards: int = 6_000
    saves: int = 150_000
    seed: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name in ("saves", "seed") else 1
            if not least <= value <= MOST:
                raise InvalidArgument(f"{field.name} = {value} is not allowed: {least} to {MOST}")
        if self.saves > self.boards * self.pins // 2:
            most = self.boards * self.pins // 2
            raise InvalidArgument(f"saves = {self.saves} is not allowed: at most {most} (half of boards x pins)")


class Clock:
    """Turns moments (float64 in 0..1) into Unix ms between `now_ms` - 90 days and `now_ms`, by the rhythm of days."""

    def __init__(self, now_ms: int):
        if now_ms - SPAN_MS < EARLIEST_MS:
            raise InvalidArgument(f"now_ms = {now_ms} is not allowed: at least {EARLIEST_MS + SPAN_MS}")
        self.start_ms, self.now_ms = now_ms - SPAN_MS, now_ms
        hours = np.arange(DAYS * 24)
        busy = np.array(DAY, float)[(self.start_ms // HOUR_MS + hours) % 24]
        weekend = ((self.start_ms // HOUR_MS + hours) // 24 + 3) % 7 >= 5  # 1970-01-01 was a Thursday
        busy = busy * np.where(weekend, 1.25, 1.0) * (1 + 0.4 * hours / len(hours))
        self._share = np.r_[0, np.cumsum(busy) / busy.sum()]
        self._at = np.arange(DAYS * 24 + 1) * float(HOUR_MS)

    def at_ms(self, moments: Array) -> I64:
        """int64[n] Unix ms; equal order as the moments."""
        return np.asarray(self.start_ms + np.interp(moments, self._share, self._at), np.int64)


@dataclass(frozen=True, slots=True)
class Index:
    """Members of groups, each group's most popular first: those of group g are members[starts[g]:starts[g + 1]]."""

    members: U32
    starts: I64

    @staticmethod
    def of(groups: Array, popularity: Array, count: int, members: U32 | None = None) -> "Index":
        """Rows (or `members` of rows) by group and falling popularity."""
        order = np.lexsort((-popularity, groups)).astype(np.uint32)
        starts = np.r_[0, np.cumsum(np.bincount(groups, minlength=count))]
        return Index(order if members is None else members[order], starts)

    def draw(self, rng: np.random.Generator, groups: Array, steepness: float = STEEPNESS) -> U32:
        """One member of each row's group, popular ones more often; an empty group lends a neighbour's."""
        size = self.starts[groups + 1] - self.starts[groups]
        rank = (size * rng.random(len(groups), np.float32) ** np.float32(steepness)).astype(np.int64)
        slots = self.starts[groups] + np.minimum(rank, np.maximum(size - 1, 0))
        return np.asarray(self.members[np.minimum(slots, len(self.members) - 1)])


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The interests of this world: `interests[i]` is (theme, name); theme_of: int64[n]; weights: float64[n]."""

    interests: list[tuple[Theme, str]]
    theme_of: I64
    weights: F64
    theme_starts: I64

    def draw(self, rng: np.random.Generator, n: int) -> U32:
        """n interests by their popularity."""
        return np.searchsorted(np.cumsum(self.weights), rng.random(n)).clip(0, len(self.weights) - 1).astype(np.uint32)

    def nearby(self, rng: np.random.Generator, interests: Array) -> U32:
        """For each interest one of the same theme, perhaps itself."""
        theme = self.theme_of[interests]
        first, stop = self.theme_starts[theme], self.theme_starts[theme + 1]
        return (first + (rng.random(len(theme)) * (stop - first)).astype(np.int64)).astype(np.uint32)


def vocabulary(rng: np.random.Generator, pins: int) -> Vocabulary:
    """The interests of a world of so many pins, in a random order of popularity; small worlds have fewer themes."""
    count = min(max(pins // PINS_A_THEME, 3), len(themes()))
    chosen = [themes()[i] for i in np.sort(rng.permutation(len(themes()))[:count])]
    found = [(theme, name) for theme in chosen for name in theme.interests]
    theme_of = np.repeat(np.arange(count), [len(theme.interests) for theme in chosen])
    weights = 1 / (rng.permutation(len(found)) + 8.0) ** 0.8
    return Vocabulary(found, theme_of, weights / weights.sum(), np.searchsorted(theme_of, np.arange(count + 1)))


@dataclass(frozen=True, slots=True)
class World:
    """The users, interests, boards and pins. Users, boards and pins are numbered by the moment they came."""

    spec: Spec
    words: Vocabulary
    joined: F64  # [users] moment
    own: NDArray[np.int16]  # [users, 5] interests, -1 where none
    fans: Index  # interest -> users
    crowd: Index  # one group: all users by popularity
    owner: U32  # [boards] user
    about: NDArray[np.uint16]  # [boards] interest
    opened: F64  # [boards] moment
    boards: Index  # interest -> boards
    topic: NDArray[np.uint16]  # [pins] main interest
    quality: F32  # [pins] 0..1
    born: F64  # [pins] moment
    pins: Index  # interest -> pins


def build(spec: Spec) -> World:
    """The world of a spec; the same for the same seed and sizes."""
    words = vocabulary(np.random.default_rng([spec.seed, 0]), spec.pins)
    rng = np.random.default_rng([spec.seed, 1])
    joined = np.sort(0.7 * rng.random(spec.users) ** 2)
    own = _interests(rng, words, spec.users)
    liked = rng.random(spec.users, np.float32)
    user, column = np.nonzero(own >= 0)
    count = len(words.interests)
    fans = Index.of(own[user, column], liked[user], count, user.astype(np.uint32))
    crowd = Index.of(np.zeros(spec.users, np.int64), liked, 1)
    owner, about, opened = _boards(rng, spec, joined, own)
    shelf = Index.of(about, liked[owner] + rng.random(spec.boards, np.float32), count)
    born = np.sort(0.97 * rng.random(spec.pins) ** 1.5)
    topic = words.draw(rng, spec.pins).astype(np.uint16)
    quality = rng.beta(3.0, 2.5, spec.pins).astype(np.float32)
    pins = Index.of(topic, 0.5 * quality + rng.random(spec.pins, np.float32), count)
    return World(spec, words, joined, own, fans, crowd, owner, about, opened, shelf, topic, quality, born, pins)


def _interests(rng: np.random.Generator, words: Vocabulary, users: int) -> NDArray[np.int16]:
    """int16[users, 5]: two to five distinct interests each, mostly of one theme."""
    own = np.full((users, MAX_OWN_INTERESTS), -1, np.int16)
    own[:, 0] = words.draw(rng, users)
    wanted = rng.integers(2, MAX_OWN_INTERESTS + 1, users)
    for column in range(1, MAX_OWN_INTERESTS):
        open_rows = np.flatnonzero(wanted > column)
        while len(open_rows):
            near = rng.random(len(open_rows)) < 0.7
            drawn = np.where(near, words.nearby(rng, own[open_rows, 0]), words.draw(rng, len(open_rows))).astype(
                np.int16
            )
            new = (own[open_rows] != drawn[:, None]).all(axis=1)
            own[open_rows[new], column] = drawn[new]
            open_rows = open_rows[~new]
    return own


def _boards(
    rng: np.random.Generator, spec: Spec, joined: F64, own: NDArray[np.int16]
) -> tuple[U32, NDArray[np.uint16], F64]:
    """Owner, interest and moment of each board: one for each user while they last, then more for the busy."""
    everyone = rng.permutation(spec.users)
    busy = (spec.users * rng.random(max(spec.boards - spec.users, 0)) ** 2).astype(np.int64)
    owner = np.r_[everyone[: spec.boards], everyone[busy]]
    column = (rng.random(spec.boards) * (own[owner] >= 0).sum(axis=1)).astype(np.int64)
    opened = joined[owner] + (1 - joined[owner]) * 0.5 * rng.random(spec.boards) ** 2
    order = np.argsort(opened, kind="stable")
    return owner[order].astype(np.uint32), own[owner, column][order].astype(np.uint16), opened[order]
