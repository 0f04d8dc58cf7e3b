"""The findings of a benchmark: figures with their targets, as a table and as JSON, and the machine that they were taken on."""

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from learning.evaluation.source import commit_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("grpcio", "numpy", "numba", "scipy", "lightgbm", "rocksdict", "uvloop", "protobuf", "uvicorn")
WRITTEN = ("bench/results", "docs/images", "cli/capacity.json", "README.md")  # by the benchmark itself


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. value: None where there is none, and `note` says why. target: the value to reach, at least or at
    most; None: reported for information. spread: around the median of the repetitions, their quartiles, or of a few the ends.
    series, size, of: the quantity that is measured at several sizes, the size of this one, and its unit (`over` states them).
    """

    part: str
    what: str
    value: float | None
    unit: str
    target: float | None = None
    at_most: bool = False
    note: str = ""
    spread: tuple[float, float] | None = None
    series: str = ""
    size: int | None = None
    of: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target was reached."""
        if self.target is None or self.value is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


@dataclass(frozen=True, slots=True)
class PartResults:
    """The results of a part. machine: the one that it ran on, as it was before the part began."""

    machine: dict[str, str]
    threads: str
    figures: list[Figure]


def over(of: str, size: int, figures: Iterable[Figure], said: str = "") -> list[Figure]:
    """The figures as points of series: those that say the same but for the size are one line of a plot.

    of: the unit of sizes. said: the words of each figure that state the size, `1,000 of` unless given. Raises ValueError
    where a figure does not have them.
    """
    said, points = said or f"{size:,} {of}", []
    for f in figures:
        if said not in f.what:
            raise ValueError(f"{f.what!r} does not say {said!r}")
        points.append(replace(f, series=f.what.replace(said, f"n {of}"), size=size, of=of))
    return points


def machine() -> dict[str, str]:
    """The machine, the commit and the versions, as they are now."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = {
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        }
        model = ", ".join(sorted(names)) or model
    memory = psutil.virtual_memory().total >> 30
    return {
        "cpu": f"{psutil.cpu_count()} x {model}",
        "memory": f"{memory + 1} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        **{name: version(name) for name in PACKAGES},
    }


@cache
def commit(root: Path = ROOT) -> str:
    """The commit, `-dirty` where the measured code has changed since; as it was when this process first asked.

    Files that the benchmark writes do not count: one part's results say nothing of the code of the next.
    """
    return commit_of(root, WRITTEN) or "unknown"


def failed(part: str, error: BaseException) -> Figure:
    """The row of a part that raised."""
    reason = str(error).strip().splitlines() or [""]
    return Figure(part, f"failed: {type(error).__name__}: {reason[0]}".rstrip(": "), None, "")


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = Table(box=None, header_style="bold")
    for column in ("part", "what", "measured", "target", ""):
        table.add_column(column, justify="right" if column in ("measured", "target") else "left")
    for f in figures:
        target = "" if f.target is None else f"{'at most' if f.at_most else 'at least'} {f.target:,.6g} {f.unit}"
        met = {None: "", True: "[green]met[/]", False: "[red]MISSED[/]"}[f.met]
        table.add_row(f.part, escape(f.what), _measured(f), target, met)
        if f.note:
            table.add_row("", f"[dim]{escape(f.note)}[/]", "", "", "")
    Console().print(table)


def _measured(f: Figure) -> str:
    if f.value is None:
        return "-"
    around = "" if f.spread is None else f" ({number(f.spread[0])} to {number(f.spread[1])})"
    return f"{number(f.value)} {f.unit}{around}"


def number(value: float) -> str:
    """To four digits, or to the whole number."""
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def save(part: str, measured: PartResults) -> Path:
    """Write the JSON file of a part, whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{part}.json"
    found = [{**asdict(f), "met": f.met} for f in measured.figures]
    content = {"machine": measured.machine, "threads": measured.threads, "figures": found}
    new = path.with_suffix(".json.tmp")
    new.write_text(json.dumps(content, indent=1) + "\n")
    new.replace(path)
    return path


def load(part: str) -> PartResults | None:
    """The latest results of a part; None where it was never measured."""
    path = RESULTS / f"{part}.json"
    if not path.exists():
        return None
    content, known = json.loads(path.read_text()), {field.name for field in fields(Figure)}
    rows = [{name: value for name, value in row.items() if name in known} for row in content["figures"]]
    figures = [Figure(**{**row, "spread": tuple(row["spread"]) if row.get("spread") else None}) for row in rows]
    return PartResults(content["machine"], content.get("threads", ""), figures)
