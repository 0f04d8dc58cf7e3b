"""The plots of a part's costs as the work grows: a line a series, both axes logarithmic, a panel for each unit."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench import report
from bench.report import Figure

mpl.use("Agg")
from matplotlib import pyplot as plt

GROWN = "pins, users, edges or events"


def sweeps(figures: Sequence[Figure]) -> dict[tuple[str, str], dict[str, list[Figure]]]:
    """By the unit of sizes and of values: series by name, each in the order of its sizes. Only those of two sizes or more."""
    lines: defaultdict[tuple[str, str], defaultdict[str, list[Figure]]] = defaultdict(lambda: defaultdict(list))
    for f in figures:
        if f.size is not None and f.value is not None:
            lines[f.of, f.unit][f.series].append(f)
    found = {
        panel: {name: sorted(points, key=lambda f: f.size or 0) for name, points in series.items() if len(points) > 1}
        for panel, series in lines.items()
    }
    return {panel: series for panel, series in found.items() if series}


def plot(part: str, figures: Sequence[Figure]) -> Path | None:
    """`results/<part>.png`; None where nothing was measured at several sizes."""
    panels = sweeps(figures)
    if not panels:
        return None
    figure, rows = plt.subplots(len(panels), 1, figsize=(11, 4 * len(panels)), squeeze=False, layout="constrained")
    for axes, ((of, unit), series) in zip(rows[:, 0], panels.items(), strict=True):
        for name, points in series.items():
            axes.plot([f.size for f in points], [f.value for f in points], marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel=of, ylabel=unit)
        _at_least_a_decade(axes)
        axes.grid(which="both", alpha=0.2)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    report.RESULTS.mkdir(exist_ok=True)
    path = report.RESULTS / f"{part}.png"
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)
    return path


def _at_least_a_decade(axes: Any) -> None:
    """So that a flat line looks flat."""
    low, high = axes.get_ylim()
    short = 10 / (high / low)
    if short > 1:
        axes.set_ylim(low / short**0.5, high * short**0.5)


def grown(of: Any) -> list[Figure]:
    """Figures of a `growth.Point`: the cost of a question and of writing a unit, and the bytes of a unit."""
    shown = (
        (f": {of.question}", of.ask_us, "us"),
        (f": one {of.unit} written", of.apply_us, "us of CPU"),
        (f": one {of.unit}, on disk", of.disk_bytes, "bytes on disk"),
        (f": one {of.unit}, in memory", of.memory_bytes, "bytes in memory"),
    )
    at = f"{of.part}, {of.n:,} {of.unit}s"
    return [
        Figure("growth", at + what, value, unit, series=of.part + what, size=of.n, of=GROWN)
        for what, value, unit in shown
    ]
