"""Compares every view with a recount of the log."""

import asyncio
import time
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from aperture.client import ApertureClient
from apiary.client import ApiaryClient
from counters.client import CountersClient
from polaris.client import PolarisClient
from rockstore.client import RockstoreClient
from services.core import context, tokens
from services.core.columns import ids
from services.core.topics import Topic
from services.log.reading import open_reader
from services.rpc.mesh import Mesh
from smartfeed.client import SmartfeedClient
from tests.drill.recount import ENGAGEMENTS, FALLBACK_PINS, HOUR_MS, KINDS, TIMEOUT_S, Recount
from tests.drill.signals import realpin
from tests.running import ends_of, until_gone_through

WEEK_MS = 7 * 86_400_000


def differences(mesh: Mesh, expected: Recount) -> list[str]:
    """Differences between the views and the recount of the log; empty when all is well."""
    return asyncio.run(_differences(mesh, expected))


async def _differences(mesh: Mesh, expected: Recount) -> list[str]:
    checks = [_apiary, _boards, _aperture, _polaris, _rockstore, _smartfeed, counters, realpin]
    found: list[str] = []
    for check in checks:
        found += await check(mesh, expected)
    return found


async def _apiary(mesh: Mesh, expected: Recount) -> list[str]:
    client, found = ApiaryClient(mesh), []
    for user, follows in expected.follows.items():
        f = await client.followed(user, 100_000, TIMEOUT_S)
        columns = (("user", f.users, f.users_at_ms), ("board", f.boards, f.boards_at_ms))
        columns += (("interest", f.interests, f.interests_at_ms),)  # type: ignore[assignment]
        held = {(k, i): at for k, i_, at_ in columns for i, at in zip(i_.tolist(), at_.tolist(), strict=True)}
        if held != follows:
            found.append(f"apiary: user {user} follows {_diff(held, follows)}")
    for number, kind in enumerate(("user", "board", "interest"), start=1):
        counts = Counter(i for follows in expected.follows.values() for k, i in follows if k == kind)
        targets = ids(sorted(counts))
        answer = await client.follower_counts(number, targets, TIMEOUT_S)
        found += [
            f"apiary: {kind} {t} has {n} followers, not {counts[t]}"
            for t, n in zip(targets.tolist(), answer.tolist(), strict=True)
            if n != counts[t]
        ]
    await client.close()
    return found


async def _boards(mesh: Mesh, expected: Recount) -> list[str]:
    client = ApiaryClient(mesh)
    owned = await client.owned_boards(ids(sorted(expected.boards)), 100_000, TIMEOUT_S)
    held: dict[int, dict[int, int]] = defaultdict(dict)
    for owner, board, at in zip(owned.owners.tolist(), owned.boards.tolist(), owned.at_ms.tolist(), strict=True):
        held[owner][board] = at
    await client.close()
    return [
        f"apiary: boards of {owner}: {_diff(held[owner], boards)}"
        for owner, boards in expected.boards.items()
        if held[owner] != boards
    ]


async def _aperture(mesh: Mesh, expected: Recount) -> list[str]:
    client, found = ApertureClient(mesh), []
    for user, events in expected.history.items():
        h = await client.history(user, limit=1_000_000, timeout=TIMEOUT_S)
        columns = (h.pins, h.boards, h.actions, h.surfaces, h.at_ms)
        held = Counter(zip(*(column.tolist() for column in columns), strict=True))
        if held != events:
            found.append(f"aperture: user {user}: {_diff(held, events)}")
    await client.close()
    return found


async def _polaris(mesh: Mesh, expected: Recount) -> list[str]:
    client, found = PolarisClient(mesh), []
    sources = sorted(expected.postings)
    for start in range(0, len(sources), 5_000):
        part = sources[start : start + 5_000]
        kinds, keys = np.array([k for k, _ in part], np.uint8), ids([s for _, s in part])
        answer = await client.postings(kinds, keys, TIMEOUT_S)
        ends = np.cumsum(answer.counts).tolist()
        pins, at_ms = answer.pins.tolist(), answer.at_ms.tolist()
        for key, begin, end in zip(part, [0, *ends[:-1]], ends, strict=True):
            held = {p: at for p, at in zip(pins[begin:end], at_ms[begin:end], strict=True) if p not in expected.down}
            gone = key[0] == KINDS["board"] and key[1] in expected.gone
            wanted = {p: at for p, at in expected.postings[key].items() if p not in expected.down and not gone}
            if held != wanted or len(set(pins[begin:end])) != end - begin:
                found.append(f"polaris: source {key}: {_diff(held, wanted)}")
    await client.close()
    return found


async def _rockstore(mesh: Mesh, expected: Recount) -> list[str]:
    client, found = RockstoreClient(mesh), []
    for kind, number in KINDS.items():
        keys = sorted(i for k, i in expected.titles if k == kind)
        for start in range(0, len(keys), 5_000):
            part = keys[start : start + 5_000]
            answer = await client.attributes(number, ids(part), TIMEOUT_S)
            found += [
                f"rockstore: {kind} {i} is called {title!r}, not {expected.titles[kind, i]!r}"
                for i, title in zip(part, answer.titles, strict=True)
                if title != expected.titles[kind, i]
            ]
    await client.close()
    return found


async def _smartfeed(mesh: Mesh, expected: Recount) -> list[str]:
    client, found = SmartfeedClient(mesh), []
    for (user, surface), shown in expected.served.items():
        answer = (await client.last_served(user, surface, TIMEOUT_S)).pins.tolist()
        wanted = [pin for pin in shown if pin not in expected.down and pin not in expected.removed[user]]
        if answer != wanted and len(shown) < FALLBACK_PINS:
            found.append(f"smartfeed: user {user} feed {surface}: {answer[:8]}… not {wanted[:8]}…")
    await client.close()
    return found


async def counters(mesh: Mesh, expected: Recount) -> list[str]:
    """Counts of all time and of the last 7 days, once the recounted actions have been aggregated and applied."""
    client, found = CountersClient(mesh), []
    actions, token = sorted(int(action) for action in ENGAGEMENTS), await asyncio.to_thread(_aggregated, mesh, expected)
    now = max((at for hours in expected.counts.values() for at in hours), default=HOUR_MS)
    objects = sorted({(kind, object_) for kind, object_, _ in expected.counts})
    for start in range(0, len(objects), 5_000):
        part = objects[start : start + 5_000]
        kinds, keys = np.array([kind for kind, _ in part], np.uint8), ids([object_ for _, object_ in part])
        with context.serving(TIMEOUT_S, token):
            answer = await client.counts(kinds, keys, actions, (0, WEEK_MS), now_ms=now, timeout=TIMEOUT_S)
        expired = int(time.time() * 1000) - WEEK_MS + 2 * HOUR_MS  # counts that may expire meanwhile are not compared
        for i, (kind, object_) in enumerate(part):
            for j, action in enumerate(actions):
                hours = expected.counts.get((kind, object_, action), Counter())
                lately = sum(n for at, n in hours.items() if at > now - WEEK_MS)
                may_expire = any(now - WEEK_MS < at <= expired for at in hours)
                wanted = [sum(hours.values()), answer[i, j, 1] if may_expire else lately]
                if (answer[i, j] != np.minimum(wanted, 65_504).astype(np.float16)).any():
                    found.append(
                        f"counters: kind {kind} {object_} action {action}: {answer[i, j].tolist()}, not {wanted}"
                    )
    await client.close()
    return found


def _aggregated(mesh: Mesh, expected: Recount) -> bytes:
    """The token of the counts of all that was recounted, once they are in the log."""
    until_gone_through(mesh, {(int(Topic.OBJECTS), p): next_ for p, next_ in expected.objects.items()}, TIMEOUT_S)
    ends = ends_of(open_reader(mesh))
    return tokens.encode({at: end - 1 for at, end in ends.items() if at[0] == Topic.COUNTS and end})


def _diff(held: Any, wanted: Any) -> str:
    """The first few entries that differ."""
    extra = [key for key in held if held[key] != wanted.get(key)][:3]
    missing = [key for key in wanted if wanted[key] != held.get(key)][:3]
    return f"holds {[(k, held[k]) for k in extra]}, should hold {[(k, wanted[k]) for k in missing]}"
