"""Filters beside rbloom and pybloom-live: nanoseconds a key, bits a key, and the rate of false positives."""

import tempfile
from math import sqrt
from pathlib import Path

import numpy as np

from bench.peers.pairing import Ours, Side, compared, opened, pinned
from bench.report import Figure
from services.kernels import bloom

KEYS, ABSENT, RATE = 100_000, 400_000, 0.01
PART = "filters"
OPERATIONS = (
    ("build", "build, a key", KEYS),
    ("probe", "probe, present, a key", KEYS),
    ("absent", "probe, absent, a key", ABSENT),  # as most are that are asked for
)


def measure(_: str | None) -> list[Figure]:
    """Every key is found by every side and the rates are those that were asked for, or nothing is timed."""
    pinned()
    rng = np.random.default_rng(1)
    drawn = rng.permutation(np.unique(rng.integers(1, 2**63, KEYS + ABSENT + 1_000).astype(np.uint64)))
    keys, absent = drawn[:KEYS], drawn[KEYS : KEYS + ABSENT]
    made = bloom.build(keys, RATE)
    ours = Ours(
        "feedmesh",
        {
            "build": lambda: bloom.build(keys, RATE),
            "probe": lambda: bloom.probe(made, keys),
            "absent": lambda: bloom.probe(made, absent),
            "bits": lambda: 32 * len(made),
        },
        f"one thread, {KEYS:,} keys at {RATE:.0%}",
    )
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as name:
        folder = Path(name)
        np.save(folder / "keys.npy", keys)
        np.save(folder / "absent.npy", absent)
        peers, figures = opened(PART, ("rbloom", "pybloom-live"), "blooms", folder)
        sides: list[Side] = [ours, *peers]
        try:
            figures += [figure for side in sides for figure in _checked(side)]
            ratios = {"rbloom": 6.0, "pybloom-live": 100.0}
            for operation, what, n in OPERATIONS:
                figures += compared(PART, what, sides, operation, per=n, unit="ns", least=ratios, rounds=11)
        finally:
            for side in sides:
                side.close()
    return figures


def _checked(side: Side) -> list[Figure]:
    """Bits a key and the rate. Raises RuntimeError when a key is not found or the rate is above what chance allows."""
    if not side.answer("probe").all():
        raise RuntimeError(f"{side.name}: keys that were added are not found")
    rate, most = float(side.answer("absent").mean()), RATE + 4 * sqrt(RATE / KEYS)
    if rate > most:
        raise RuntimeError(f"{side.name}: false positives {rate:.4%}, expected at most {most:.4%}")
    bits, ours = float(side.answer("bits")) / KEYS, side.name == "feedmesh"
    return [
        Figure(PART, f"bits a key at {RATE:.0%}, {side.name}", bits, "bits", 11.5 if ours else None, at_most=True),
        Figure(PART, f"false positives, {side.name}", rate * 100, "%", note=f"of {ABSENT:,} absent keys"),
    ]
