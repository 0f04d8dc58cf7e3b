"""Two or more sides of a comparison: answers first, then times, repetitions in alternation, the same cores for all.

Ours runs in this process, a peer in a process of its own environment; only one of them works at a time. The report has
the median of the repetitions and the quartiles around it.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bench.report import Figure
from services.core.columns import Array

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = ROOT / ".peers"
CORE = max(os.sched_getaffinity(0))
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")}


class Absent(RuntimeError):
    """The peer is not installed, or does not run here; the message says why."""


class Spread(NamedTuple):
    """Seconds of one operation: the median of the repetitions, and the quartiles."""

    median: float
    low: float
    high: float


class Side(Protocol):
    """One side of a comparison."""

    name: str
    about: str

    def answer(self, operation: str) -> Array: ...

    def seconds(self, operation: str, times: int) -> float: ...

    def close(self) -> None: ...


class Ours:
    """A side in this process: operations by name."""

    def __init__(self, name: str, work: Mapping[str, Callable[[], Any]], about: str = "") -> None:
        self.name, self.about, self._work = name, about, work

    def answer(self, operation: str) -> Array:
        """The result of the operation, as an array."""
        return np.asarray(self._work[operation]())

    def seconds(self, operation: str, times: int) -> float:
        """Of one run, over so many."""
        work = self._work[operation]
        began = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - began) / times

    def close(self) -> None:
        """Nothing is held."""


class Peer:
    """A side in the environment `.peers/<name>`: the module of `bench.peers.sides` that knows how to run it."""

    def __init__(self, name: str, module: str, folder: Path, cores: Sequence[int] = (CORE,)) -> None:
        """Starts it and waits until it has read its input. Raises Absent with the reason."""
        self.name = name
        python = PEERS / name / "bin" / "python"
        if not (PEERS / name / "made").exists():
            reason = PEERS / name / "absent"
            raise Absent(reason.read_text().strip() if reason.exists() else "not installed: make bench-peers")
        self.about = _installed(PEERS / name, name)
        command = [str(python), "-m", f"bench.peers.sides.{module}", name, str(folder), ",".join(map(str, cores))]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.opened_s = float(self._reply()["opened_s"])

    def answer(self, operation: str) -> Array:
        """The result of the operation, as an array."""
        return np.asarray(np.load(self._ask({"do": "answer", "operation": operation})["saved"]))

    def seconds(self, operation: str, times: int) -> float:
        """Of one run, over so many, by the peer's own clock: asking is not counted."""
        return float(self._ask({"do": "time", "operation": operation, "times": times})["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"error": "it ended without an answer"}
        if "error" in reply:
            self.close()
            raise Absent(f"installed, but does not run: {reply['error']}")
        return reply


def opened(part: str, names: Sequence[str], module: str, folder: Path) -> tuple[list[Side], list[Figure]]:
    """The peers that run here, and a figure without a value for each that does not."""
    sides: list[Side] = []
    away: list[Figure] = []
    for name in names:
        try:
            sides.append(Peer(name, module, folder))
        except Absent as reason:
            away.append(Figure(part, f"{name}: absent", None, "", note=str(reason)))
    return sides, away


def interleaved(sides: Sequence[Side], operation: str, rounds: int = 15, times: int = 1) -> dict[str, Spread]:
    """Seconds of the operation on each side: A B A B ..., after two rounds of warm-up that are not counted."""
    taken: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(rounds + 2):
        for side in sides:
            seconds = side.seconds(operation, times)
            if turn >= 2:
                taken[side.name].append(seconds)
    return {name: Spread(*(float(x) for x in np.percentile(found, (50, 25, 75)))) for name, found in taken.items()}


def compared(
    part: str,
    what: str,
    sides: Sequence[Side],
    operation: str,
    *,
    per: float = 1.0,
    unit: str = "ms",
    least: Mapping[str, float] | None = None,
    rounds: int = 15,
    times: int = 1,
) -> list[Figure]:
    """Figures of an operation: each side's time over `per` (items of a call), and how many times ours, the first, is faster.

    unit: of the times, ms, us or ns. least: targets of the ratios, by peer.
    """
    scale = {"ms": 1e3, "us": 1e6, "ns": 1e9}[unit] / per
    found = interleaved(sides, operation, rounds, times)
    figures = []
    for side in sides:
        spread = found[side.name]
        quartiles = (spread.low * scale, spread.high * scale)
        figures.append(
            Figure(part, f"{what}, {side.name}", spread.median * scale, unit, note=side.about, spread=quartiles)
        )
    ours = found[sides[0].name].median
    for side in sides[1:]:
        ratio, target = found[side.name].median / ours, (least or {}).get(side.name)
        figures.append(Figure(part, f"{what}, times as fast as {side.name}", ratio, "times", target))
    return figures


def pinned() -> int:
    """Pin this process to the core that the peers are pinned to; which."""
    os.sched_setaffinity(0, {CORE})
    return CORE


def _installed(folder: Path, name: str) -> str:
    """`name version` as the environment has it."""
    wanted = name.replace("-", "_").lower()
    for path in folder.glob("lib/python3*/site-packages/*.dist-info"):
        of = PathDistribution(path)
        if of.metadata["Name"].replace("-", "_").lower() == wanted:
            return f"{name} {of.version}, one thread"
    return f"{name}, one thread"
