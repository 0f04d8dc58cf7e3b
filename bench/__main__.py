"""`make bench`: every part in turn, each in a process of its own, nothing beside it."""

import argparse
import sys

from bench.part import measure_alone
from bench.report import Figure, save, show

PARTS = {
    "door": "the front door: batches and single publishes, acknowledged on disk",
    "filters": "bloom filters of ids beside rbloom and pybloom-live",
    "views": "how fast each view applies the log, on one core",
    "aperture": "the filter of what was seen",
    "polaris": "retrieval",
    "pixie": "random walks beside the naive walk, over the size of the graph (BENCH_LARGE=1: up to 150 M edges)",
    "counters": "20,000 counts for one request, beside Redis",
    "scorpion": "the cache of pins' facts and trees over rows, beside cachetools, LightGBM and lleaves",
    "growth": "cost and memory as the work grows, and what a plan is made from (BENCH_LARGE=1: to 10^7 everywhere)",
    "feed": "following and home pages over the whole mesh, and the memory of every process",
    "stages": "where the time of a home page goes: CPU by process, wall time by stage, RPCs by service",
    "plain": "home pages beside a plain stack of Redis, a walk in Python, LightGBM and asyncio gRPC that gives the same",
}


def main() -> int:
    """Run the parts asked for; 0 whatever the figures, 1 when a part failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "only", nargs="?", choices=PARTS, help="one part: " + "; ".join(f"{n}: {w}" for n, w in PARTS.items())
    )
    parser.add_argument(
        "--data", help="folder of Last.fm for the feed part (default: ../shared/data/lastfm, else a demo world)"
    )
    arguments = parser.parse_args()
    figures: list[Figure] = []
    for part in [arguments.only] if arguments.only else PARTS:
        print(f"measuring {part}: {PARTS[part]} …", file=sys.stderr, flush=True)
        figures += measure_alone(part, arguments.data)
    show(figures)
    print(f"\nwritten to {save(figures, arguments.only or '')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
