"""The past of MIND's news and users before a request: running counts, ratings and neighbours, and nothing later.

`Past` is fed with requests in order of time and asked for the features of the next one; training and test rows come
from the same single pass. The shown set of a request is known before its clicks are, so features may compare its news
with each other; its clicks count from the next moment on.
"""

from array import array
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils.extmath import randomized_svd

from services.core.columns import I64, Array

HOUR = 3600.0
HALF_LIVES = np.array([0.25, 1.0, 4.0, 16.0, 48.0]) * HOUR
DIMENSIONS = 24  # of users' and news' latent factors
FIRST_FIT = 150  # requests before the first factorisation; then again each time there are 15 % and 100 more


@dataclass(frozen=True, slots=True)
class NewsImpression:
    """One page of news. ts: Unix seconds; news: int64[n] shown; click: float64[n]; history: int64[m] clicked before."""

    ts: int
    user: int
    news: I64
    click: Array
    history: I64


class Past:
    """Requests so far. `apply` one after the other in order of time; `features` of one that is not applied yet."""

    def __init__(self, news: int) -> None:
        self._popularity = Popularity(news)
        self._taste = Taste(news)

    def apply(self, request: NewsImpression) -> None:
        """The request is over: its clicks are known."""
        self._popularity.apply(request)
        self._taste.apply(request)

    def features(self, request: NewsImpression) -> dict[str, Array]:
        """float64[n] by name, for the news shown; the request's own clicks are not read."""
        return {**self._popularity.features(request), **self._taste.features(request)}


class Popularity:
    """Counts of shown and clicked, each news by itself, over all time and fading by several half-lives.

    A click in a request of few news says less than one among many: `expected` adds up the clicks that a news would have
    had if every news of a request were alike, and `lift` is clicks over expected.
    """

    def __init__(self, news: int) -> None:
        self._sums = np.zeros((3, news))  # clicks, shown, expected
        self._fading = np.zeros((3, len(HALF_LIVES), news))  # as of _last
        self._first, self._last, self._clicked = (np.full(news, np.nan) for _ in range(3))

    def apply(self, request: NewsImpression) -> None:
        """Count one request."""
        at, n = request.news, len(request.news)
        added = np.stack([request.click, np.ones(n), np.full(n, request.click.mean())])
        self._fading[:, :, at] = self._fading[:, :, at] * self._faded(at, request.ts) + added[:, None, :]
        self._sums[:, at] += added
        self._first[at] = np.where(np.isnan(self._first[at]), request.ts, self._first[at])
        self._last[at] = request.ts
        self._clicked[at[request.click > 0]] = request.ts

    def _faded(self, at: I64, ts: int) -> Array:
        idle = np.nan_to_num(ts - self._last[at])
        return np.asarray(0.5 ** (idle / HALF_LIVES[:, None]))

    def features(self, request: NewsImpression) -> dict[str, Array]:
        """By name; ages in hours, NaN before a news was first shown."""
        at = request.news
        clicks, shown, expected = self._sums[:, at]
        rate = self._sums[0].sum() / max(self._sums[1].sum(), 1.0)
        found = {"clicks": clicks, "shown": shown}
        found |= {f"ctr_{k}": (clicks + k * rate) / (shown + k) for k in (10, 100)}
        found |= {f"lift_{k}": (clicks + k) / (expected + k) for k in (0.5, 2.0, 5.0)}
        fading = self._fading[:, :, at] * self._faded(at, request.ts)
        for i, half_life in enumerate(HALF_LIVES / HOUR):
            found[f"lift_{half_life:g}h"] = (fading[0, i] + 1) / (fading[2, i] + 1)
            found[f"clicks_{half_life:g}h"] = fading[0, i]
            found[f"shown_{half_life:g}h"] = fading[1, i]
        for name, since in (("first", self._first), ("last", self._last), ("clicked", self._clicked)):
            found[f"since_{name}"] = (request.ts - since[at]) / HOUR
        found["page"] = np.full(len(at), float(len(at)))
        found["history"] = np.full(len(at), float(len(request.history)))
        return found


class Taste:
    """Whether users with a history like this one's clicked a news more than others did.

    Twice: by the news that two histories share (weighted by rarity), and by latent factors of the histories (a
    truncated SVD), which also carry an online rating of each news: softmax over the page of `b + v . user`, one
    gradient step a request (Plackett-Luce with a bilinear term).
    """

    RATE, RATE_FACTORS = 0.3, 1.0  # of the rating's gradient steps

    def __init__(self, news: int) -> None:
        self._requests: list[NewsImpression] = []
        self._held = np.zeros(news)  # histories that hold a news
        self._histories = GrowingMatrix()
        self._users = np.zeros((0, DIMENSIONS))
        self._items = np.zeros((news, DIMENSIONS))
        self._next_fit = FIRST_FIT
        self._b, self._v = np.zeros(news), np.zeros((news, DIMENSIONS))
        self._shows: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))  # of a news, the requests
        self._above: defaultdict[int, array[float]] = defaultdict(lambda: array("d"))  # its click less the expected

    def apply(self, request: NewsImpression) -> None:
        """Learn from one request."""
        own = np.unique(request.history)
        row = len(self._requests)
        if row >= len(self._users):
            self._users = np.concatenate([self._users, np.zeros((max(1000, row), DIMENSIONS))])
        self._users[row] = self._user(own)
        self._rate(request, self._users[row])
        less = request.click - request.click.mean()
        for news, value in zip(request.news.tolist(), less.tolist(), strict=True):
            self._shows[news].append(row)
            self._above[news].append(value)
        self._held[own] += 1
        self._histories.append(own)
        self._requests.append(request)
        if len(self._requests) == self._next_fit:
            self._fit()
            self._next_fit = int(self._next_fit * 1.15) + 100

    def _rate(self, request: NewsImpression, user: Array) -> None:
        if request.click.sum() == 0:
            return
        at = request.news
        score = self._b[at] + self._v[at] @ user
        chance = np.exp(score - score.max())
        step = request.click / request.click.sum() - chance / chance.sum()
        self._b[at] += self.RATE * step
        self._v[at] += self.RATE_FACTORS * step[:, None] * user

    def _rarity(self) -> Array:
        return np.asarray(np.maximum(np.log((len(self._requests) + 1) / (self._held + 1)), 0))

    def _user(self, own: I64) -> Array:
        factors = self._items[own].sum(axis=0)
        return np.asarray(factors / max(float(np.linalg.norm(factors)), 1e-9))

    def _fit(self) -> None:
        """Factors from the histories so far, then the ratings again from the start, in the new factors."""
        n = len(self._requests)
        rarity = self._rarity() * (self._held > 1)
        weighted = self._histories.matrix(len(self._held)) @ sp.diags_array(rarity)
        norms = np.sqrt(weighted.power(2).sum(axis=1))
        scaled = sp.csr_array(sp.diags_array(1 / np.maximum(norms, 1e-9)) @ weighted)
        _, _, factors = randomized_svd(scaled, DIMENSIONS, n_iter=3, power_iteration_normalizer="QR", random_state=0)
        self._items = rarity[:, None] * factors.T
        self._b[:], self._v[:] = 0, 0
        for row, request in enumerate(self._requests[:n]):
            self._users[row] = self._user(np.unique(request.history))
            self._rate(request, self._users[row])

    def features(self, request: NewsImpression) -> dict[str, Array]:
        """By name; zero before there are users to compare with."""
        own, n = np.unique(request.history), len(self._requests)
        user = self._user(own)
        near = np.maximum(self._users[:n] @ user, 0) ** 2
        shared = self._shared(own)
        found = {
            "rating": self._b[request.news],
            "rating_factors": self._v[request.news] @ user,
            "rating_both": self._b[request.news] + self._v[request.news] @ user,
        }
        of, total = self._neighbours(request.news, np.stack([near, shared]))
        for i, (name, smoothing) in enumerate((("near", 1.0), ("shared", 0.05))):
            found[f"{name}_clicks"] = of[i]
            found[f"{name}_lift"] = of[i] / (total[i] + smoothing)
            found[f"{name}_shown"] = total[i]
        return found

    def _shared(self, own: I64) -> Array:
        """float64[requests]: cosine of the histories, news weighted by rarity."""
        if not self._requests or not len(own):
            return np.zeros(len(self._requests))
        squared = self._rarity() ** 2
        asked = np.zeros(len(squared))
        asked[own] = squared[own]
        histories = self._histories.matrix(len(squared))
        both = np.sqrt(histories @ squared) * np.sqrt(asked.sum())
        return np.asarray(histories @ asked / np.maximum(both, 1e-9))

    def _neighbours(self, news: I64, weights: Array) -> tuple[Array, Array]:
        """Of each news, over the requests that showed it: the weighted clicks above expectation, and the weights.

        weights: float64[w, requests]. Two of float64[w, n].
        """
        of, total = np.zeros((2, len(weights), len(news)))
        for i, item in enumerate(news.tolist()):
            if item in self._shows:
                near = weights[:, np.frombuffer(self._shows[item], np.int64)]
                of[:, i], total[:, i] = near @ np.frombuffer(self._above[item], np.float64), near.sum(axis=1)
        return of, total


class GrowingMatrix:
    """A growing sparse matrix of ones."""

    def __init__(self) -> None:
        self._indices: Array = np.zeros(1 << 12, np.int32)
        self._ends: list[int] = [0]

    def append(self, columns: I64) -> None:
        """One more row."""
        end = self._ends[-1] + len(columns)
        if end > len(self._indices):
            self._indices = np.concatenate([self._indices, np.zeros(max(end, len(self._indices)), np.int32)])
        self._indices[self._ends[-1] : end] = columns
        self._ends.append(end)

    def matrix(self, width: int) -> Any:
        """csr_array[rows, width]."""
        end = self._ends[-1]
        return sp.csr_array((np.ones(end), self._indices[:end], self._ends), shape=(len(self._ends) - 1, width))
