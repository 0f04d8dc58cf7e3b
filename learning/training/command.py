"""The steps of `feedmesh model train`: history from the running mesh's log, samples, a model's folder and its report."""

import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import psutil

from learning.training import enough, events, judge, report, samples, served
from learning.training.events import EventHistory, Progress
from learning.training.neighbours import Neighbours
from learning.training.replay import Replay
from learning.training.samples import Deeds, Periods, Samples, Wanted
from learning.training.serving import Serving, compared
from learning.training.train import Trained, check, train
from scorpion import registry
from scorpion.layout import REPORT, Evaluation
from scorpion.verdict import in_words
from services.core.clock import wall_clock
from services.core.errors import TooLittle
from services.core.settings import Sections
from services.rpc.mesh import Mesh

MODEL = "model"
REPLAYS = "feedmesh-replay-"


class SampleOrigin(StrEnum):
    """Where samples come from."""

    AUTO = "auto"  # served pages, once there are enough
    REPLAY = "replay"
    SERVED = "log-served"


class TrainedModel(NamedTuple):
    """folder: the model's, to be pushed; report: an HTML file in it; without: requests that had no candidates."""

    folder: Path
    report: Path
    trained: Trained
    inputs: Mapping[str, Any]
    without: int

    @property
    def evaluation(self) -> Evaluation:
        """How it did beside the baselines."""
        return self.trained.evaluation


def run(mesh: Mesh, sections: Sections, name: str, origin: str, wanted: Wanted, progress: Progress) -> TrainedModel:
    """Train on the log of a running mesh. Raises TooLittle when there is too little to learn from."""
    registry.check_name(name, "--name")  # before the log is read
    return made(events.of_mesh(mesh, progress), mesh.data, sections, name, SampleOrigin(origin), wanted, progress)


def made(
    history: EventHistory,
    data: Path,
    sections: Sections,
    name: str,
    origin: SampleOrigin,
    wanted: Wanted,
    progress: Progress,
) -> TrainedModel:
    """Train on a history and write `<data>/training/<name>-<time>/model`."""
    now = registry.serving(data)
    periods, used = sampled(history, data, sections, origin, wanted, progress)
    check(periods)
    neighbours = Neighbours(history.events, wanted.positive).scores(periods.test)
    trained = train(periods, progress, others={judge.NEIGHBOURS: neighbours})
    if now is not None:
        trained = _beside(trained, Serving(*now), periods.test, used)
    now_ms = wall_clock()
    inputs = described(history, used, wanted, periods, trained)
    out = _folder(data / "training", f"{name}-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%SZ}")
    registry.write(
        out / MODEL,
        trained.booster,
        trained.features,
        trained.golden,
        name=name,
        trained_ms=now_ms,
        metrics=trained.metrics,
        inputs=inputs,
        evaluation=trained.evaluation,
    )
    report.write(out / MODEL / REPORT, name, trained, inputs)
    return TrainedModel(out / MODEL, out / MODEL / REPORT, trained, inputs, periods.without)


def _folder(training: Path, name: str) -> Path:
    """A new folder of this name, or with a number behind it where another training has made one in the same second."""
    for number in itertools.count(1):
        path = training / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise AssertionError


def _beside(trained: Trained, serving: Serving, test: Samples, used: SampleOrigin) -> Trained:
    """With how it did beside the model that serves."""
    scores = np.asarray(trained.booster.predict(test.rows), np.float64)
    found = compared(test, scores, serving, seen=used is SampleOrigin.SERVED)
    evaluation = msgspec.structs.replace(trained.evaluation, serving=found)
    evaluation.words = in_words(evaluation)
    return replace(trained, evaluation=evaluation)


def sampled(
    history: EventHistory, data: Path, sections: Sections, origin: SampleOrigin, wanted: Wanted, progress: Progress
) -> tuple[Periods, SampleOrigin]:
    """The samples, and where they came from."""
    if origin is not SampleOrigin.REPLAY:
        periods = served.collect(history, served.models(data), wanted, progress)
        if origin is SampleOrigin.SERVED:
            return periods, origin
        if served.enough(periods):
            return periods, SampleOrigin.SERVED
    with _quietly():
        return replayed(history, sections, wanted, progress), SampleOrigin.REPLAY


@contextmanager
def _quietly() -> Iterator[None]:
    """A replay counts the moments without candidates; the stages that had nothing to find need not be named each time."""
    stages = logging.getLogger("feedgen.attempt")
    level = stages.level
    stages.setLevel(logging.ERROR)
    try:
        yield
    finally:
        stages.setLevel(level)


def replayed(history: EventHistory, sections: Sections, wanted: Wanted, progress: Progress) -> Periods:
    """The samples of a replay over a temporary folder."""
    if not len(history.events):
        raise TooLittle(f"{history.source}: has no events")
    deeds = Deeds(history.events, wanted.positive)
    enough.check(history, deeds, wanted)
    found = samples.asks(history, deeds, wanted)
    sweep(Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(prefix=f"{REPLAYS}{os.getpid()}-") as folder,
        Replay(history, Path(folder), sections) as replay,
    ):
        return samples.collect(replay, deeds, found, wanted, progress)


def sweep(folder: Path) -> None:
    """Remove what replays have left there that were killed: each folder names its process."""
    for path in folder.glob(f"{REPLAYS}*"):
        process = path.name.removeprefix(REPLAYS).split("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def described(
    history: EventHistory, origin: SampleOrigin, wanted: Wanted, periods: Periods, trained: Trained
) -> dict[str, Any]:
    """The origin of the model's samples, for its manifest and report."""
    found: dict[str, Any] = {
        "history": history.source,
        "events": len(history.events),
        "samples": str(origin),
        "horizon_days": wanted.horizon_days,
        "positive": ", ".join(f"{action.name.lower()} {weight:g}" for action, weight in wanted.positive.items()),
        "seed": wanted.seed,
        "objective": trained.objective,
        "requests_without_candidates": periods.without,
    }
    for name in ("train", "valid", "test"):
        part: samples.Samples = getattr(periods, name)
        found[f"{name}_requests"], found[f"{name}_rows"] = len(part.sizes), len(part)
        found[f"{name}_positives"] = part.positives
        found[f"{name}_from"], found[f"{name}_to"] = _day(part.at_ms.min()), _day(part.at_ms.max())
    return found


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"
