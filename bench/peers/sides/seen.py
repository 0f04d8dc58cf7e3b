"""pybloom-live: a filter at 1 % of the pins that a table in sqlite has of a user."""

import sqlite3
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.side import Work, serve

RATE = 0.01
CACHE_KB = 65_536


def pybloom_live(folder: Path) -> Work:
    """Selected and added one by one, as its documentation does."""
    bloom = import_module("pybloom_live").BloomFilter
    user, asked = int(np.load(folder / "user.npy")[0]), np.load(folder / "asked.npy").tolist()
    table = sqlite3.connect(folder / "seen.sqlite")
    table.execute(f"PRAGMA cache_size = -{CACHE_KB}")

    def build() -> Any:
        pins = [pin for (pin,) in table.execute("SELECT pin FROM seen WHERE user = ?", (user,))]
        made = bloom(capacity=len(pins), error_rate=RATE)
        for pin in pins:
            made.add(pin)
        return made

    def holds() -> Any:
        made = build()
        return [key in made for key in asked]

    return {"filter": build, "holds": holds}


if __name__ == "__main__":
    serve({"pybloom-live": pybloom_live})
