"""rbloom and pybloom-live: a filter at 1 % over integers, as their documentation uses them."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.side import Work, serve

RATE = 0.01


def rbloom(folder: Path) -> Work:
    """Bulk `update` to build, `in` to probe."""
    bloom = import_module("rbloom").Bloom

    def build(keys: list[int]) -> Any:
        made = bloom(len(keys), RATE)
        made.update(keys)
        return made

    return _work(folder, build, lambda made: made.size_in_bits)


def pybloom_live(folder: Path) -> Work:
    """`add` to build, `in` to probe."""
    bloom = import_module("pybloom_live").BloomFilter

    def build(keys: list[int]) -> Any:
        made = bloom(capacity=len(keys), error_rate=RATE)
        for key in keys:
            made.add(key)
        return made

    return _work(folder, build, lambda made: made.num_bits)


def _work(folder: Path, build: Any, bits: Any) -> Work:
    """Over Python's integers, which are made before anything is timed."""
    keys, absent = (np.load(folder / f"{name}.npy").tolist() for name in ("keys", "absent"))
    made = build(keys)
    return {
        "build": lambda: build(keys).__class__.__name__,
        "probe": lambda: [key in made for key in keys],
        "absent": lambda: [key in made for key in absent],
        "bits": lambda: bits(made),
    }


if __name__ == "__main__":
    serve({"rbloom": rbloom, "pybloom-live": pybloom_live})
