"""The plot of growth: cost of a question over the size, one line a part, both axes logarithmic."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench.report import RESULTS

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw(points: Sequence[Any]) -> Path:
    """`results/growth.png`: microseconds of a question at the left, bytes a unit at the right."""
    lines = defaultdict(list)
    for point in points:
        lines[point.part].append(point)
    figure, (cost, kept) = plt.subplots(1, 2, figsize=(13, 5.5))
    for part, found in lines.items():
        sizes = [p.n for p in found]
        [line] = cost.plot(sizes, [p.ask_us for p in found], marker="o", label=f"{part}: {found[0].question}")
        bytes_each = [p.disk_bytes + p.memory_bytes for p in found]
        kept.plot(sizes, bytes_each, marker="o", color=line.get_color(), label=f"{part}, a {found[0].unit}")
    for axes, title in ((cost, "one question, us (median)"), (kept, "bytes kept a unit, disk and memory")):
        axes.set(xscale="log", yscale="log", xlabel="pins, users, edges or events", title=title)
        axes.grid(which="both", alpha=0.2)
        axes.legend(fontsize=7)
    figure.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "growth.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
