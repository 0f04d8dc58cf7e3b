"""The feeds on Last.fm: the pins that they would have shown, against those that people saved next.

The last tenth of the saves by time is held back. For every user and day there, the feeds are asked as of that day, with
all that was strictly before, and so are three baselines; relevant are the pins that the user saved that day and never
before. The model was trained by `learning/training/` on the time before. Dates are whole days (mostly the first of a month), so
a request stands for all that a user did until the next date.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from learning.evaluation.lastfm_history import Tags, history
from learning.evaluation.metrics import hit, interval, ndcg_of, paired
from learning.evaluation.result import Row
from learning.training.events import EventHistory
from learning.training.replay import FEEDS, Replay
from learning.training.samples import Deeds, Wanted, asks, collect
from learning.training.train import Trained, train
from learning.training.views import REPLAYED
from scorpion import registry
from services.core import settings
from services.core.columns import I64, Array
from services.core.events import Action

PART = "lastfm"
HELD = 0.1  # of the saves, the last by time
PAGE = 25
BASELINES = ("most popular", "most recent", "item-KNN")
MODEL = "lastfm"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class UserDay:
    """relevant: int64[m], saved that day and never before; saved: int64[k], ascending, before."""

    at_ms: int
    user: int
    relevant: I64
    saved: I64


def requests(tags: Tags, cut_ms: int, most: int = 0, seed: int = 1) -> list[UserDay]:
    """Every user and day from `cut_ms` on with a pin saved for the first time; at most `most` of them, drawn."""
    found = []
    by_user = np.argsort(tags.user, kind="stable")
    users, starts = np.unique(tags.user[by_user], return_index=True)
    for user, rows in zip(users.tolist(), np.split(by_user, starts[1:]), strict=True):
        for day in np.unique(tags.at_ms[rows]).tolist():
            if day >= cut_ms:
                before = np.unique(tags.pin[rows[tags.at_ms[rows] < day]])
                relevant = np.setdiff1d(tags.pin[rows[tags.at_ms[rows] == day]], before)
                if len(relevant):
                    found.append(UserDay(day, user, relevant, before))
    if most and len(found) > most:
        found = [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:most].tolist()]
    return sorted(found, key=lambda request: (request.at_ms, request.user))


def cut_of(tags: Tags) -> int:
    """The first day of the last tenth."""
    return int(tags.at_ms[int(len(tags) * (1 - HELD))])


class Baselines:
    """Pages of the same size at the same moments, from the saves before them; none has a pin the user has saved."""

    def __init__(self, tags: Tags) -> None:
        self._tags, self._day = tags, -1
        self._size = int(tags.pin.max()) + 1, int(tags.user.max()) + 1
        self._popular = self._recent = np.empty(0)
        self._saves: Any = None
        self._scaled: Any = None

    def at(self, at_ms: int) -> None:
        """Know all that was strictly before."""
        if at_ms == self._day:
            return
        tags, self._day = self._tags, at_ms
        n = int(np.searchsorted(tags.at_ms, at_ms))
        pairs = np.unique(tags.user[:n] << 32 | tags.pin[:n])
        user, pin = pairs >> 32, pairs & 0xFFFFFFFF
        self._popular = np.bincount(pin, minlength=self._size[0]).astype(np.float64)
        self._recent = self._last_saved(n)
        saves = sp.csr_array((np.ones(len(pin)), (user, pin)), shape=(self._size[1], self._size[0]))
        norms = sp.diags_array(1 / np.sqrt(np.maximum(self._popular, 1)))
        self._saves, self._scaled = saves, sp.csr_array(saves @ norms)

    def _last_saved(self, n: int) -> Array:
        """By the last save; of one day by the saves of that day."""
        tags = self._tags
        last = np.zeros(self._size[0])
        np.maximum.at(last, tags.pin[:n], tags.at_ms[:n])
        on_last = tags.at_ms[:n] == last[tags.pin[:n]]
        saves = np.bincount(tags.pin[:n][on_last], minlength=self._size[0])
        return np.asarray(last + saves / (saves.max() + 1.0))

    def page(self, name: str, request: UserDay) -> I64:
        """int64[PAGE] pins, best first."""
        if name == "item-KNN":
            scores = self._neighbours(request)
        else:
            scores = (self._popular if name == "most popular" else self._recent).copy()
        scores[request.saved] = -np.inf
        best: I64 = np.argsort(-scores, kind="stable")[:PAGE]
        return best

    def _neighbours(self, request: UserDay) -> Array:
        """Sum of the cosines with each of the user's pins; where they are equal, and without any, popularity."""
        own = np.zeros(self._size[0])
        own[request.saved] = 1 / np.sqrt(np.maximum(self._popular[request.saved], 1))
        users = self._saves @ own
        return np.asarray(self._scaled.T @ users) + 1e-9 * self._popular


def taught(replay: Replay, past: EventHistory, cut_ms: int, samples: int, folder: Path, progress: Progress) -> Trained:
    """Train on moments before the cut, as `feedmesh model train` does, and serve the model in the replay."""
    wanted = Wanted(requests=samples, until_ms=cut_ms, positive={Action.SAVE: 1.0}, horizon_days=1.0)
    deeds = Deeds(past.events, wanted.positive)
    periods = collect(replay, deeds, asks(past, deeds, wanted), wanted, progress)
    trained = train(periods, progress)
    registry.write(
        folder,
        trained.booster,
        trained.features,
        trained.golden,
        name=MODEL,
        trained_ms=cut_ms,
        metrics=trained.metrics,
    )
    registry.push(folder, replay.views.folder)
    registry.promote(replay.views.folder, MODEL)
    replay.views.models.refresh()
    return trained


def run(folder: Path, progress: Progress = lambda *_: None, most: int = 0, samples: int = 6_000) -> list[Row]:
    """One row a feed and a baseline: hit@25 and NDCG@25 with intervals over requests."""
    tags = Tags(folder)
    cut_ms, everything = cut_of(tags), history(tags)
    wanted = requests(tags, cut_ms, most)
    with (
        tempfile.TemporaryDirectory() as home,
        Replay(everything, Path(home) / "stores", settings.load(None, REPLAYED)) as replay,
    ):
        past = everything.until(cut_ms)
        trained = taught(replay, past, cut_ms, samples, Path(home) / "model", progress)
        answers = answered(replay, wanted, progress)
    answers |= baselines(tags, wanted)
    return [_row(name, answers, wanted, trained) for name in answers]


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one method: pages by request; reach: of the relevant pins, the part among its candidates; seconds in all."""

    pages: Sequence[Array]
    seconds: float
    reach: Array | None = None


def answered(replay: Replay, wanted: Sequence[UserDay], progress: Progress) -> dict[str, Answers]:
    """The pages of the feeds."""
    pages: dict[str, list[Array]] = {feed: [] for feed in FEEDS}
    reach: dict[str, list[float]] = {feed: [] for feed in FEEDS}
    seconds = dict.fromkeys(FEEDS, 0.0)
    for i, request in enumerate(wanted):
        progress("asking the feeds of the last tenth", i, len(wanted))
        replay.advance(request.at_ms)
        for feed in FEEDS:
            began = time.perf_counter()
            candidates, page = replay.answer(feed, request.user, PAGE)
            seconds[feed] += time.perf_counter() - began
            pages[feed].append(page.rows.pin.astype(np.int64))
            reach[feed].append(float(np.isin(request.relevant, candidates.pin.astype(np.int64)).mean()))
    progress("asking the feeds of the last tenth", len(wanted), len(wanted))
    return {feed: Answers(pages[feed], seconds[feed], np.array(reach[feed])) for feed in FEEDS}


def baselines(tags: Tags, wanted: Sequence[UserDay]) -> dict[str, Answers]:
    """The pages of the baselines."""
    known, found = Baselines(tags), {}
    for name in BASELINES:
        began, pages = time.perf_counter(), []
        for request in wanted:
            known.at(request.at_ms)
            pages.append(known.page(name, request))
        found[name] = Answers(pages, time.perf_counter() - began)
    return found


def _row(name: str, answers: Mapping[str, Answers], wanted: Sequence[UserDay], trained: Trained) -> Row:
    own = _values(answers[name], wanted)
    best = max(BASELINES, key=lambda baseline: float(_values(answers[baseline], wanted)["ndcg@25"].mean()))
    metrics = {metric: float(values.mean()) for metric, values in own.items()}
    intervals = {metric: interval(values) for metric, values in own.items()}
    note = f"{len(wanted):,} requests, {np.mean([len(r.saved) > 0 for r in wanted]):.0%} of users with saves before"
    if name in FEEDS:
        against = _values(answers[best], wanted)
        metrics["ndcg_above_best_baseline"] = float((own["ndcg@25"] - against["ndcg@25"]).mean())
        intervals["ndcg_above_best_baseline"] = paired(own["ndcg@25"], against["ndcg@25"])
        note += f"; above {best}, paired; model: {trained.objective}, {trained.booster.num_trees()} trees"
    return Row(PART, name, metrics, intervals, answers[name].seconds, note)


def _values(answers: Answers, wanted: Sequence[UserDay]) -> dict[str, Array]:
    pairs = list(zip(wanted, answers.pages, strict=True))
    found = {
        f"hit@{PAGE}": np.array([hit(request.relevant, page) for request, page in pairs]),
        f"ndcg@{PAGE}": np.array([ndcg_of(request.relevant, page, PAGE) for request, page in pairs]),
    }
    if answers.reach is not None:
        found["recall_of_candidates"] = answers.reach
    return found
