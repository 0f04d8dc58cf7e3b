"""The filter of pins that a user has seen: over 1,000 to 50,000 impressions of months, most of them frozen, in process, and by
RPC over the most.

Before any timing the pins that every user has seen are recounted from the events, and the filter must hold all of them, and
of other pins no more than chance allows.
"""

import asyncio
import tempfile
from math import sqrt
from pathlib import Path

import numpy as np

from aperture import layout
from aperture.client import ApertureClient, MetPins
from aperture.service import Aperture
from aperture.store import TOPICS, ApertureStore
from bench.report import Figure, over
from bench.rounds import BOTH_ENDS, ONE_CORE, latencies, on_one_core, repeated, timed
from protos.aperture_pb2_grpc import add_ApertureServicer_to_server
from services.core.clock import DAY_MS, wall_clock
from services.core.columns import U32, U64, Array
from services.core.events import Action, Batch, events
from services.kernels import bloom
from services.log.memory import MemoryLog
from services.rpc.mesh import Mesh
from services.state.shard import Shard
from tests.kit import serve_shards

PART, PARTITIONS = "aperture", 16
SIZES, USERS, DAYS, CALLS = (1_000, 10_000, 50_000), 10, 120, 250  # users of each size; calls of a round
PINS, RATE, ABSENT = 10_000_000, 0.01, 200_000


def history(user: int, impressions: int) -> Batch:
    """A user's impressions over months, in order."""
    rng, now = np.random.default_rng(user), wall_clock()
    at_ms = np.sort(now - rng.integers(0, DAYS * DAY_MS, impressions))
    pins = rng.integers(1, PINS, impressions)
    ids = rng.integers(1, 2**63, impressions)
    return events(impressions, user=user, action=Action.IMPRESSION, pin=pins, at_ms=at_ms, id=ids)


def filled(folder: Path) -> ApertureStore:
    """A store with the histories of USERS users of each size, as frozen as it gets."""
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES)
    store, offsets = (
        ApertureStore(shard, range(PARTITIONS), PARTITIONS, wall_clock),
        MemoryLog(PARTITIONS, retain=False),
    )
    for number, size in enumerate(SIZES):
        for user in users_of(number):
            made = history(user, size)
            for start in range(0, size, 250):
                store.apply(offsets.append(made.slice(start, start + 250), TOPICS))
    while store.freezer.step():
        pass
    return store


def measure(_: str | None) -> list[Figure]:
    """In process, then through RPC."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        store = filled(Path(folder))
        figures = [_checked(store)]
        with on_one_core():
            for number, size in enumerate(SIZES):
                figures += over("impressions", size, _in_process(store, number))
        add = [lambda server: add_ApertureServicer_to_server(Aperture(store), server)]
        with serve_shards(PART, [add], PARTITIONS) as mesh:
            figures += _by_rpc(mesh)
        store.shard.close()
        return figures


def users_of(number: int) -> range:
    """Those with SIZES[number] impressions."""
    return range(1 + number * USERS, 1 + (number + 1) * USERS)


def seen_by(user: int, size: int) -> U64:
    """The pins that the user has seen, recounted: distinct, ascending."""
    return np.unique(history(user, size).pin)


def rate_of(held: Array, seen: int, side: str) -> float:
    """The rate of false positives, of a filter's answers for the pins seen and then for absent ones: bool[seen + absent].

    Raises RuntimeError unless it holds all that were seen, and of the others no more than chance allows.
    """
    if not held[:seen].all():
        raise RuntimeError(f"{side}: the filter misses pins that were seen")
    rate, most = float(held[seen:].mean()), RATE + 4 * sqrt(RATE / min(seen, len(held) - seen))
    if rate > most:
        raise RuntimeError(f"{side}: {rate:.2%} of absent pins are in the filter, expected at most {most:.2%}")
    return rate


def check(words: U32, seen: U64, side: str) -> float:
    """`rate_of` a filter."""
    absent = np.random.default_rng(0).integers(PINS, 2**63, ABSENT).astype(np.uint64)
    return rate_of(bloom.probe(words, np.append(seen, absent)), len(seen), side)


def _checked(store: ApertureStore) -> Figure:
    """Every user's pins and filter against the recount."""
    rates = []
    for number, size in enumerate(SIZES):
        for user in users_of(number):
            expected, found = seen_by(user, size), store.seen(user)
            np.testing.assert_array_equal(found, expected, err_msg=f"user {user}")
            rates.append(check(bloom.build(found, RATE), expected, f"user {user}") * 100)
    note = f"asked {RATE:.0%}; every filter holds what a recount of the events says, around it the least and the most of a user"
    return Figure(PART, f"false positives of the filters of {len(rates)} users", float(np.median(rates)), "%", note=note,
                  spread=(min(rates), max(rates)))  # fmt: skip


def _in_process(store: ApertureStore, number: int) -> list[Figure]:
    users, size = users_of(number), SIZES[number]
    rounds = timed(lambda call: bloom.build(store.seen(users[call % USERS]), RATE), CALLS)
    what = f"filter over {size:,} impressions"
    each = [float(np.median(took)) / size * 1e9 for took in rounds]
    return [
        *latencies(PART, f"{what}, in process", rounds, 5, ONE_CORE),
        repeated(PART, f"{what}, an impression", each, "ns", of=f"{CALLS} calls", note=ONE_CORE),
    ]


def _by_rpc(mesh: Mesh) -> list[Figure]:
    users, size = users_of(len(SIZES) - 1), SIZES[-1]
    with asyncio.Runner() as runner:
        client, loop = ApertureClient(mesh), runner.get_loop()

        def ask(call: int) -> MetPins:
            asking = client.seen_filter(users[call % USERS], false_positive_rate=RATE, exact=True, timeout=5)
            return loop.run_until_complete(asking)

        for number, user in enumerate(users):
            found, expected = ask(number), seen_by(user, size)
            np.testing.assert_array_equal(found.exact, expected, err_msg=f"user {user}, by RPC")
            check(bloom.of_bytes(found.filter, "filter"), expected, f"user {user}, by RPC")
        rounds = timed(ask, CALLS)
        loop.run_until_complete(client.close())
    return latencies(PART, f"filter over {size:,} impressions and the exact list, by RPC", rounds, 10, BOTH_ENDS)
