"""The tables that are made of the results: the summary in README.md, and every size in `results/README.md`.

`make bench` writes both when it ends, `python -m bench.tables` without measuring. The figures of a cell are looked up in the JSON
files, so that no figure is typed, and a test holds that the tables are those of the files.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench import report
from bench.drawing import sweeps
from bench.parts import PARTS
from bench.report import ROOT, Figure, PartResults, number
from bench.summary import SUMMARY, Noted, Row
from learning.evaluation.marked import between

BEGIN, END = "<!-- made by `make bench` from bench/results -->", "<!-- end of the table of `make bench` -->"
ABSENT = "not measured"
README = ROOT / "README.md"


class Cell:
    """Some figures as text: one value, or the least and the most of several; in bold where a target was missed.

    Formats: `` the value; `spread` its quartiles behind it; `ends` the value at the first size and at the last.
    """

    def __init__(self, values: list[float], figures: list[Figure]) -> None:
        self._values, self._figures = values, figures

    def __format__(self, spec: str) -> str:
        if not self._values:
            return ABSENT
        low, high = min(self._values), max(self._values)
        if spec == "ends":
            text = f"{_short(self._values[0])} → {_short(self._values[-1])}"
        else:
            text = _short(low) if low == high else f"{_short(low)} to {_short(high)}"
        spread = self._figures[0].spread
        if spec == "spread" and spread:
            text += f" ({_short(spread[0])} to {_short(spread[1])})"
        missed = any(_missed(f, value) for f, value in zip(self._figures, self._values, strict=True))
        return f"**{text}**" if missed else text


def summary(found: Mapping[str, PartResults]) -> str:
    """The table of README.md."""
    lines = [_machines(found), "", "| part | what | target | measured |", "|---|---|---|---|"]
    before = ""
    for row in SUMMARY:
        part = "" if row.part == before else f" `{row.part}`"
        lines.append(f"|{part} | {row.what} | {row.target or '-'} | {_measured(row, found)} |")
        before = row.part
    return "\n".join(lines)


def sizes(found: Mapping[str, PartResults]) -> str:
    """`results/README.md`: the machine of every part, and its figures over sizes."""
    lines = ["# Results", "", "Made by `make bench` from the JSON files beside it, which have every figure with",
             "its spread and target, and the versions. Missed targets are in bold.", "",
             "| part | began | commit | load before | threads |", "|---|---|---|---|---|"]  # fmt: skip
    for part, of in found.items():
        on = of.machine
        lines.append(f"| [{part}]({part}.json) | {on['date']} | {on['commit']} | {on.get('load', '')} | {of.threads} |")
    for part, of in found.items():
        panels = sweeps(of.figures)
        if panels:
            lines += ["", f"## {part}", f"![cost over size]({part}.png)"]
        for (counted, unit), series in panels.items():
            lines += ["", *_table(counted, unit, series)]
    return "\n".join(lines) + "\n"


def write() -> list[Path]:
    """Both tables; where they are."""
    found = everything()
    path = report.RESULTS / "README.md"
    path.write_text(sizes(found))
    README.write_text(inserted(README.read_text(), summary(found)))
    return [path, README]


def everything() -> dict[str, PartResults]:
    """The latest results, by part."""
    found = {part: report.load(part) for part in PARTS}
    return {part: of for part, of in found.items() if of}


def inserted(text: str, table: str) -> str:
    """The text with the table between its marks. Raises ValueError where it has none."""
    return between(text, BEGIN, END, table)


def _machines(found: Mapping[str, PartResults]) -> str:
    machines = sorted(
        {f"{of.machine['cpu']}, {of.machine['memory']}, Python {of.machine['python']}" for of in found.values()}
    )
    dates = sorted(of.machine["date"] for of in found.values())
    when = f"from {dates[0][:16]} to {dates[-1][:16]} UTC" if dates else ABSENT
    return f"On {'; '.join(machines) or 'no machine'}, {when}. Missed targets are in bold; `→`: the first size to the last."


def _measured(row: Row, found: Mapping[str, PartResults]) -> str:
    of = found.get(row.part)
    figures = of.figures if of else []
    return row.measured.format(*(_cell(wanted, figures) for wanted in row.figures))


def _cell(wanted: str | Noted, figures: list[Figure]) -> Cell:
    pattern = wanted if isinstance(wanted, str) else wanted.what
    matched = [f for f in figures if re.fullmatch(pattern, f.what) and f.value is not None]
    if isinstance(wanted, str):
        return Cell([f.value for f in matched if f.value is not None], matched)
    noted = [re.search(rf"{wanted.phrase} ([\d.,]*\d)", f.note) for f in matched]
    shown = [(float(text[1].replace(",", "")), f) for text, f in zip(noted, matched, strict=True) if text]
    return Cell([value for value, _ in shown], [replace(f, target=None, spread=None) for _, f in shown])


def _table(of: str, unit: str, series: Mapping[str, list[Figure]]) -> list[str]:
    columns = sorted({f.size for points in series.values() for f in points if f.size is not None})
    lines = [f"| {unit}, over {of} | " + " | ".join(f"{size:,}" for size in columns) + " |",
             "|---" + "|--:" * len(columns) + "|"]  # fmt: skip
    for name, points in series.items():
        at = {f.size: f for f in points}
        cells = [_bold(at[size]) if size in at else "" for size in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _bold(f: Figure) -> str:
    text = number(f.value or 0.0)
    return f"**{text}**" if f.met is False else text


def _missed(f: Figure, value: float) -> bool:
    return f.target is not None and (value > f.target if f.at_most else value < f.target)


def _short(value: float) -> str:
    """To three digits: 0.0233, 9.81, 1,850,000."""
    return f"{float(f'{value:.3g}'):,.10g}"


if __name__ == "__main__":
    print(*write(), sep="\n")
