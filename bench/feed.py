"""Pages over the whole mesh: following by the light score, then home ranked by a model, client and mesh on the same cores.
Then the memory of each process.
"""

import statistics

import httpx
import uvloop

from bench.mesh import LEAVES, TREES, USERS, promote, world
from bench.readers import read
from bench.report import Figure, latencies
from tests.running import Running

FOLLOWING = 100  # feeds a second
HOME = ((60, 100), (150, 60))  # feeds a second, and the P99 in ms that is asked of them
SECONDS, WARM_S = 30, 8


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
    found = uvloop.run(read(running.url, feed, users, rate, SECONDS))
    return [
        *latencies("feed", f"{feed} page, {rate} feeds/s, {what}", found.waited, p99_ms),
        Figure("feed", f"{feed}, {rate} feeds/s: answers that were not 200", found.failed, "answers", 0, at_most=True),
        Figure("feed", f"{feed}, {rate} feeds/s: degraded pages", found.degraded, "pages", 0, at_most=True),
        Figure(
            "feed",
            f"{feed}, {rate} feeds/s: pages with fewer than 25 pins",
            found.short,
            "pages",
            note="users who follow little",
        ),
    ]


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
