"""The service that finds candidates: python -m bench.plain.candidates ADDRESS REDIS_SOCKET CANDIDATES."""

import asyncio
import sys
import time
from collections.abc import Mapping
from hashlib import sha1
from random import Random
from typing import Any, NamedTuple

import numpy as np

from bench.plain import retrieval, rules
from bench.plain.features import of_user
from bench.plain.retrieval import Best, Pins, best
from bench.plain.rows import DONE, FOLLOW, ID, LISTS, POSTING, Rows, among, facts_of, lengths, opened_redis, read
from bench.plain.rules import FOLLOWED, FRESH, INTERESTS, ORIGINS, POPULAR, SPREAD, WALKED_BOARDS, WALKED_PINS
from bench.plain.walking import NOWHERE, PlainGraph, Walked, walk
from bench.plain.wire import Message, Method, packed, serve, unpacked

COLUMNS = {"pin": "<u8", "board": "<u8", "owner": "<u8", "interest": "<u8", "seed": "<u8", "source": "u1",
           "origin": "u1", "weight": "<f4", "light": "<f4", "at_ms": "<i8"}  # fmt: skip
NONE = np.empty(0, ID)


class User(NamedTuple):
    """The user of one request. met: pins, ascending; also: pins that retrieval is to leave out besides; shares:
    candidates of each source at most.
    """

    shares: tuple[int, ...]
    met: Rows
    also: Rows
    shown: Rows
    done: Rows
    liked: Pins
    inferred: Rows
    affinities: Rows
    boards: Rows
    weights: Rows
    owners: Rows
    interests: Rows
    interest_weights: Rows


class Shared(NamedTuple):
    """The same for all users: pins that are popular; the postings of popular interests, and the best of these for a user who
    has met none of them, in the order in which they are taken. more: there are others beyond these.
    """

    until: float
    pins: Rows
    shares: Rows
    pin_interests: Rows
    interests: Rows
    postings: Rows
    lengths: Rows
    best: Best
    more: bool


class Found(NamedTuple):
    """Candidates of one source: columns by name; columns that are not named are 0, a weight 1."""

    columns: Mapping[str, Any]
    n: int


class Candidates:
    """Asks Redis, walks, and takes the best of each source."""

    def __init__(self, store: Any, graph: PlainGraph, candidates: int) -> None:
        self._redis, self._graph, self._shares = store, graph, rules.shares(candidates)
        self._shared: Shared | None = None
        self._script = sha1(LISTS.encode()).hexdigest()

    async def find(self, request: Message) -> Message:
        """Columns of the candidates, each pin once, without those that the user has met; and the inputs of the model."""
        now_ms = request["now_ms"] or int(time.time() * 1000)
        user = await self._user(request)
        boards, pins = self._walked(user, request)
        shared = await self._popular(now_ms)
        lists = await self._lists(user, boards)
        n, m = len(user.boards), len(user.interests)
        found = [
            _followed(user, lists[:n], now_ms),
            _walked_pins(user, pins),
            _walked_boards(user, boards, lists[n + m :], now_ms),
            _interests(user, lists[n : n + m], now_ms),
            _popular(user, shared),
            _fresh(user, shared, now_ms),
        ]
        person = of_user(user.affinities, len(user.liked.pins), user.done, len(user.boards), len(user.met), now_ms)
        about = {"interests": user.inferred, "affinities": user.affinities}
        return {"now_ms": now_ms, "user": person, "about": packed(about), "columns": packed(_together(user, found))}

    async def _user(self, request: Message) -> User:
        given = unpacked(request["given"])
        key = f"user:{request['user']}"
        ask = self._redis.pipeline(transaction=False)
        for name, last in (("users", -1), ("boards", rules.BOARDS - 1), ("recent", -1)):
            ask.lrange(f"{key}:{name}", 0, last)
        ask.lrange(f"{key}:interests", 0, rules.INTERESTS_LOOKED_AT - 1)
        ask.smembers(f"{key}:seen")
        users, boards, recent, interests, seen = await ask.execute()
        done = read(recent, DONE)
        liked = retrieval.weighed(done, rules.PINS_LOOKED_AT)
        follows = read(users, FOLLOW)["id"]
        own = [f"user:{follow}:own" for follow in follows.tolist()]
        owned, facts = await self._read(own, rules.BOARDS_OF_A_USER - 1, liked.pins)
        inferred, affinities = retrieval.affinities(liked.weights, facts["interests"], rules.AFFINITIES)
        shown = (liked.weights > 0) & (facts["down"] == 0)
        followed = retrieval.followed_boards(read(boards, FOLLOW), follows, [read([of], FOLLOW) for of in owned])
        looked_at = retrieval.weighed_interests(read(interests, FOLLOW)["id"], inferred, affinities)
        return User(
            self._shares,
            np.sort(read(list(seen), ID)),
            given.get("also", NONE),
            np.sort(unpacked(request["shown"])["pin"]),
            done,
            Pins(liked.pins[shown], liked.weights[shown]),
            inferred,
            affinities,
            *followed,
            *looked_at,
        )

    def _walked(self, user: User, request: Message) -> tuple[Walked, Walked]:
        """Boards and pins, with the pins that led there as seeds; a walk that is given is not walked again."""
        given, liked, k = unpacked(request["given"]), user.liked, min(rules.WALK_BOARDS, user.shares[WALKED_BOARDS])
        if not len(liked.pins):
            return NOWHERE, NOWHERE
        pins_k = user.shares[WALKED_PINS] + len(user.met) + len(user.shown)
        if given:
            boards = Walked(given["boards"][:k], given["board_scores"][:k], given["board_seeds"][:k])
            return boards, Walked(given["pins"][:pins_k], given["pin_scores"][:pins_k], given["pin_seeds"][:pins_k])
        random = Random(request["user"])  # the same page for the same state
        found = walk(
            self._graph, liked.pins, liked.weights, rules.WALK_STEPS, k, pins_k, rules.DISCOUNT, random
        )  # fmt: skip
        boards, pins = (side._replace(seeds=liked.pins[side.seeds]) for side in found)
        return boards, pins

    async def _lists(self, user: User, boards: Walked) -> list[bytes]:
        """Followed boards, interests and walked boards, one after the other."""
        kinds = (("board", user.boards), ("interest", user.interests), ("board", boards.ids))
        lists, _ = await self._read([f"{kind}:{of}" for kind, ids in kinds for of in ids.tolist()], -1, NONE)
        return lists

    async def _read(self, lists: list[str], last: int, pins: Rows) -> tuple[list[bytes], Rows]:
        """Each list up to its element `last`, -1 for all, and facts of the pins."""
        ask = self._redis.pipeline(transaction=False)
        ask.evalsha(self._script, len(lists), *lists, last)
        if len(pins):
            ask.mget([f"facts:{pin}" for pin in pins.tolist()])
        found, *facts = await ask.execute()
        return found, facts_of(facts[0] if facts else [])

    async def _popular(self, now_ms: int) -> Shared:
        """Kept for KEEP_S seconds."""
        if self._shared is None or self._shared.until < time.monotonic():
            pins, saves = await self._most("pins", rules.POPULAR_PINS)
            interests, _ = await self._most("interests", rules.POPULAR_INTERESTS)
            lists, facts = await self._read([f"interest:{of}" for of in interests.tolist()], -1, pins)
            up, k = facts["down"] == 0, self._shares[FRESH]
            postings, held = read(lists, POSTING), lengths(lists, POSTING)
            fresh = _of_anybody(postings, held, k, now_ms)
            self._shared = Shared(
                time.monotonic() + rules.KEEP_S,
                pins[up],
                (saves / saves.max(initial=1)).astype(np.float32)[up],
                facts["interests"][up, 0],
                interests,
                postings,
                held,
                fresh,
                len(fresh.rows) == rules.DEEP * k,
            )
        return self._shared

    async def _most(self, kind: str, k: int) -> tuple[Rows, Rows]:
        """Ids and counts of the k saved most; of equals the lowest id."""
        key = f"saved:{kind}"
        [(_, least)] = await self._redis.zrevrange(key, k - 1, k - 1, withscores=True) or [(b"", 0.0)]
        found = await self._redis.zrangebyscore(key, least, "+inf", withscores=True)
        ids = np.array([int(member) for member, _ in found], ID)
        counts = np.array([count for _, count in found], np.float32)
        order = np.lexsort((ids, -counts))[:k]
        return ids[order], counts[order]


def _new(user: User, pins: Walked) -> Rows:
    """Rows of the walked pins that the user has not met, the best of them."""
    new = (pins.scores > 0) & ~among(pins.ids, user.met) & ~among(pins.ids, user.shown)
    return np.flatnonzero(new)[: user.shares[WALKED_PINS]]


def _best(user: User, places: Rows, weights: Rows, lists: list[bytes], source: int, now_ms: int,
          spread: bool = True) -> tuple[Rows, Rows, dict[str, Any]]:  # fmt: skip
    """Postings, the place of each, and the columns that all of these sources have."""
    postings, held = read(lists, POSTING), lengths(lists, POSTING)
    return _best_of(user, postings, held, places, weights, source, now_ms, spread)


def _best_of(user: User, postings: Rows, held: Rows, places: Rows, weights: Rows, source: int, now_ms: int,
             spread: bool = True) -> tuple[Rows, Rows, dict[str, Any]]:  # fmt: skip
    k = user.shares[source] + len(user.shown)
    met = np.union1d(user.met, user.also) if len(user.also) else user.met
    found = best(postings, held, weights, met, now_ms, _per_place(k, len(places)) if spread else 0, k)
    chosen = postings[found.rows]
    columns = {"pin": chosen["pin"], "weight": weights[found.places], "light": found.scores, "at_ms": chosen["at_ms"]}
    return chosen, found.places, columns


def _per_place(k: int, places: int) -> int:
    return -(-SPREAD * k // max(places, 1))


def _followed(user: User, lists: list[bytes], now_ms: int) -> Found:
    rows, at, columns = _best(user, user.boards, user.weights, lists, FOLLOWED, now_ms, spread=False)
    return Found({**columns, "board": user.boards[at], "owner": user.owners[at]}, len(rows))


def _walked_pins(user: User, pins: Walked) -> Found:
    rows = _new(user, pins)
    weights = np.maximum(pins.scores[rows] / pins.scores.max(initial=0), np.finfo(np.float32).tiny)
    columns = {"pin": pins.ids[rows], "seed": pins.seeds[rows], "weight": weights, "light": np.log(weights)}
    return Found(columns, len(rows))


def _walked_boards(user: User, boards: Walked, lists: list[bytes], now_ms: int) -> Found:
    share = boards.scores / boards.scores.max(initial=np.finfo(np.float32).tiny)
    weights = np.maximum(share ** np.float32(rules.SHARPNESS), np.finfo(np.float32).tiny)
    rows, at, columns = _best(user, boards.ids, weights, lists, WALKED_BOARDS, now_ms)
    return Found({**columns, "board": boards.ids[at], "seed": boards.seeds[at]}, len(rows))


def _interests(user: User, lists: list[bytes], now_ms: int) -> Found:
    rows, at, columns = _best(user, user.interests, user.interest_weights, lists, INTERESTS, now_ms)
    return Found({**columns, "interest": user.interests[at]}, len(rows))


def _popular(user: User, shared: Shared) -> Found:
    new = ~among(shared.pins, user.met) & ~among(shared.pins, user.shown)
    rows = np.flatnonzero(new)[: user.shares[POPULAR]]
    shares = shared.shares[rows]
    columns = {"pin": shared.pins[rows], "interest": shared.pin_interests[rows]}
    return Found({**columns, "weight": shares, "light": np.log(shares)}, len(rows))


def _of_anybody(postings: Rows, held: Rows, k: int, now_ms: int) -> Best:
    """DEEP times the best k, first those that the best k may have of each place."""
    ones, deep = np.ones(len(held), np.float32), rules.DEEP * k
    found = best(postings, held, ones, NONE, now_ms, _per_place(deep, len(held)), deep)
    counts = np.bincount(found.places, minlength=len(held))
    by_place, rank = np.argsort(found.places, kind="stable"), np.empty(len(found.places), np.int64)
    rank[by_place] = np.arange(len(rank)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = np.argsort(rank >= _per_place(k, len(held)), kind="stable")
    return Best(found.rows[order], found.places[order], found.scores[order])


def _fresh(user: User, shared: Shared, now_ms: int) -> Found:
    """The pins for all users less those that the user has met; all are looked through where too few are left."""
    found, k = shared.best, user.shares[FRESH]
    pins = shared.postings["pin"][found.rows]
    new = np.flatnonzero(~among(pins, user.met) & ~among(pins, user.shown))[:k]
    if len(new) == k or not shared.more:
        chosen, at = shared.postings[found.rows[new]], found.places[new]
        columns = {"pin": chosen["pin"], "light": found.scores[new], "at_ms": chosen["at_ms"]}
        columns["weight"] = np.ones(len(new), np.float32)
    else:
        ones = np.ones(len(shared.interests), np.float32)
        of = (shared.postings, shared.lengths, shared.interests, ones)
        chosen, at, columns = _best_of(user, *of, FRESH, now_ms)
    return Found({**columns, "interest": shared.interests[at]}, len(chosen))


def _together(user: User, found: list[Found]) -> dict[str, Rows]:
    """All sources' candidates, of each pin the first; which sources found it, and how near the walks did."""
    columns = {
        name: np.concatenate([np.asarray(of.columns.get(name, np.zeros(of.n)), dtype) for of in found])
        for name, dtype in COLUMNS.items()
    }
    sizes = [of.n for of in found]
    columns["source"] = np.repeat(np.arange(len(found), dtype=np.uint8), sizes)
    columns["origin"] = np.repeat(np.array(ORIGINS, np.uint8), sizes)
    near = np.where(columns["source"] == WALKED_PINS, columns["weight"], np.float32(np.nan))
    pins, first, of = np.unique(columns["pin"], return_index=True, return_inverse=True)
    found_by, nearness = np.zeros(len(pins), np.uint32), np.full(len(pins), np.nan, np.float32)
    np.bitwise_or.at(found_by, of, np.left_shift(np.uint32(1), columns["source"], dtype=np.uint32))
    np.fmax.at(nearness, of, near)
    keep = np.sort(first)
    keep = keep[~among(columns["pin"][keep], user.met) & ~among(columns["pin"][keep], user.shown)]
    together = {name: values[keep] for name, values in columns.items()}
    return {**together, "found_by": found_by[of[keep]], "nearness": nearness[of[keep]]}


async def opened(socket: str, candidates: int) -> Method:
    """The service, with the graph in memory."""
    store = opened_redis(socket)
    await store.script_load(LISTS)
    boards = [int(board) for board in await store.smembers("boards")]
    pins: list[Rows] = []
    for start in range(0, len(boards), 1_000):
        ask = store.pipeline(transaction=False)
        for board in boards[start : start + 1_000]:
            ask.lrange(f"board:{board}", 0, -1)
        pins += [read(elements, POSTING)["pin"] for elements in await ask.execute()]
    edges = np.repeat(np.array(boards, ID), [len(of) for of in pins])
    graph = await asyncio.to_thread(PlainGraph, np.concatenate(pins), edges)
    return Candidates(store, graph, candidates).find


if __name__ == "__main__":
    serve("Find", sys.argv[1], lambda: opened(sys.argv[2], int(sys.argv[3])))
