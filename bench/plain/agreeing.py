"""Checks before the plain stack is timed: it gives the mesh's pages, and its walk goes where the mesh's goes.

Two things in a page are left to chance, and the plain stack is given them as the mesh had them: where the walks went, and
which unseen pins the filter of seen pins rejects. Everything else it finds out itself.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import httpx
import msgspec
import numpy as np
from scipy import stats

from aperture.client import ApertureClient
from bench.plain import rules, walking
from bench.plain.wire import packed
from pixie.client import BOARDS, PINS, PixieClient
from realpin.client import RealpinClient
from services.core.columns import U64, Array
from services.kernels import bloom
from services.rpc.mesh import Mesh

USERS, PAGES = 50, 2
TIMEOUT_S = 10.0
SCORES_WITHIN = 2e-6  # the mesh rounds to float32, and both to six digits
MOST_PINS = 10_000  # that pixie answers
WALKS, STEPS_OF_A_WALK, WATCHED = 40, 7_000, 100  # without early stopping; the pins that are looked at
STEPS = WALKS * STEPS_OF_A_WALK
LEAST_P, LEAST_RANK = 1e-4, 0.95
NEVER = 1 << 30


class Disagreed(AssertionError):
    """The two stacks do not give the same; the message says where."""


class WalkAgreement(NamedTuple):
    """How near the two walks are. p: of the chi-square test; rank: Spearman's correlation, the lowest of the pins'."""

    p: float
    rank: float


def same_pages(mesh: Mesh, ours: str, plain: str, users: Sequence[str], everything: U64) -> int:
    """How many pages were compared. ours, plain: URLs; everything: all pins, ascending. Raises Disagreed."""
    compared = 0
    with httpx.Client(timeout=TIMEOUT_S) as http, asyncio.Runner() as runner:
        clients = runner.run(_clients(mesh))
        for user in users:
            cursors = {"ours": "", "plain": ""}
            for number in range(PAGES):
                now_ms = int(time.time() * 1000)
                page = http.get(
                    f"{ours}/v1/feeds/home", params={"user": user, "limit": rules.PAGE, "cursor": cursors["ours"]}
                ).json()
                given = runner.run(_given(clients, int(user), now_ms, everything))
                asked = {"user": int(user), "limit": rules.PAGE, "cursor": cursors["plain"], "now_ms": now_ms}
                body = msgspec.msgpack.encode({**asked, "given": packed(given)})
                theirs = http.post(f"{plain}/v1/feeds/home", content=body).json()
                _compare(page, theirs, f"user {user}, page {number + 1}")
                compared += 1
                if not page["cursor"]:
                    break
                cursors = {"ours": page["cursor"], "plain": theirs["cursor"]}
        runner.run(_close(clients))
    return compared


class _Clients(NamedTuple):
    realpin: RealpinClient
    pixie: PixieClient
    aperture: ApertureClient


async def _clients(mesh: Mesh) -> _Clients:
    return _Clients(RealpinClient(mesh), PixieClient(mesh), ApertureClient(mesh))


async def _close(clients: _Clients) -> None:
    for client in clients:
        await client.close()


async def _given(clients: _Clients, user: int, now_ms: int, everything: U64) -> dict[str, Array]:
    """The random parts of a page, as the mesh has them."""
    of = await clients.realpin.signals(
        user, pins=rules.WALK_PINS, interests=rules.AFFINITIES, now_ms=now_ms, timeout=TIMEOUT_S
    )
    seen = await clients.aperture.seen_filter(user, exact=True, timeout=TIMEOUT_S)
    held = bloom.probe(bloom.of_bytes(seen.filter, "filter"), everything)
    also = np.setdiff1d(everything[held], seen.exact)
    if not len(of.pins):
        return {"also": also}
    walks: dict[str, Array] = {"also": also}
    for name, want, k, discount in (
        ("board", BOARDS, rules.WALK_BOARDS, 0.0),
        ("pin", PINS, MOST_PINS, rules.DISCOUNT),
    ):
        found = await clients.pixie.recommend(
            of.pins, of.weights, want=want, k=k, steps=rules.WALK_STEPS, discount=discount, seed=user, timeout=TIMEOUT_S
        )
        reached = found.scores > 0
        seeds = of.pins[found.seeds[reached]]
        walks |= {f"{name}s": found.ids[reached], f"{name}_scores": found.scores[reached], f"{name}_seeds": seeds}
    return walks


def _compare(ours: dict[str, Any], theirs: dict[str, Any], where: str) -> None:
    if ours["degraded"]:
        raise Disagreed(f"{where}: the mesh's page is degraded: {ours['degraded']}")
    a, b = ours["items"], theirs["items"]
    if len(a) != len(b):
        raise Disagreed(f"{where}: the mesh has {len(a)} pins, the plain stack {len(b)}")
    for place, (one, other) in enumerate(zip(a, b, strict=True)):
        near = abs(one.pop("score") - other.pop("score")) <= SCORES_WITHIN
        if one != other or not near:
            raise Disagreed(
                f"{where}, place {place}: the mesh has {json.dumps(one)}, the plain stack {json.dumps(other)}"
                f"{'' if near else ', and the scores differ'}"
            )


def same_walks(mesh: Mesh, edges: tuple[U64, U64], pins: Sequence[int]) -> WalkAgreement:
    """From each of these pins. edges: pins and boards, each pair once. Raises Disagreed.

    With a restart after every step, visits are independent, and a chi-square test compares their numbers by pin. With
    restarts as feeds have them they are not: then Spearman's rank correlation of the pins that are passed most.
    """
    graph = walking.PlainGraph(*edges)
    found = [_one_walk(mesh, graph, pin) for pin in pins]
    p, rank = stats.combine_pvalues([one.p for one in found]).pvalue, min(one.rank for one in found)
    if p < LEAST_P or rank < LEAST_RANK:
        raise Disagreed(f"the walks go elsewhere: chi-square p = {p:.2g}, Spearman's rank correlation {rank:.3f}")
    return WalkAgreement(float(p), rank)


def _one_walk(mesh: Mesh, graph: walking.PlainGraph, pin: int) -> WalkAgreement:
    alone, walked = (_visits(graph, pin, restart) for restart in (1.0, rules.RESTART))
    of_pixie = [asyncio.run(_of_pixie(mesh, graph, pin, restart)) for restart in (1.0, rules.RESTART)]
    often = (alone + of_pixie[0]) >= 10  # so that five of each are to be expected
    table = np.array([alone[often], of_pixie[0][often]])
    p = float(stats.chi2_contingency(table).pvalue) if often.sum() > 1 else 1.0
    most = np.argsort(-(walked + of_pixie[1]), kind="stable")[:WATCHED]
    return WalkAgreement(p, float(stats.spearmanr(walked[most], of_pixie[1][most]).statistic))


def _visits(graph: walking.PlainGraph, pin: int, restart: float) -> Array:
    """int64[pins]: how often the plain walk passed each, but for where it began."""
    start = int(np.searchsorted(graph.pin_ids, pin))
    walks = [STEPS_OF_A_WALK] * WALKS
    _, passed, _ = walking.visits(graph, np.full(WALKS, start), walks, Random(pin), restart)
    counts = np.bincount(passed, minlength=len(graph.pin_ids))
    counts[start] = 0
    return counts


async def _of_pixie(mesh: Mesh, graph: walking.PlainGraph, pin: int, restart: float) -> Array:
    """int64[pins]: how often the mesh's did, of the pins that it passed most."""
    client = PixieClient(mesh)
    try:
        found = await client.recommend(
            np.array([pin], np.uint64), np.ones(1, np.float32), want=PINS, k=MOST_PINS, steps=STEPS, restart=restart,
            plain=True, stop_nodes=NEVER, stop_visits=NEVER, seed=pin, timeout=TIMEOUT_S,
        )  # fmt: skip
    finally:
        await client.close()
    counts = np.zeros(len(graph.pin_ids), np.int64)
    counts[np.searchsorted(graph.pin_ids, found.ids)] = found.scores.astype(np.int64)
    return counts
