"""The quality of pins as last stated, by which a save that states none is filled in as it is accepted, whichever caller wrote it.

So the event holds all that views need, and none has to ask another for it. The table is a function of the pins' records in
`objects`, and changes in the write that appends them. A log of before there was a table is read once.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from roadrunner import layout
from roadrunner.intake import Group
from roadrunner.staged import Tables
from services.core.columns import F32, I64, U64, Array
from services.core.events import Action, Batch, flags
from services.core.topics import Topic, partition_of
from services.log.protocol import Partition
from services.state.database import Database

logger = logging.getLogger(__name__)
NOTE = b"qualities"  # put once the table says what the log does
_STATES = flags(Action.CREATE_PIN, Action.UPDATE_PIN)
_ACTIONS = bytes(np.flatnonzero(_STATES).tolist())


class Qualities:
    """The qualities of the pins of a log, as of its end."""

    def __init__(self, tables: Tables, partitions: int) -> None:
        self._tables, self._partitions = tables, partitions
        self._any = next(iter(tables.family("qualities").keys()), None) is not None

    def filled(self, write: Any, group: Group, chosen: I64) -> Group:
        """The group with the quality of the pin of each of the chosen saves that states none, where it is known; what chosen
        rows state of pins becomes part of the write, and counts for all saves of the group.
        """
        action, quality = group.column("action")[chosen], group.columns.get("quality")
        stating = np.empty(0, np.int64)
        if quality is not None:
            stating = chosen[_STATES[action] & ~np.isnan(quality[chosen])]
        lacking = chosen[action == Action.SAVE]
        if quality is not None:
            lacking = lacking[np.isnan(quality[lacking])]
        stated: dict[int, float] = {}
        if quality is not None and len(stating):
            stated = self._state(write, *(group.column(name)[stating] for name in ("pin", "quality", "at_ms")))
        if not len(lacking) or not self._any:
            return group
        pins, each = np.unique(group.column("pin")[lacking], return_inverse=True)
        known = self._known(pins)
        if stated:
            known = np.array([stated.get(pin, old) for pin, old in zip(pins.tolist(), known, strict=True)], np.float32)
        if np.isnan(known).all():
            return group
        column = np.full(group.rows, np.nan, np.float32) if quality is None else quality.copy()
        column[lacking] = known[each]
        return replace(group, columns={**group.columns, "quality": column})

    def fill(self, database: Database, ends: Mapping[Partition, Any]) -> None:
        """Before the first write: make the table of what the log has, if it lacks one."""
        if database.note(NOTE) is not None:
            return
        if any(end.next for (topic, _), end in ends.items() if topic == Topic.OBJECTS):
            logger.info("the qualities of pins are read from the log, once")
            bounds = layout.record_key(Topic.OBJECTS, 0, 0), layout.record_key(Topic.OBJECTS + 1, 0, 0)
            for key, value in database.family("records").items(*bounds):
                message = layout.message_of(key, layout.record_of(key, value)[2])
                if message.quality and any(action in message.action for action in _ACTIONS):
                    batch, write = Batch.of(message), database.batch()
                    rows = np.flatnonzero(_STATES[batch.action] & ~np.isnan(batch.quality))
                    self._state(write, batch.pin[rows], batch.quality[rows], batch.at_ms[rows])
                    database.write(write)
        write = database.batch()
        write.put(NOTE, b"1")
        database.write(write)

    def _state(self, write: Any, pins: U64, quality: F32, at_ms: I64) -> dict[int, float]:
        """Put what is stated, in the order of arrival, unless something later is known: the statement with the latest date
        stands, of equal dates the one that came last. The qualities of these pins.
        """
        order = np.lexsort((at_ms, pins))  # stable: of equal dates in the order of arrival
        pins, quality, at_ms = pins[order], quality[order], at_ms[order]
        last = np.append(pins[1:] != pins[:-1], True)[: len(pins)]
        pins, quality, at_ms = pins[last], quality[last], at_ms[last]
        keys, handle, found = self._keys(pins), self._tables.handle("qualities"), {}
        before = zip(keys, self._tables.family("qualities").get(keys), strict=True)
        for (key, old), pin, *said in zip(before, pins.tolist(), quality.tolist(), at_ms.tolist(), strict=True):
            known = layout.quality_of(key, old)
            if known is None or said[1] >= known[1]:
                write.put(key, layout.quality_value(*said), handle)
                self._any = True
                known = (said[0], said[1])
            found[pin] = known[0]
        return found

    def _known(self, pins: U64) -> F32:
        """float32[n]: NaN where none is known."""
        keys = self._keys(pins)
        values = self._tables.family("qualities").get(keys)
        found = [layout.quality_of(*of) for of in zip(keys, values, strict=True)]
        return np.array([np.nan if known is None else known[0] for known in found], np.float32)

    def _keys(self, pins: Array) -> list[bytes]:
        return layout.object_keys(partition_of(pins, self._partitions), pins)
