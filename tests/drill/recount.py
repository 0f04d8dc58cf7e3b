"""Recounts the log in plain Python, one event after the other; `differences.py` compares every view with it.

Nothing here is shared with the stores: what they must hold is said a second time, as simply as can be.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from roadrunner.client import RoadrunnerLog, read_all
from services.events import AUDIT_FROM, Action, Batch
from services.log import Record
from services.mesh import Mesh
from services.topics import Topic

A = Action
FOLLOW = {A.FOLLOW_USER: "user", A.FOLLOW_BOARD: "board", A.FOLLOW_INTEREST: "interest"}
UNFOLLOW = {A.UNFOLLOW_USER: "user", A.UNFOLLOW_BOARD: "board", A.UNFOLLOW_INTEREST: "interest"}
ENGAGEMENTS = {A.IMPRESSION, A.CLOSEUP, A.CLICK, A.SAVE, A.HIDE}
KINDS = {"pin": 1, "board": 2, "user": 3, "interest": 4}
FALLBACK_PINS = 250  # smartfeed keeps so many of a list
HOUR_MS = 3_600_000
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
    joined: dict[int, dict[int, None]] = field(default_factory=lambda: defaultdict(dict))
    counts: dict[tuple[int, int, int], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    objects: dict[int, int] = field(default_factory=dict)
    ids: Counter[int] = field(default_factory=Counter)
    events: int = 0

    def add(self, record: Record) -> None:
        apply = {
            Topic.USERS: self._user,
            Topic.SOURCES: self._source,
            Topic.OBJECTS: self._object,
            Topic.FEEDS: self._feed,
        }
        if record.topic == Topic.OBJECTS:
            self.objects[record.partition] = record.offset + 1
        for row in _rows(record.batch):
            self.events += 1
            if record.topic not in apply:
                continue  # counts are made of the other topics
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
        self._count(e)

    def _count(self, e: Row) -> None:
        """An engagement counts for its pin, board and user, and the interests that the pin is in at that moment."""
        action, joined = e["action"], self.joined[e["pin"]]
        if action in (A.CREATE_PIN, A.UPDATE_PIN, A.JOIN_INTEREST):
            for interest in [e["target"]] if action == A.JOIN_INTEREST else e["interests"]:
                if len(joined) < 256:
                    joined[interest] = None
        elif action == A.LEAVE_INTEREST:
            joined.pop(e["target"], None)
        elif action in ENGAGEMENTS:
            objects = [*((name, e[name]) for name in ("pin", "board", "user")), *(("interest", i) for i in joined)]
            for name, object_ in objects:
                if object_:
                    self.counts[KINDS[name], object_, action][e["at_ms"] // HOUR_MS * HOUR_MS] += 1

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
    interests = [batch.interests.run(i).tolist() for i in range(len(batch))]
    columns = [*(getattr(batch, name).tolist() for name in names), batch.title.strings(), interests]
    return [dict(zip((*names, "title", "interests"), values, strict=True)) for values in zip(*columns, strict=True)]


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
