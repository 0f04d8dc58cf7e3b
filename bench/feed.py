"""Pages over the whole mesh: following by the light score, then home ranked by a model, client and mesh on the same cores.
Then the memory of each process.
"""

import statistics

import httpx
import numpy as np
import uvloop

from bench.mesh import LEAVES, TREES, USERS, promote, world
from bench.readers import Read, read
from bench.report import Figure
from tests.running import Running

FOLLOWING = 100  # feeds a second
HOME = ((60, 100), (150, 60))  # feeds a second, and the P99 in ms that is asked of them
ROUNDS, SECONDS, WARM_S = 3, 20, 8


def measure(data: str | None) -> list[Figure]:
    """Load a world, build its graph, measure; promote a model, measure; weigh."""
    with world(data) as (running, home, name):
        figures = _pages(running, "following", USERS, FOLLOWING, 80, f"{name}, light score")
        promote(home, running)
        scored = int(statistics.median(_scored(running, user) for user in USERS[:40]))
        what = f"{name}, {scored:,} candidates scored by {TREES} trees of {LEAVES} leaves"
        for rate, p99_ms in HOME:
            figures += _pages(running, "home", USERS, rate, p99_ms, what)
        return figures + _memory(running)


def _pages(running: Running, feed: str, users: list[str], rate: int, p99_ms: float, what: str) -> list[Figure]:
    uvloop.run(read(running.url, feed, users, rate, WARM_S))
    rounds = [uvloop.run(read(running.url, feed, users, rate, SECONDS)) for _ in range(ROUNDS)]
    at = f"{feed}, {rate} feeds/s"
    return [
        *_waited(f"{feed} page, {rate} feeds/s, {what}", rounds, p99_ms),
        Figure("feed", f"{at}: answers that were not 200", sum(r.failed for r in rounds), "answers", 0, at_most=True),
        Figure("feed", f"{at}: degraded pages", sum(r.degraded for r in rounds), "pages", 0, at_most=True),
        Figure(
            "feed",
            f"{at}: pages with fewer than 25 pins",
            sum(r.short for r in rounds),
            "pages",
            note="users who follow little",
        ),
    ]


def _waited(what: str, rounds: list[Read], p99_ms: float) -> list[Figure]:
    """P50 and P99 of the median round, and of the best and the worst."""
    note = f"{ROUNDS} rounds of {len(rounds[0].waited):,} pages: the median, and the best and the worst"
    found = []
    for name, percent, target in (("P50", 50, None), ("P99", 99, p99_ms)):
        ms = sorted(float(np.percentile(r.waited, percent)) * 1_000 for r in rounds)
        middle, ends = statistics.median(ms), (ms[0], ms[-1])
        found.append(Figure("feed", f"{what}, {name}", middle, "ms", target, at_most=True, note=note, spread=ends))
    return found


def _scored(running: Running, user: str) -> int:
    """How many candidates of a page were ranked."""
    page = httpx.get(f"{running.url}/v1/feeds/home?user={user}&explain=true", timeout=20).json()
    kept = [stage["kept"] for stage in page["xray"]["stages"] if stage["kind"] == "filter"]
    return int(kept[-1])


def _memory(running: Running) -> list[Figure]:
    running.until_caught_up()
    found, total = [], 0.0
    for health in running.health():
        status = health.status
        if status is None:
            continue
        name = f"{health.of.service}-{health.of.shard}"
        total += status.rss_bytes
        peak = f"peak {status.peak_rss_bytes / 1e6:.0f} MB"
        found.append(Figure("memory", f"{name} resident", status.rss_bytes / 1e6, "MB", note=peak))
    return [*found, Figure("memory", "whole mesh resident", total / 1e6, "MB")]
