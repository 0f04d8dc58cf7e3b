"""cachetools: an LRU of a numpy row a pin, gathered into one array."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.side import Work, serve


def cachetools(folder: Path) -> Work:
    """The keys asked for are Python's integers, which are made before anything is timed."""
    pins, rows, asked = (np.load(folder / f"{name}.npy") for name in ("pins", "rows", "asked"))
    cache = import_module("cachetools").LRUCache(len(pins))
    for pin, row in zip(pins.tolist(), rows, strict=True):
        cache[pin] = row.copy()
    wanted = asked.tolist()

    def gather() -> Any:
        return np.stack([cache[pin] for pin in wanted])

    return {"gather": gather}


if __name__ == "__main__":
    serve({"cachetools": cachetools})
