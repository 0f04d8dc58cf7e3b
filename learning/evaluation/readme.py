"""The figures of README.md that `make eval` writes: the feeds on Last.fm beside the best baseline."""

from learning.evaluation.lastfm import BASELINES, PAGE
from learning.evaluation.marked import between
from learning.evaluation.result import Row
from learning.evaluation.table import ROOT, Saved, saved

README = ROOT / "README.md"
BEGIN, END = (
    "<!-- made by `make eval` from learning/evaluation/results -->",
    "<!-- end of the figures of `make eval` -->",
)
NDCG, ABOVE = f"ndcg@{PAGE}", "ndcg_above_best_baseline"


def write() -> None:
    """Put the figures of the latest run into README.md. Raises ValueError where README.md has no place for them."""
    if (found := saved("lastfm")) is not None:
        README.write_text(between(README.read_text(), BEGIN, END, sentence(found)))


def sentence(found: Saved) -> str:
    """The figures of Last.fm in words."""
    rows = {row.method: row for row in found.rows}
    picked, home, interest = rows["picked"], rows["home"], rows["interest"]
    best = max((rows[name] for name in BASELINES), key=lambda row: row.metrics[NDCG])
    measured = f"; measured at commit {found.commit}" if found.commit else ""
    return (
        f"Replayed over the last tenth of Last.fm's saves, *picked* has NDCG@{PAGE} {picked.metrics[NDCG]:.3f}, *home*\n"
        f"{home.metrics[NDCG]:.3f} and *interest* {interest.metrics[NDCG]:.3f}, "
        f"against {best.metrics[NDCG]:.3f} of {best.method}. "
        f"The paired differences are\n{_above(picked)}, {_above(home)} and {_above(interest)}{measured}."
    )


def _above(row: Row) -> str:
    low, high = row.intervals[ABOVE]
    return f"{row.metrics[ABOVE]:.3f} ({low:.3f} to {high:.3f})"
