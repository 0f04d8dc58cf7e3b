"""The files of `make eval`: figures with the commit that was measured, and the chart under the name that documents link to."""

from pathlib import Path

import pytest

from learning.evaluation import readme, table
from learning.evaluation.lastfm import BASELINES, PAGE
from learning.evaluation.marked import between
from learning.evaluation.result import Row

NDCG, ABOVE = f"ndcg@{PAGE}", "ndcg_above_best_baseline"


def row(method: str, ndcg: float, above: float | None = None) -> Row:
    metrics = {NDCG: ndcg} | ({} if above is None else {ABOVE: above})
    return Row("lastfm", method, metrics, {} if above is None else {ABOVE: (above - 0.01, above + 0.01)})


ROWS = [row("picked", 0.0712, 0.0112), row("home", 0.0698, 0.0127), row("interest", 0.0475, -0.0152)] + [
    row(method, 0.05 + i / 200) for i, method in enumerate(BASELINES)
]


def test_a_part_is_kept_with_the_commit_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "commit_of", lambda root, written: "0123abc")
    assert table.saved("lastfm") is None
    table.save("lastfm", ROWS, 1.23)
    found = table.saved("lastfm")
    assert found is not None
    assert (found.rows, found.seconds, found.commit) == (ROWS, 1.2, "0123abc")
    assert table.chart() == tmp_path / "evaluation.html"
    assert {path.name for path in tmp_path.iterdir()} == {"lastfm.json", "evaluation.png", "evaluation.html"}
    linked = (table.ROOT / "README.md").read_text() + (table.ROOT / "learning/evaluation/README.md").read_text()
    assert "results/evaluation.png" in linked


def test_the_sentence_of_the_readme_names_the_best_baseline_the_feed_below_it_and_the_commit() -> None:
    said = readme.sentence(table.Saved("lastfm", 1.0, ROWS, "0123abc"))
    assert "*picked* has NDCG@25 0.071, *home*\n0.070 and *interest* 0.048, against 0.060 of item-KNN" in said
    assert (
        "0.011 (0.001 to 0.021), 0.013 (0.003 to 0.023) and -0.015 (-0.025 to -0.005); measured at commit 0123abc."
        in said
    )
    assert readme.sentence(table.Saved("lastfm", 1.0, ROWS)).endswith("-0.015 (-0.025 to -0.005).")


def test_a_made_part_goes_between_its_marks_or_nowhere() -> None:
    assert between("a <b> old <e> z", "<b>", "<e>", "new") == "a <b>\nnew\n<e> z"
    with pytest.raises(ValueError, match="no place"):
        between("a <b> z", "<b>", "<e>", "new")
