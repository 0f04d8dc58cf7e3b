"""What `feedmesh model train` does: history from the running mesh's log, samples, a model's folder and its report."""

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from scorpion import registry
from scorpion.layout import REPORT
from services.clock import wall_clock
from services.errors import InvalidArgument
from services.mesh import Mesh
from services.settings import Sections
from training import events, report, samples, served
from training.events import History, Progress
from training.replay import Replay
from training.samples import Deeds, Periods, Wanted
from training.train import Trained, train

MODEL = "model"


class Origin(StrEnum):
    """Where samples come from."""

    AUTO = "auto"  # what was served, once there is enough of it
    REPLAY = "replay"
    SERVED = "log-served"


class Made(NamedTuple):
    """folder: the model's, to be pushed; report: an HTML file in it."""

    folder: Path
    report: Path
    trained: Trained
    inputs: Mapping[str, Any]


def run(mesh: Mesh, sections: Sections, name: str, origin: str, wanted: Wanted, progress: Progress) -> Made:
    """Train on the log of a running mesh. Raises InvalidArgument when there is too little to learn from."""
    return made(events.of_mesh(mesh, progress), mesh.data, sections, name, Origin(origin), wanted, progress)


def made(
    history: History, data: Path, sections: Sections, name: str, origin: Origin, wanted: Wanted, progress: Progress
) -> Made:
    """Train on a history and write `<data>/training/<name>-<time>/model`."""
    periods, used = sampled(history, data, sections, origin, wanted, progress)
    trained = train(periods, progress)
    now_ms = wall_clock()
    inputs = described(history, used, wanted, periods, trained)
    out = data / "training" / f"{name}-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%SZ}"
    out.mkdir(parents=True, exist_ok=True)
    registry.write(
        out / MODEL,
        trained.booster,
        trained.features,
        trained.golden,
        name=name,
        trained_ms=now_ms,
        metrics=trained.metrics,
        inputs=inputs,
    )
    report.write(out / MODEL / REPORT, name, trained, inputs)
    return Made(out / MODEL, out / MODEL / REPORT, trained, inputs)


def sampled(
    history: History, data: Path, sections: Sections, origin: Origin, wanted: Wanted, progress: Progress
) -> tuple[Periods, Origin]:
    """The samples, and where they came from."""
    if origin is not Origin.REPLAY:
        periods = served.collect(history, served.models(data), wanted, progress)
        if origin is Origin.SERVED:
            return periods, origin
        if served.enough(periods):
            return periods, Origin.SERVED
    return replayed(history, sections, wanted, progress), Origin.REPLAY


def replayed(history: History, sections: Sections, wanted: Wanted, progress: Progress) -> Periods:
    """The samples of a replay over a temporary folder."""
    if not len(history.events):
        raise InvalidArgument(f"{history.source}: has no events")
    deeds = Deeds(history.events, wanted.positive)
    found = samples.asks(history, deeds, wanted)
    with (
        tempfile.TemporaryDirectory(prefix="feedmesh-replay-") as folder,
        Replay(history, Path(folder), sections) as replay,
    ):
        return samples.collect(replay, deeds, found, wanted, progress)


def described(history: History, origin: Origin, wanted: Wanted, periods: Periods, trained: Trained) -> dict[str, Any]:
    """What the model learned from, for its manifest and report."""
    found: dict[str, Any] = {
        "history": history.source,
        "events": len(history.events),
        "samples": str(origin),
        "horizon_days": wanted.horizon_days,
        "positive": ", ".join(f"{action.name.lower()} {weight:g}" for action, weight in wanted.positive.items()),
        "seed": wanted.seed,
        "objective": trained.objective,
    }
    for name in ("train", "valid", "test"):
        part: samples.Samples = getattr(periods, name)
        found[f"{name}_requests"], found[f"{name}_rows"] = len(part.sizes), len(part)
        found[f"{name}_positives"] = part.positives
        found[f"{name}_from"], found[f"{name}_to"] = _day(part.at_ms.min()), _day(part.at_ms.max())
    return found


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"
