"""The pins that a user has seen, of 50,000 impressions, and their filter, beside a table in sqlite with a set, and pybloom-live.

All sides hold the users of `bench/aperture.py`. The table keeps of each user and pin the last time, by user and pin: all that
this question needs, so less than aperture, which keeps every event.
"""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from aperture.store import ApertureStore
from bench.aperture import PINS, RATE, SIZES, filled, history, rate_of, seen_by, users_of
from bench.peers.pairing import Ours, Side, compared, opened, pinned
from bench.report import Figure
from services.core.columns import U64, Array
from services.kernels import bloom

PART, ABSENT = "aperture", 200_000
USER, SIZE = users_of(len(SIZES) - 1)[0], SIZES[-1]
CACHE_KB = 65_536


def measure(_: str | None) -> list[Figure]:
    """All on one core, a thread each; every side answers the same, or nothing is timed."""
    pinned()
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as name:
        folder = Path(name)
        absent = np.random.default_rng(1).integers(PINS, 2**63, ABSENT).astype(np.uint64)
        seen = seen_by(USER, SIZE)
        np.save(folder / "asked.npy", np.append(seen, absent))
        np.save(folder / "user.npy", [USER])
        store = filled(folder / "aperture")
        with closing(_table(folder / "seen.sqlite")) as table:
            sides: list[Side] = [
                Ours("feedmesh", _ours(store, np.append(seen, absent)), "one thread"),
                Ours("sqlite", {"pins": lambda: _selected(table)}, f"sqlite {sqlite3.sqlite_version}, one thread"),
            ]
            peers, figures = opened(PART, ("pybloom-live",), "seen", folder)
            try:
                figures += _compared(sides, peers, seen)
            finally:
                for side in peers:
                    side.close()
        store.shard.close()
        return figures


def _ours(store: ApertureStore, asked: U64) -> dict[str, Callable[[], Array]]:
    return {
        "pins": lambda: store.seen(USER),
        "filter": lambda: bloom.build(store.seen(USER), RATE),
        "holds": lambda: bloom.probe(bloom.build(store.seen(USER), RATE), asked),
    }


def _compared(sides: list[Side], peers: list[Side], seen: U64) -> list[Figure]:
    for side in sides:
        np.testing.assert_array_equal(_sorted(side), seen, err_msg=side.name)
    figures = [
        Figure(PART, f"false positives, {side.name}", 100 * rate_of(side.answer("holds"), len(seen), side.name), "%")
        for side in (sides[0], *peers)
    ]
    figures += compared(PART, f"distinct pins of {SIZE:,} impressions", sides, "pins", rounds=21)
    what = f"filter over {SIZE:,} impressions"
    return figures + compared(PART, what, [sides[0], *peers], "filter", rounds=11)


def _sorted(side: Side) -> U64:
    found = side.answer("pins")
    return np.sort(found if found.ndim else np.array([*found.item()], np.uint64))  # numpy takes a set for one item


def _table(path: Path) -> sqlite3.Connection:
    """All users' pins, in a file."""
    table = sqlite3.connect(path)
    table.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    table.execute("CREATE TABLE seen (user INTEGER, pin INTEGER, at_ms INTEGER, PRIMARY KEY (user, pin)) WITHOUT ROWID")
    for number, size in enumerate(SIZES):
        for user in users_of(number):
            made = history(user, size)
            rows = zip(made.user.tolist(), made.pin.tolist(), made.at_ms.tolist(), strict=True)
            table.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", rows)
    table.commit()
    return table


def _selected(table: sqlite3.Connection) -> set[int]:
    """As a set, which is what would be asked for pins."""
    return {pin for (pin,) in table.execute("SELECT pin FROM seen WHERE user = ?", (USER,))}
