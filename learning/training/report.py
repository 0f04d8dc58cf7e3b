"""A trained model's report: one HTML file with its figures and plots."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no window, wherever this runs
import numpy as np
from matplotlib.figure import Figure

from learning.training.judge import CUT
from learning.training.train import Trained
from scorpion.layout import MetricMean as Figures
from scorpion.verdict import in_words

IMPORTANT = 20
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .3rem .9rem; text-align: right }
th:first-child, td:first-child { text-align: left } thead th { border-bottom: 2px solid #888 }
tbody tr:nth-child(odd) { background: #f4f4f4 } img { max-width: 100%; height: auto } h2 { margin-top: 2rem }
"""


def write(path: Path, name: str, trained: Trained, inputs: Mapping[str, Any]) -> None:
    """Write the report of a model to a file."""
    parts = [
        f"<h1>Model {html.escape(name)}</h1>",
        f"<p>{trained.booster.num_trees()} trees, objective {html.escape(trained.objective)}; all figures are of a later "
        "period than the one it learned from, on the same rows for every method.</p>",
        _table(("method", "AUC", f"NDCG@{CUT} per request", "AUC per request"), _quality(trained)),
        f"<p>In brackets: 95 % intervals over users. {html.escape(_sentence(in_words(trained.evaluation)))}</p>",
        f"<p>Expected calibration error over ten bins of equal size: {trained.ece:.5f}.</p>",
        "<h2>ROC</h2>",
        _image(roc(trained), "ROC curves of the model and of what needs no model"),
        "<h2>Calibration</h2>",
        _image(calibration(trained), "observed against predicted rate, by bins"),
        f"<h2>Importance</h2><p>Gain of the {IMPORTANT} features that the trees gain most by.</p>",
        _image(importance(trained), "gain by feature"),
        "<h2>Objectives tried</h2>",
        _table(("objective", f"NDCG@{CUT} on validation"), [(k, f"{v:.4f}") for k, v in trained.tried.items()]),
        "<h2>What it learned from</h2>",
        _table(("", "value"), [(key, str(value)) for key, value in inputs.items()]),
    ]
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(name)}</title><style>{STYLE}</style>"
    path.write_text(page + "\n".join(parts) + "</html>\n", encoding="utf-8")


def _quality(trained: Trained) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for method, metrics in trained.evaluation.methods.items():
        auc = trained.quality[method].auc
        rows.append((method, f"{auc:.4f}", _figure(metrics[f"ndcg@{CUT}"]), _figure(metrics["request_auc"])))
    return rows


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _figure(figure: Figures) -> str:
    if figure.value is None:
        return ""
    between = "" if figure.low is None else f" ({figure.low:.4f} to {figure.high:.4f})"
    return f"{figure.value:.4f}{between}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return (
        f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )


def _image(figure: Figure, text: str) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, bbox_inches="tight")
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


def roc(trained: Trained) -> Figure:
    """True over false positive rate, of every method."""
    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    for method, (false, true) in trained.roc.items():
        axes.plot(false, true, label=f"{method} ({trained.quality[method].auc:.3f})", lw=2 if method == "model" else 1)
    axes.plot([0, 1], [0, 1], color="#999", lw=0.8, ls="--")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower right", frameon=False)
    return figure


def calibration(trained: Trained) -> Figure:
    """Observed rate over predicted, on logarithmic axes where all rates are above 0."""
    predicted, observed = trained.calibration
    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    top = max(float(predicted.max()), float(observed.max()), 1e-6) * 1.05
    axes.plot([0, top], [0, top], color="#999", lw=0.8, ls="--", label="perfect")
    axes.plot(predicted, observed, marker="o", label=f"model (error {trained.ece:.4f})")
    axes.set(xlabel="predicted rate", ylabel="observed rate", xlim=(0, top), ylim=(0, top))
    axes.legend(loc="upper left", frameon=False)
    return figure


def importance(trained: Trained) -> Figure:
    """Share of all gain, by feature."""
    gain = np.asarray(trained.booster.feature_importance("gain"), np.float64)
    order = np.argsort(gain, kind="stable")[-IMPORTANT:]
    figure = Figure(figsize=(7, 0.28 * len(order) + 1))
    axes = figure.subplots()
    axes.barh([trained.features[i].name for i in order], gain[order] / max(gain.sum(), 1e-12))
    axes.set(xlabel="share of gain")
    return figure
