"""The frame of all benchmarks: a part that fails stops no other, and the tables are those of the results."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import __main__ as bench
from bench import drawing, report, tables
from bench.parts import PARTS
from bench.report import Figure, PartResults, commit, load, over, save
from bench.summary import SUMMARY

ON = {"cpu": "2 x a core", "memory": "8 GiB", "python": "3.11.0", "commit": "abc", "date": "2026-01-01 00:00:00 UTC"}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go instead."""
    folder, readme = tmp_path / "results", tmp_path / "README.md"
    readme.write_text(f"before\n{tables.BEGIN}\n{tables.END}\nafter\n")
    monkeypatch.setattr(report, "RESULTS", folder)
    monkeypatch.setattr(tables, "README", readme)
    return folder


def measuring(broken: set[str], seen: list[str]) -> Callable[[str, str | None], PartResults]:
    def measure_alone(part: str, _: str | None) -> PartResults:
        seen.append(part)
        if part in broken:
            raise OSError(f"no [room] for {part}\nand more")
        return PartResults(ON, "one thread", [Figure(part, f"a figure of {part}", 2.0, "ms")])

    return measure_alone


def test_a_part_that_fails_is_told_and_keeps_its_results_and_the_others_go_on(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("filters", PartResults(ON, "", [Figure("filters", "of before", 1.0, "ms")]))
    before, seen = (results / "filters.json").read_text(), list[str]()
    monkeypatch.setattr(bench, "measure_alone", measuring({"filters", "plain"}, seen))
    assert bench.main([]) == 1
    assert seen == list(PARTS)
    printed = capsys.readouterr().out
    assert "failed: OSError: no [room] for filters" in printed
    assert "a figure of views" in printed
    assert (results / "filters.json").read_text() == before
    assert {path.stem for path in results.glob("*.json")} == {*PARTS} - {"plain"}
    assert not list(results.glob("*.tmp"))


def test_one_part_writes_what_the_whole_run_writes(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "measure_alone", measuring(set(), []))
    assert bench.main([]) == 0
    of_all = (results / "ingest.json").read_text()
    assert bench.main(["ingest"]) == 0
    assert (results / "ingest.json").read_text() == of_all
    assert json.loads(of_all)["threads"] == "one thread"
    assert json.loads(of_all)["machine"] == ON


def test_what_is_written_is_read_again(results: Path) -> None:
    figures = [
        Figure("ingest", "a", 1.5, "ms", 2, True, "a note", (1.0, 2.0)),
        *over("pins", 1_000, [Figure("ingest", "of 1,000 pins", 1.0, "ms")]),
    ]
    save("ingest", PartResults(ON, "two", figures))
    assert load("ingest") == PartResults(ON, "two", figures)
    assert load("views") is None


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git: apt-get install git")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    ran = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return ran.stdout.strip()


@needs_git
def test_a_commit_is_dirty_when_the_code_has_changed_not_the_results(tmp_path: Path) -> None:
    written = [tmp_path / "bench" / "results" / "a.json", tmp_path / "cli" / "capacity.json"]
    code = tmp_path / "services" / "bloom.py"
    for path in (*written, code, tmp_path / "README.md"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    clean = git(tmp_path, "describe", "--always")
    for path in (*written, tmp_path / "README.md"):
        path.write_text("b")
    (tmp_path / "untracked").touch()
    assert commit(tmp_path) == clean
    code.write_text("b")
    assert commit(tmp_path) == clean, "as it was when it was first asked"
    commit.cache_clear()
    assert commit(tmp_path) == f"{clean}-dirty"


def test_points_of_a_series_say_the_same_but_for_the_size(results: Path) -> None:
    found = []
    for size, value in ((1_000, 1.0), (100, 2.0), (10_000, 9.0)):
        figures = [Figure("ingest", f"asked of {size:,} pins, P50", value, "ms", 5, True)]
        found += over("pins", size, [*figures, Figure("ingest", f"bytes of {size:,} pins", 8.0, "bytes")])
    found.append(Figure("ingest", "without a size", 1.0, "ms"))
    panels = drawing.sweeps(found)
    assert {panel: list(series) for panel, series in panels.items()} == {
        ("pins", "ms"): ["asked of n pins, P50"],
        ("pins", "bytes"): ["bytes of n pins"],
    }
    assert [f.value for f in panels["pins", "ms"]["asked of n pins, P50"]] == [2.0, 1.0, 9.0]
    path = drawing.plot("ingest", found)
    assert path == results / "ingest.png"
    assert path.stat().st_size > 1_000
    assert drawing.plot("views", found[-1:]) is None
    table = tables.sizes({"ingest": PartResults(ON, "one", found)})
    assert "| ms, over pins | 100 | 1,000 | 10,000 |" in table
    assert "| asked of n pins, P50 | 2 | 1 | **9** |" in table
    with pytest.raises(ValueError, match="does not say '7 pins'"):
        over("pins", 7, [Figure("ingest", "asked of 8 pins", 1.0, "ms")])


def test_growth_is_a_line_a_store_and_a_table_of_bytes_a_unit(results: Path) -> None:
    points = [
        SimpleNamespace(part="apiary", unit="follow", question="whom one user follows", n=n,
                        apply_us=3.0, ask_us=ask_us, disk_bytes=15.0, memory_bytes=60.0)
        for n, ask_us in ((10_000, 8.0), (100_000, 5.0))
    ]  # fmt: skip
    figures = [figure for point in points for figure in drawing.grown(point)]
    assert drawing.plot("growth", figures) == results / "growth.png"
    found = {"growth": PartResults(ON, "one", figures)}
    table = tables.sizes(found)
    assert "| apiary: whom one user follows | 8 | 5 |" in table
    assert "| apiary: one follow, in memory | 60 | 60 |" in table
    assert "apiary 8 → 5, polaris not measured" in tables.summary(found)


@pytest.mark.parametrize(
    ("values", "target", "at_most", "spec", "shown"),
    [
        ([26.647], 20, False, "", "26.6"),
        ([35.66], 40, False, "", "**35.7**"),
        ([0.023284], 2, True, "", "0.0233"),
        ([1_853_170, 290_851], None, False, "", "291,000 to 1,850,000"),
        ([8.19, 6.86], None, False, "ends", "8.19 → 6.86"),
        ([65.5], 60, True, "spread", "**65.5 (1 to 2,000)**"),
        ([], None, False, "", tables.ABSENT),
    ],
)
def test_a_cell_shows_three_digits_and_what_missed(
    values: list[float], target: float | None, at_most: bool, spec: str, shown: str
) -> None:
    figures = [Figure("ingest", "a", value, "ms", target, at_most, spread=(1.0, 2_000.0)) for value in values]
    assert format(tables.Cell(values, figures), spec) == shown


def test_the_table_of_the_readme_is_that_of_the_results() -> None:
    text = tables.README.read_text()
    assert tables.inserted(text, tables.summary(tables.everything())) == text, "python -m bench.tables makes it again"
    assert (report.RESULTS / "README.md").read_text() == tables.sizes(tables.everything())


@needs_git
def test_every_row_of_the_readme_was_measured() -> None:
    changed = ["git", "diff", "--quiet", "HEAD", "--", str(report.RESULTS)]
    if subprocess.run(changed, cwd=report.ROOT, check=False).returncode:
        pytest.skip("other results than those that are committed, maybe of some sizes or without peers")
    table = tables.summary(tables.everything())
    assert tables.ABSENT not in table
    assert len(table.splitlines()) == 4 + len(SUMMARY)
