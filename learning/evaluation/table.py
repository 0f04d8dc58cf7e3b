"""The output of `make eval`: a table, a JSON file for each part, and a chart of all parts that have one."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import msgspec

matplotlib.use("Agg")  # no window, wherever this runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from learning.evaluation.result import Row
from learning.evaluation.source import commit_of

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
WRITTEN = ("learning/evaluation/results", "README.md")  # by the evaluation itself
PARTS = ("lastfm", "pinterest", "gowalla", "mind")
CHARTED = 2  # metrics of a part, its first ones

out, err = Console(width=160), Console(stderr=True)


class Saved(msgspec.Struct):
    """A part's JSON file. seconds: all of it; commit: of the code that was measured, "" where it was not noted."""

    part: str
    seconds: float
    rows: list[Row]
    commit: str = ""


def say(text: str) -> None:
    """A progress line."""
    err.print(text, highlight=False, markup=False)


def save(part: str, rows: Sequence[Row], seconds: float) -> Path:
    """Keep a part's rows."""
    RESULTS.mkdir(exist_ok=True)
    content = Saved(part, round(seconds, 1), list(rows), commit_of(ROOT, WRITTEN))
    path = RESULTS / f"{part}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    return path


def saved(part: str) -> Saved | None:
    """The latest results of a part."""
    path = RESULTS / f"{part}.json"
    return msgspec.json.decode(path.read_bytes(), type=Saved) if path.is_file() else None


def show(parts: Sequence[str]) -> None:
    """One table."""
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("part", "method", "metrics, with 95 % intervals", "seconds", "note"):
        table.add_column(column, overflow="fold")
    for part in parts:
        kept = saved(part)
        for i, row in enumerate(kept.rows if kept else []):
            said = "\n".join(_metric(row, name) for name in row.metrics)
            table.add_row(part if i == 0 else "", row.method, said, f"{row.seconds:,.1f}", row.note)
        table.add_section()
    out.print(table, highlight=False)


def _metric(row: Row, name: str) -> str:
    within = row.intervals.get(name)
    return f"{name} {row.metrics[name]:.4f}" + (f" [{within[0]:.4f}, {within[1]:.4f}]" if within else "")


def chart() -> Path:
    """The first metrics of every part that has run, as one picture, and a page with it and all figures."""
    kept = [one for part in PARTS if (one := saved(part)) is not None and one.rows]
    figure = Figure(figsize=(6.5 * CHARTED, sum(0.32 * len(one.rows) + 1.1 for one in kept)), layout="constrained")
    heights = [len(one.rows) + 2 for one in kept]
    grid = figure.subplots(len(kept), CHARTED, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, one in zip(grid, kept, strict=True):
        for place, name in zip(axes, list(one.rows[0].metrics), strict=False):
            _bars(place, one, name)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    (RESULTS / "evaluation.png").write_bytes(data.getvalue())
    page = RESULTS / "evaluation.html"
    page.write_text(_page(data.getvalue(), kept), encoding="utf-8")
    return page


def _bars(axes: Axes, kept: Saved, name: str) -> None:
    rows = [row for row in kept.rows if name in row.metrics][::-1]
    values = [row.metrics[name] for row in rows]
    bounds = [row.intervals.get(name, (value, value)) for row, value in zip(rows, values, strict=True)]
    below = [max(0.0, value - low) for value, (low, _) in zip(values, bounds, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, bounds, strict=True)]
    axes.barh([row.method for row in rows], values, xerr=(below, above), color="#7a9cc6", ecolor="#333", height=0.7)
    axes.set_title(f"{kept.part}: {name}", fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _page(picture: bytes, kept: Sequence[Saved]) -> str:
    lines = []
    for one in kept:
        for row in one.rows:
            metrics = "<br>".join(html.escape(_metric(row, name)) for name in row.metrics)
            cells = (
                html.escape(one.part),
                html.escape(row.method),
                metrics,
                f"{row.seconds:,.1f}",
                html.escape(row.note),
            )
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("part", "method", "metrics, 95 % intervals", "seconds", "note"))
    style = "body{font:14px/1.4 system-ui,sans-serif;margin:2rem}td,th{padding:.3rem .8rem;text-align:left;vertical-align:top}"
    image = base64.b64encode(picture).decode()
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Feedmesh: evaluation</title><style>{style}</style>"
        f'<h1>Evaluation</h1><img alt="metrics by part and method" src="data:image/png;base64,{image}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></html>\n"
    )
