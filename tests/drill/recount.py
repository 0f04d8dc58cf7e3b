"""Recounts the log in plain Python, one event after the other, and compares every view with it.

Nothing here is shared with the stores: what they must hold is said a second time, as simply as can be.
"""

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aperture.client import ApertureClient
from apiary.client import ApiaryClient
from polaris.client import PolarisClient
from roadrunner.client import RoadrunnerLog, read_all
from rockstore.client import RockstoreClient
from services.columns import ids
from services.events import AUDIT_FROM, Action, Batch
from services.log import Record
from services.mesh import Mesh
from services.topics import Topic
from smartfeed.client import SmartfeedClient

A = Action
FOLLOW = {A.FOLLOW_USER: "user", A.FOLLOW_BOARD: "board", A.FOLLOW_INTEREST: "interest"}
UNFOLLOW = {A.UNFOLLOW_USER: "user", A.UNFOLLOW_BOARD: "board", A.UNFOLLOW_INTEREST: "interest"}
ENGAGEMENTS = {A.IMPRESSION, A.CLOSEUP, A.CLICK, A.SAVE, A.HIDE}
KINDS = {"pin": 1, "board": 2, "user": 3, "interest": 4}
FALLBACK_PINS = 250  # smartfeed keeps so many of a list
TIMEOUT_S = 20.0
Row = dict[str, Any]


@dataclass
class Recount:
    """What every view must hold, by the log alone."""

    follows: dict[int, dict[tuple[str, int], int]] = field(default_factory=lambda: defaultdict(dict))
    boards: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    history: dict[int, Counter[tuple[int, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    postings: dict[tuple[int, int], dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    titles: dict[tuple[str, int], str] = field(default_factory=dict)
    served: dict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    removed: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    down: set[int] = field(default_factory=set)
    ids: Counter[int] = field(default_factory=Counter)
    events: int = 0

    def add(self, record: Record) -> None:
        apply = {
            Topic.USERS: self._user,
            Topic.SOURCES: self._source,
            Topic.OBJECTS: self._object,
            Topic.FEEDS: self._feed,
        }
        for row in _rows(record.batch):
            self.events += 1
            if max(row["user"], row["pin"]) < AUDIT_FROM:  # the audit goes on while the views are asked
                apply[record.topic](row)

    def _user(self, e: Row) -> None:
        action, user = e["action"], e["user"]
        self.ids[e["id"]] += 1
        if action in FOLLOW:
            self.follows[user].setdefault((FOLLOW[action], _followed(action, e)), e["at_ms"])
        elif action in UNFOLLOW:
            self.follows[user].pop((UNFOLLOW[action], _followed(action, e)), None)
        elif action == A.CREATE_BOARD:
            self.boards[user].setdefault(e["board"], e["at_ms"])
        elif action == A.DELETE_BOARD:
            self.boards[user].pop(e["board"], None)
        elif action in ENGAGEMENTS:
            self.history[user][e["pin"], e["board"], action, e["surface"], e["at_ms"]] += 1
            if action in (A.SAVE, A.HIDE):
                self.removed[user].add(e["pin"])

    def _source(self, e: Row) -> None:
        action = e["action"]
        if action == A.TAKEDOWN:
            self.down.add(e["pin"])
        elif action == A.SAVE:
            self.postings[1, e["board"]][e["pin"]] = e["at_ms"]
        elif action == A.UNSAVE:
            self.postings[1, e["board"]].pop(e["pin"], None)
        elif action == A.DELETE_BOARD:
            self.postings[1, e["board"]].clear()
        elif action == A.JOIN_INTEREST:
            self.postings[2, e["target"]][e["pin"]] = e["at_ms"]
        elif action == A.LEAVE_INTEREST:
            self.postings[2, e["target"]].pop(e["pin"], None)

    def _object(self, e: Row) -> None:
        named = {A.CREATE_PIN: "pin", A.UPDATE_PIN: "pin", A.CREATE_BOARD: "board", A.NAME_USER: "user"}
        kind = named.get(e["action"]) or ("interest" if e["action"] == A.NAME_INTEREST else "")
        if kind:
            key = (kind, e["target"] if kind == "interest" else e[kind])
            self.titles[key] = e["title"] or self.titles.get(key, "")

    def _feed(self, e: Row) -> None:
        if e["action"] == A.SERVED:
            shown = self.served[e["user"], e["surface"]]
            if e["position"] == 0:
                shown.clear()
            if e["pin"] not in shown and len(shown) < FALLBACK_PINS:
                shown.append(e["pin"])


def _followed(action: int, e: Row) -> int:
    return int(e["board"] if action in (A.FOLLOW_BOARD, A.UNFOLLOW_BOARD) else e["target"])


def _rows(batch: Batch) -> list[Row]:
    names = ("user", "action", "pin", "board", "target", "at_ms", "surface", "id", "position")
    columns = [getattr(batch, name).tolist() for name in names] + [batch.title.strings()]
    return [dict(zip((*names, "title"), values, strict=True)) for values in zip(*columns, strict=True)]


def recount(mesh: Mesh) -> Recount:
    """Read the whole log."""
    log = RoadrunnerLog(mesh)
    everything = dict.fromkeys(log.ends(TIMEOUT_S), 0)
    found = Recount()
    try:
        for chunk in read_all(log, everything, 600):
            for record in chunk:
                found.add(record)
    finally:
        log.close()
    return found


def differences(mesh: Mesh, expected: Recount) -> list[str]:
    """What any view holds that the log does not say, or the other way round; empty when all is well."""
    return asyncio.run(_differences(mesh, expected))


async def _differences(mesh: Mesh, expected: Recount) -> list[str]:
    checks = [_apiary, _boards, _aperture, _polaris, _rockstore, _smartfeed]
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
        told = await client.follower_counts(number, targets, TIMEOUT_S)
        found += [
            f"apiary: {kind} {t} has {n} followers, not {counts[t]}"
            for t, n in zip(targets.tolist(), told.tolist(), strict=True)
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
        told = await client.postings(kinds, keys, TIMEOUT_S)
        ends = np.cumsum(told.counts).tolist()
        pins, at_ms = told.pins.tolist(), told.at_ms.tolist()
        for key, begin, end in zip(part, [0, *ends[:-1]], ends, strict=True):
            held = {p: at for p, at in zip(pins[begin:end], at_ms[begin:end], strict=True) if p not in expected.down}
            wanted = {p: at for p, at in expected.postings[key].items() if p not in expected.down}
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
            told = await client.attributes(number, ids(part), TIMEOUT_S)
            found += [
                f"rockstore: {kind} {i} is called {title!r}, not {expected.titles[kind, i]!r}"
                for i, title in zip(part, told.titles, strict=True)
                if title != expected.titles[kind, i]
            ]
    await client.close()
    return found


async def _smartfeed(mesh: Mesh, expected: Recount) -> list[str]:
    client, found = SmartfeedClient(mesh), []
    for (user, surface), shown in expected.served.items():
        told = (await client.last_served(user, surface, TIMEOUT_S)).pins.tolist()
        wanted = [pin for pin in shown if pin not in expected.down and pin not in expected.removed[user]]
        if told != wanted and len(shown) < FALLBACK_PINS:
            found.append(f"smartfeed: user {user} feed {surface}: {told[:8]}… not {wanted[:8]}…")
    await client.close()
    return found


def _diff(held: Any, wanted: Any) -> str:
    """The first few entries that differ."""
    extra = [key for key in held if held[key] != wanted.get(key)][:3]
    missing = [key for key in wanted if wanted[key] != held.get(key)][:3]
    return f"holds {[(k, held[k]) for k in extra]}, should hold {[(k, wanted[k]) for k in missing]}"
