"""What a benchmark found: figures with their targets, as a table, as JSON, and with the machine they were taken on."""

import json
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("grpcio", "numpy", "numba", "rocksdict", "uvloop", "protobuf", "uvicorn")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. value: None where there is none, and `note` says why. target: what it is to reach, at least or at
    most; None: told for information. spread: around the median of the repetitions, their quartiles, or of a few the ends.
    """

    part: str
    what: str
    value: float | None
    unit: str
    target: float | None = None
    at_most: bool = False
    note: str = ""
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target was reached."""
        if self.target is None or self.value is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


def machine() -> dict[str, str]:
    """What this was measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = {
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        }
        model = ", ".join(sorted(names)) or model
    memory = psutil.virtual_memory().total >> 30
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "cpu": f"{psutil.cpu_count()} x {model}",
        "memory": f"{memory + 1} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        **{name: version(name) for name in PACKAGES},
    }


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = Table(box=None, header_style="bold")
    for column in ("part", "what", "measured", "target", ""):
        table.add_column(column, justify="right" if column in ("measured", "target") else "left")
    for f in figures:
        target = "" if f.target is None else f"{'at most' if f.at_most else 'at least'} {f.target:,.6g} {f.unit}"
        met = {None: "", True: "[green]met[/]", False: "[red]MISSED[/]"}[f.met]
        table.add_row(f.part, f.what, _measured(f), target, met)
        if f.note:
            table.add_row("", f"[dim]{f.note}[/]", "", "", "")
    Console().print(table)


def _measured(f: Figure) -> str:
    if f.value is None:
        return "-"
    around = "" if f.spread is None else f" ({_number(f.spread[0])} to {_number(f.spread[1])})"
    return f"{_number(f.value)} {f.unit}{around}"


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def save(figures: Sequence[Figure], only: str) -> Path:
    """Write the JSON file."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{only or 'all'}.json"
    found = [{**asdict(f), "met": f.met} for f in figures]
    path.write_text(json.dumps({"machine": machine(), "figures": found}, indent=1) + "\n")
    return path


def latencies(part: str, what: str, seconds: Sequence[float], p99_ms: float | None) -> list[Figure]:
    """P50 and P99 of a run as figures; the target is the P99's."""
    p50, p99 = np.percentile(seconds, (50, 99)) * 1000
    return [
        Figure(part, f"{what}, P50", float(p50), "ms", note=""),
        Figure(part, f"{what}, P99", float(p99), "ms", p99_ms, at_most=True, note=f"{len(seconds):,} calls"),
    ]
