"""The mesh beside the plain stack: one after the other in one run, with the same world, the same readers and both cores.

First both are checked to give the same pages (`agreeing.py`); when they do not, nothing is timed. Then CPU of a page at a
low rate, in alternation, and the highest rate at which P99 stays within the limit.
"""

import os
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import uvloop

from bench import mesh
from bench.mesh import CANDIDATES, LASTFM, LEAVES, TREES, USERS
from bench.peers.pairing import Absent
from bench.plain import agreeing, stack, world
from bench.readers import Read, read
from bench.report import Figure
from bench.stages import CLIENT, cpu_ms, of_a_page, pids
from scorpion.layout import TEXT
from services.core.columns import U64
from services.core.events import Action
from tests.running import Running

PART = "plain"
P99_MS, LEAST_RATIO = 100.0, 5.0
CPU_RATE, CPU_S, ROUNDS = 6, 10, 5
FIRST_RATE, GROWS, TRIAL_S, WARM_S, HALVINGS = 4.0, 2.0, 10.0, 2.0, 4
WALKED_FROM = (0, 5, 50, 300, 1_000)  # pins by the number of their boards, from which walks are compared
FEW = 0.02  # of the pages of a trial, that may fail or be degraded


class Side(NamedTuple):
    """One of the two. pids: of its processes, and of the client."""

    name: str
    url: str
    pids: Mapping[str, int]


def measure(data: str | None) -> list[Figure]:
    """Figures, or one without a value where Last.fm or the plain stack's parts are not there."""
    lastfm = Path(data) if data else LASTFM
    try:
        stack.needed()
    except Absent as reason:
        return [Figure(PART, "plain stack: absent", None, "", note=str(reason))]
    if not lastfm.exists():
        return [Figure(PART, "plain stack: absent", None, "", note=f"{lastfm}: not there, and it knows no other data")]
    with mesh.world(data) as (running, home, _):
        mesh.promote(home, running)
        for name in ("events", "plain"):
            (home / name).mkdir()
        world.export(running.mesh, home / "events")
        with stack.running(home / "events", home / "model" / TEXT, CANDIDATES, home / "plain") as plain:
            checked = _checked(running, plain.url, home / "events")
            ours = Side("feedmesh", running.url, pids(running))
            theirs = Side("plain stack", plain.url, {**plain.pids, CLIENT: os.getpid()})
            return [*checked, *_compared(ours, theirs)]


def _checked(running: Running, url: str, events: Path) -> list[Figure]:
    """Raises Disagreed."""
    with np.load(events / "sources.npz") as found:
        saves = found["action"] == Action.SAVE
        edges = np.unique(np.stack([found["pin"][saves], found["board"][saves]]), axis=1)
    with np.load(events / "objects.npz") as found:
        everything: U64 = np.unique(found["pin"][found["action"] == Action.CREATE_PIN])
    pins, boards = np.unique(edges[0], return_counts=True)
    walked_from = pins[np.argsort(-boards, kind="stable")][list(WALKED_FROM)].tolist()
    walks = agreeing.same_walks(running.mesh, (edges[0], edges[1]), walked_from)
    users = USERS[: agreeing.USERS]
    pages = agreeing.same_pages(running.mesh, running.url, url, users, everything)
    note = "every pin with its words and score, given where the walks went and the rejections of the filter"
    what = f"{TREES} trees of {LEAVES} leaves, first pages of {len(users)} users and those after them"
    return [
        Figure(PART, f"pages that are the same, {what}", pages, "pages", note=note),
        Figure(PART, "walks beside the mesh's, single steps: chi-square, p", walks.p, "", agreeing.LEAST_P),
        Figure(PART, "walks with restarts: Spearman's rank correlation", walks.rank, "", agreeing.LEAST_RANK),
    ]


def _compared(ours: Side, theirs: Side) -> list[Figure]:
    figures, cpu, rates = [], _cpu(ours, theirs), {}
    for side in (ours, theirs):
        totals = [sum(of.values()) for of in cpu[side.name]]
        low, median, high = np.percentile(totals, (25, 50, 75))
        by_process = _by_process(cpu[side.name])
        figures.append(
            Figure(PART, f"CPU of a home page, {side.name} and the client", float(median), "ms", note=by_process,
                   spread=(float(low), float(high)))
        )  # fmt: skip
        rates[side.name] = highest(partial(_p99_ms, side.url))
    what = f"home pages a second until P99 is over {P99_MS:.0f} ms"
    for name, rate in rates.items():
        note = "" if rate else f"over it at {FIRST_RATE:.0f} pages/s already"
        figures.append(Figure(PART, f"{what}, {name}", rate or None, "pages/s", note=note))
    one, other = (rates[side.name] for side in (ours, theirs))
    cpus = [statistics.median(sum(of.values()) for of in cpu[side.name]) for side in (ours, theirs)]
    return [
        *figures,
        Figure(PART, f"{what}, times the plain stack", one / other if other else None, "times", LEAST_RATIO),
        Figure(PART, "CPU of a home page, times the mesh's that the plain stack takes", cpus[1] / cpus[0], "times"),
    ]


def _by_process(rounds: list[dict[str, float]]) -> str:
    medians = {name: statistics.median(of[name] for of in rounds) for name in rounds[0]}
    shown = sorted(medians.items(), key=lambda of: -of[1])
    return ", ".join(f"{name} {ms:.2g}" for name, ms in shown if ms >= 0.01)


def _cpu(*sides: Side) -> dict[str, list[dict[str, float]]]:
    """ms by process of a page, of alternating rounds; the first round warms up and is left out."""
    found: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    for turn in range(ROUNDS + 1):
        for side in sides:
            of = of_a_page(partial(cpu_ms, side.pids), partial(_pages, side.url), idle_s=2.0)
            if turn:
                found[side.name].append(of)
    return found


def _pages(url: str) -> int:
    found = uvloop.run(read(url, "home", USERS, CPU_RATE, CPU_S))
    if found.failed > FEW * len(found.waited):
        raise RuntimeError(f"{found.failed} of {len(found.waited)} pages of {url} failed")
    return len(found.waited)


def _p99_ms(url: str, rate: float) -> float:
    """Of readers that come at this rate; without end when pages fail, or are not whole: fallback pages come soon."""
    uvloop.run(read(url, "home", USERS, rate, WARM_S))
    found: Read = uvloop.run(read(url, "home", USERS, rate, TRIAL_S))
    if found.failed + found.degraded > FEW * len(found.waited) or not found.waited:
        return float("inf")
    return float(np.percentile(found.waited, 99) * 1_000)


def highest(p99_ms: Callable[[float], float]) -> float:
    """The highest rate whose P99 is within the limit, to a sixteenth: twice as many until it is not, then between the two.

    A rate that fails is tried once more: whatever else the machine does only takes away. 0 when the first is too high.
    """

    def within(rate: float) -> bool:
        return p99_ms(rate) <= P99_MS or p99_ms(rate) <= P99_MS

    good, bad = 0.0, FIRST_RATE
    while within(bad):
        good, bad = bad, bad * GROWS
    for _ in range(HALVINGS if good else 0):
        middle = (good + bad) / 2
        if within(middle):
            good = middle
        else:
            bad = middle
    return good
