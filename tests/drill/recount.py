"""Recounts the log in plain Python, one event after the other; `differences.py` compares every view with it.

Nothing here is shared with the stores: their contents are computed a second time, as simply as can be.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from services.core.events import RESERVED_FROM, Action, Batch
from services.core.topics import Topic
from services.log.protocol import Record
from services.log.reading import open_reader, read_all
from services.rpc.mesh import Mesh

A = Action
FOLLOW = {A.FOLLOW_USER: "user", A.FOLLOW_BOARD: "board", A.FOLLOW_INTEREST: "interest"}
UNFOLLOW = {A.UNFOLLOW_USER: "user", A.UNFOLLOW_BOARD: "board", A.UNFOLLOW_INTEREST: "interest"}
ENGAGEMENTS = {A.IMPRESSION, A.CLOSEUP, A.CLICK, A.SAVE, A.HIDE}
KINDS = {"pin": 1, "board": 2, "user": 3, "interest": 4}
FALLBACK_PINS, SHOWN_PINS = 250, 2_100  # smartfeed keeps so many of a list, and of the pages since the last first one
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TIMEOUT_S = 20.0
Row = dict[str, Any]


@dataclass
class Recount:
    """The contents of every view, by the log alone."""

    follows: dict[int, dict[tuple[str, int], int]] = field(default_factory=lambda: defaultdict(dict))
    boards: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    history: dict[int, Counter[tuple[int, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    postings: dict[tuple[int, int], dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    titles: dict[tuple[str, int], str] = field(default_factory=dict)
    served: dict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    since_first: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))  # of `served`
    removed: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    gone: set[int] = field(default_factory=set)  # boards that were deleted
    down: set[int] = field(default_factory=set)
    joined: dict[int, dict[int, None]] = field(default_factory=lambda: defaultdict(dict))
    counts: dict[tuple[int, int, int], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    dates: dict[Any, int] = field(default_factory=dict)  # of the latest event of each entry, also of those gone
    owners: dict[int, int] = field(default_factory=dict)  # of boards
    began: dict[int, int] = field(default_factory=dict)  # when the owner created it last
    deleted: dict[int, int] = field(default_factory=dict)  # when it was deleted last
    voices: dict[tuple[int, ...], set[int]] = field(default_factory=lambda: defaultdict(set))
    newest: dict[int, int] = field(default_factory=lambda: defaultdict(int))
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
            row["partition"] = record.partition
            if record.topic == Topic.OBJECTS and row["action"] in ENGAGEMENTS:  # those of probes too
                self.newest[record.partition] = max(self.newest[record.partition], row["at_ms"])
            if record.topic not in apply:
                continue  # counts are made of the other topics
            if max(row["user"], row["pin"]) < RESERVED_FROM:  # probes go on while the views are asked
                apply[record.topic](row)

    def _user(self, e: Row) -> None:
        action, user = e["action"], e["user"]
        self.ids[e["id"]] += 1
        if action in FOLLOW or action in UNFOLLOW:
            key = ((FOLLOW | UNFOLLOW)[action], _followed(action, e))
            self._latest(self.follows[user], ("follows", user, key), key, action in FOLLOW, e["at_ms"])
        elif action in (A.CREATE_BOARD, A.DELETE_BOARD):
            of = ("boards", user, e["board"])
            self._latest(self.boards[user], of, e["board"], action == A.CREATE_BOARD, e["at_ms"])
        elif action in ENGAGEMENTS:
            self.history[user][e["pin"], e["board"], action, e["surface"], e["at_ms"]] += 1
            if action in (A.SAVE, A.HIDE):
                self.removed[user].add(e["pin"])

    def _latest(self, held: dict[Any, int], of: Any, key: Any, put: bool, at_ms: int) -> None:
        """The latest event of an entry decides whether it is there; of equal dates the one that came last."""
        if at_ms < self.dates.get(of, 0):
            return
        self.dates[of] = at_ms
        held.pop(key, None)
        if put:
            held[key] = at_ms

    def _source(self, e: Row) -> None:
        action = e["action"]
        if action == A.TAKEDOWN:
            self.down.add(e["pin"])
        elif action in (A.SAVE, A.UNSAVE):
            of = ("on board", e["board"], e["pin"])
            if e["at_ms"] >= self.dates.get(("deleted", e["board"]), 0):
                self._latest(self.postings[1, e["board"]], of, e["pin"], action == A.SAVE, e["at_ms"])
        elif action in (A.CREATE_BOARD, A.DELETE_BOARD):
            self._board(e)
        elif action == A.JOIN_INTEREST:
            self.postings[2, e["target"]][e["pin"]] = e["at_ms"]
        elif action == A.LEAVE_INTEREST:
            self.postings[2, e["target"]].pop(e["pin"], None)

    def _board(self, e: Row) -> None:
        """Where only valid statements are made: the latest says whether the board is there; its deletion takes its pins."""
        board, held = e["board"], self.postings[1, e["board"]]
        if e["at_ms"] >= self.dates.get(("of board", board), 0):
            self.dates["of board", board] = e["at_ms"]
            (self.gone.add if e["action"] == A.DELETE_BOARD else self.gone.discard)(board)
        if e["action"] == A.DELETE_BOARD:
            self.dates["deleted", board] = max(e["at_ms"], self.dates.get(("deleted", board), 0))
            for pin in [pin for pin, at_ms in held.items() if at_ms <= e["at_ms"]]:
                del held[pin]

    def _object(self, e: Row) -> None:
        named = {A.CREATE_PIN: "pin", A.UPDATE_PIN: "pin", A.CREATE_BOARD: "board", A.NAME_USER: "user"}
        kind = named.get(e["action"]) or ("interest" if e["action"] == A.NAME_INTEREST else "")
        if kind:
            key = (kind, e["target"] if kind == "interest" else e[kind])
            self.titles.setdefault(key, "")
            stated = (e["title"] or e["stated"] & 1) and (kind != "board" or self._is_owners(e))
            if stated and e["at_ms"] >= self.dates.get(("title", key), 0):
                self.titles[key], self.dates["title", key] = e["title"], e["at_ms"]
        elif e["action"] == A.DELETE_BOARD and self.owners.setdefault(e["board"], e["user"]) == e["user"]:
            self.deleted[e["board"]] = max(e["at_ms"], self.deleted.get(e["board"], 0))
        self._count(e)

    def _is_owners(self, e: Row) -> bool:
        """A board belongs to the user who first stated it, until they delete it; then to the next who creates it."""
        board, owner, deleted = e["board"], self.owners.get(e["board"], e["user"]), self.deleted.get(e["board"], 0)
        if owner != e["user"]:
            if not max(deleted, 1) > self.began.get(board, 0) or e["at_ms"] < deleted:
                return False
            self.began.pop(board, None)
            self.titles["board", board] = ""
            self.dates.pop(("title", ("board", board)), None)
        self.owners[board] = e["user"]
        self.began[board] = max(e["at_ms"], self.began.get(board, 0))
        return True

    def _count(self, e: Row) -> None:
        """A voice counts for its pin, board and user, and the interests that the pin is in at that moment."""
        action, joined = e["action"], self.joined[e["pin"]]
        if action in (A.CREATE_PIN, A.UPDATE_PIN, A.JOIN_INTEREST):
            for interest in [e["target"]] if action == A.JOIN_INTEREST else e["interests"]:
                if len(joined) < 256:
                    joined[interest] = None
        elif action == A.LEAVE_INTEREST:
            joined.pop(e["target"], None)
        elif action in ENGAGEMENTS and self._is_heard(e):
            objects = [*((name, e[name]) for name in ("pin", "board", "user")), *(("interest", i) for i in joined)]
            for name, object_ in objects:
                if object_:
                    self.counts[KINDS[name], object_, action][e["at_ms"] // HOUR_MS * HOUR_MS] += 1

    def _is_heard(self, e: Row) -> bool:
        """A user counts once for a pin: by saves and hides for good, by others within a day, if it is of this week."""
        day = 0 if e["action"] in (A.SAVE, A.HIDE) else e["at_ms"] // DAY_MS
        if day <= self.newest[e["partition"]] // DAY_MS - 7:
            day = 0
        voices = self.voices[e["partition"], day, e["user"], e["action"]]
        if e["pin"] in voices or len(voices) >= (1024 if day else 16_384):
            return False
        voices.add(e["pin"])
        return True

    def _feed(self, e: Row) -> None:
        if e["action"] == A.SERVED:
            at, pin = (e["user"], e["surface"]), e["pin"]
            shown = self.served[at]
            if e["position"] == 0:
                self.since_first[at] = 0
                del shown[FALLBACK_PINS:]
            if pin in shown[: self.since_first[at]] or self.since_first[at] >= SHOWN_PINS:
                return
            if pin in shown:
                shown.remove(pin)
            shown.insert(self.since_first[at], pin)
            self.since_first[at] += 1
            del shown[max(FALLBACK_PINS, self.since_first[at]) :]


def _followed(action: int, e: Row) -> int:
    return int(e["board"] if action in (A.FOLLOW_BOARD, A.UNFOLLOW_BOARD) else e["target"])


def _rows(batch: Batch) -> list[Row]:
    names = ("user", "action", "pin", "board", "target", "at_ms", "surface", "id", "position", "stated")
    interests = [batch.interests.run(i).tolist() for i in range(len(batch))]
    columns = [*(getattr(batch, name).tolist() for name in names), batch.title.strings(), interests]
    return [dict(zip((*names, "title", "interests"), values, strict=True)) for values in zip(*columns, strict=True)]


def recount(mesh: Mesh) -> Recount:
    """Read the whole log."""
    log = open_reader(mesh)
    everything = dict.fromkeys(log.ends(TIMEOUT_S), 0)
    found = Recount()
    try:
        for chunk in read_all(log, everything, 600):
            for record in chunk:
                found.add(record)
    finally:
        log.close()
    return found
