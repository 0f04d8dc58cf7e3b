"""One round: some load on the healthy mesh, a fault, its end, and the time until the mesh is whole again."""

import os
import time
from collections.abc import Callable

import httpx

from tests.drill.cluster.client import Client
from tests.drill.cluster.faults import Fault, Ground
from tests.drill.cluster.parts import Parts
from tests.drill.cluster.resharding import Resharding
from tests.drill.cluster.table import Round, measured, within

HEALTHY_S, AFTER_S, WHOLE_S = 12.0, 3.0, 180.0
BEHIND = 500  # events: ten seconds of the load
AVAILABLE, NOT_FALLBACK, EXTRA = 0.9999, 0.999, 0.05
LOOK_S = 0.5


def one_round(
    ground: Ground, client: Client, fault: Fault, report: Callable[[str], None], resharding: bool = False
) -> Round:
    """The figures of a fault, and which bounds they miss. resharding: whether one is under way; what is due until its end is part
    of the round.
    """
    began, moved = time.monotonic(), between(ground.parts)
    time.sleep(HEALTHY_S)  # of load, with which the fault is compared
    moved = between(ground.parts) - moved
    before = calls(ground.parts)
    ground.healthy.append((began, time.monotonic()))
    ground.done.clear()
    first = time.monotonic()
    under_way = Resharding(ground.parts) if resharding else None
    try:
        fault.begin(ground)
        time.sleep(fault.lasts_s)  # the fault itself
        load = os.getloadavg()[0]
    finally:
        ground.heal()
    ended = time.monotonic()
    unready = until_whole(ground)
    whole_s = time.monotonic() - ended
    unready += under_way.end(report) if under_way else []
    last = time.monotonic()
    time.sleep(AFTER_S)  # of load: what was due in the fault is answered, or late
    noticed = (first + fault.noticed_s, max(ended, first + fault.noticed_s + AFTER_S))
    figures = measured(client.pages, client.written, ground.healthy, (first, last), noticed)
    figures |= {"whole_s": whole_s, "extra_calls": extra(before, calls(ground.parts)), "load": load}
    figures["between_bytes"] = moved / max(1, len(within(client.pages, ground.healthy[-1])))
    found = Round(fault=fault.name, problems=[], **figures)
    found.problems += missed(found, fault) + unready
    for line in ground.done:
        report(f"    {line}")
    report(
        f"    {found.pages} pages, {100 * found.availability:.2f} % full, {100 * found.fell_back:.2f} % fallback, P99 "
        f"{found.healthy_p99:.0f} -> {found.p99:.0f}, noticed {found.noticed_p99:.0f} ms, last bad page after "
        f"{found.recovery_s:.1f} s, whole {whole_s:.1f} s after, no write for {found.writes_away_s:.1f} s, load {load:.0f}"
    )
    bad = [page for page in client.pages if first <= page.due < last and (not page.good or page.degraded)]
    for page in bad[:5]:
        report(
            f"    due after {page.due - first:.1f} s, took {page.took_s:.1f} s: {page.status} {page.wrong} "
            f"{', '.join(page.degraded)}"
        )
    return found


def missed(found: Round, fault: Fault) -> list[str]:
    """The bounds that a round misses."""
    bounds = [
        (
            found.availability >= AVAILABLE,
            f"{100 * found.availability:.2f} % of pages were full, not {100 * AVAILABLE} %",
        ),
        (found.fell_back <= 1 - NOT_FALLBACK, f"{100 * found.fell_back:.2f} % of pages were fallback pages"),
        (found.recovery_s <= fault.recovers_s, f"the last bad page came {found.recovery_s:.1f} s after"),
        (
            not fault.writes_s or found.writes_away_s <= fault.writes_s,
            f"nothing was written for {found.writes_away_s:.1f} s, allowed are {fault.writes_s:g}",
        ),
        (
            fault.slows is None or found.noticed_p99 <= fault.slows * found.healthy_p99,
            f"P99 {found.noticed_p99:.0f} ms is more than {fault.slows} times {found.healthy_p99:.0f} ms",
        ),
        (
            fault.name != "slow" or found.extra_calls <= EXTRA,
            f"{100 * found.extra_calls:.1f} % of calls were made twice",
        ),
    ]
    return [said for held, said in bounds if not held]


def until_whole(ground: Ground) -> list[str]:
    """Wait until the brokers are in sync and every process is ready and has applied the log, but for what has just come. What is
    not so in time.
    """
    end = time.monotonic() + WHOLE_S
    while True:
        behind = ground.brokers.out_of_sync()
        unready = [f"brokers: {behind}"] if behind else []
        unready += [
            f"{h.of.name} on {h.of.host}: {h.why or f'{h.status.behind if h.status else 0} events behind'}"
            for h in ground.parts.health()
            if h.status is None or not h.ready or h.status.behind > BEHIND
        ]
        if not unready or time.monotonic() > end:
            return [f"not whole within {WHOLE_S:g} s: {line}" for line in unready]
        time.sleep(LOOK_S)


def between(parts: Parts) -> int:
    """Bytes that calls between hosts have taken so far."""
    return sum(host.moved() for host in parts.hosts)


Calls = dict[str, float]


def calls(parts: Parts) -> Calls:
    """Calls between processes by series, and those that were made a second time, as a web of a host without faults reports."""
    text = httpx.get(f"{parts.edges[0]}/metrics", timeout=20).text
    names = ("feedmesh_calls_total{", "feedmesh_call_hedges_total{", "feedmesh_call_retries_total{")
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith(names)]
    return {series: float(value) for series, _, value in lines}


def extra(before: Calls, after: Calls) -> float:
    """The share of calls that were made a second time; processes that began meanwhile count from zero."""
    made = {series: value - before.get(series, 0) for series, value in after.items()}
    made = {series: n if n >= 0 else after[series] for series, n in made.items()}
    again = sum(n for series, n in made.items() if "_call_" in series)
    every = sum(n for series, n in made.items() if "_calls_" in series)
    return again / every if every else 0.0
