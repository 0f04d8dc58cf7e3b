"""Fills Redis from the events of the mesh's log: python -m bench.plain.loading REDIS_SOCKET FOLDER.

It knows the actions that Last.fm consists of; another one is refused by number, so that nothing is left out in silence.
"""

import sys
import time
from collections.abc import Iterable
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.plain.rows import DONE, FACTS, FOLLOW, NO_FACTS, POSTING, Doc, Rows
from bench.plain.rules import ACTIONS_KEPT, DAY_MS, SAVE

FOLLOW_USER, FOLLOW_BOARD, FOLLOW_INTEREST, CREATE_BOARD = 1, 3, 5, 10
CREATE_PIN, JOIN_INTEREST, NAME_USER, NAME_INTEREST = 30, 33, 40, 41
USERS = (FOLLOW_USER, FOLLOW_BOARD, FOLLOW_INTEREST, CREATE_BOARD, SAVE)
SOURCES = (SAVE, JOIN_INTEREST)
OBJECTS = (CREATE_PIN, CREATE_BOARD, NAME_USER, NAME_INTEREST, SAVE)
LONGEST_WINDOW_DAYS = 90
AT_ONCE = 5_000  # commands


class Loader:
    """Writes the state by the three parts of the log."""

    def __init__(self, store: Any, folder: Path) -> None:
        self._redis, self._folder = store, folder
        self._waiting = store.pipeline(transaction=False)

    def load(self) -> None:
        """Everything, into an empty database."""
        self._follows_and_actions(self._columns("users", USERS))
        self._postings(self._columns("sources", SOURCES))
        objects = self._columns("objects", OBJECTS)
        texts = msgspec.msgpack.decode((self._folder / "texts.msgpack").read_bytes())
        self._documents(objects, texts)
        self._facts(objects, [interests for _, _, interests in texts])
        self._waiting.execute()

    def _columns(self, topic: str, known: tuple[int, ...]) -> dict[str, Rows]:
        with np.load(self._folder / f"{topic}.npz") as found:
            columns = {name: found[name] for name in found.files}
        unknown = np.setdiff1d(columns["action"], known)
        if len(unknown):
            raise ValueError(f"{topic}: actions {unknown.tolist()} are not known to the plain stack")
        return columns

    def _push(self, key: str, elements: list[bytes]) -> None:
        self._waiting.rpush(key, *elements)
        self._flush()

    def _flush(self) -> None:
        if len(self._waiting) >= AT_ONCE:
            self._waiting.execute()

    def _follows_and_actions(self, events: dict[str, Rows]) -> None:
        for action, name, ids in (
            (FOLLOW_USER, "users", "target"),
            (FOLLOW_BOARD, "boards", "board"),
            (FOLLOW_INTEREST, "interests", "target"),
            (CREATE_BOARD, "own", "board"),
        ):
            of = _where(events, events["action"] == action)
            rows = _rows(FOLLOW, id=of[ids], at_ms=of["at_ms"])
            order = np.lexsort((rows["id"], rows["at_ms"]))[::-1]
            for user, elements in _by(of["user"][order], rows[order]):
                self._push(f"user:{user}:{name}", elements)
        of = _where(events, events["action"] == SAVE)
        rows = _rows(DONE, pin=of["pin"], at_ms=of["at_ms"], action=of["action"])
        order = np.argsort(of["at_ms"], kind="stable")
        for user, elements in _by(of["user"][order], rows[order]):
            self._push(f"user:{user}:recent", elements[-ACTIONS_KEPT:])
        for user, pins in _by(of["user"], of["pin"]):
            self._waiting.sadd(f"user:{user}:seen", *pins)
            self._flush()

    def _postings(self, events: dict[str, Rows]) -> None:
        """Of a pin that was saved twice to one board, the last time."""
        for action, name, ids in ((SAVE, "board", "board"), (JOIN_INTEREST, "interest", "target")):
            of = _where(events, events["action"] == action)
            pairs = np.rec.fromarrays([of[ids][::-1], of["pin"][::-1]])
            last = np.sort(len(pairs) - 1 - np.unique(pairs, return_index=True)[1])
            rows = _rows(POSTING, pin=of["pin"], at_ms=of["at_ms"], quality=of["quality"])
            for place, elements in _by(of[ids][last], rows[last]):
                self._push(f"{name}:{place}", elements)
                if name == "board":
                    self._waiting.sadd("boards", place)

    def _documents(self, events: dict[str, Rows], texts: list[Any]) -> None:
        """texts: title, link and interests of each event that is no save."""
        stated = np.flatnonzero(events["action"] != SAVE).tolist()
        for row, (title, link, interests) in zip(stated, texts, strict=True):
            kind, name, owner = {
                CREATE_PIN: ("pin", "pin", 0),
                CREATE_BOARD: ("board", "board", int(events["user"][row])),
                NAME_USER: ("user", "user", 0),
                NAME_INTEREST: ("interest", "target", 0),
            }[int(events["action"][row])]
            doc = Doc(title, link, owner, interests)
            self._waiting.set(f"doc:{kind}:{int(events[name][row])}", msgspec.msgpack.encode(doc))
            self._flush()

    def _facts(self, events: dict[str, Rows], interests: list[list[int]]) -> None:
        saved = _where(events, events["action"] == SAVE)
        if (saved["at_ms"] > (time.time() - LONGEST_WINDOW_DAYS * 86_400) * 1000).any():
            raise ValueError("saves of the last 90 days: the plain stack has counts of all time alone")
        pins, saves = np.unique(saved["pin"], return_counts=True)
        self._waiting.zadd("saved:pins", dict(zip(pins.tolist(), saves.tolist(), strict=True)))
        of_pin = dict(zip(pins.tolist(), saves.tolist(), strict=True))
        of_interest: dict[int, int] = {}
        stated = np.flatnonzero(events["action"] != SAVE)
        for row, joined in zip(stated.tolist(), interests, strict=True):
            if events["action"][row] != CREATE_PIN:
                continue
            pin = int(events["pin"][row])
            facts = np.frombuffer(bytearray(NO_FACTS), FACTS)
            kept = facts["kept"][0]
            kept[:3] = events["at_ms"][row] / DAY_MS, events["quality"][row], len(joined)
            kept[3 + 4 * 3 + 3] = np.float16(of_pin.get(pin, 0))  # saves, ever
            facts["interests"][0, : len(joined)] = joined[:8]
            self._waiting.set(f"facts:{pin}", facts.tobytes())
            self._flush()
            for interest in joined:
                of_interest[interest] = of_interest.get(interest, 0) + of_pin.get(pin, 0)
        self._waiting.zadd("saved:interests", {of: n for of, n in of_interest.items() if n})


def _where(events: dict[str, Rows], rows: Rows) -> dict[str, Rows]:
    return {name: values[rows] for name, values in events.items()}


def _rows(dtype: Any, **columns: Rows) -> Rows:
    rows = np.empty(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        rows[name] = values
    return rows


def _by(keys: Rows, rows: Rows) -> Iterable[tuple[int, list[bytes]]]:
    """Each key with its rows as bytes, in their order."""
    order = np.argsort(keys, kind="stable")
    pairs = zip(keys[order].tolist(), rows[order], strict=True)
    for key, of in groupby(pairs, lambda pair: pair[0]):
        yield int(key), [row.tobytes() for _, row in of]


if __name__ == "__main__":
    Loader(import_module("redis").Redis(unix_socket_path=sys.argv[1], protocol=2), Path(sys.argv[2])).load()
