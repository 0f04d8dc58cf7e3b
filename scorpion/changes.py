"""What the log says of pins, as the cache must hear it: the view of `objects` that keeps nothing, and forgets."""

from collections.abc import Sequence

import numpy as np

from scorpion.facts import Facts
from scorpion.origin import STANDING
from services.core.events import Action, flags
from services.core.topics import Topic
from services.log.protocol import Reader, Record
from services.state.tail import Tail

TOPICS = (Topic.OBJECTS,)

A = Action
_OF_PIN = flags(A.CREATE_PIN, A.UPDATE_PIN, A.TAKEDOWN, A.JOIN_INTEREST, A.LEAVE_INTEREST)
_RELEVANT = _OF_PIN | flags(A.PUT_FEATURES, A.SWITCH_DATASET)


class Changes:
    """Drops cached rows as their pins change."""

    def __init__(self, facts: Facts, log: Reader) -> None:
        """It follows from the end that the log has when it is first asked: the cache is empty then."""
        self._facts = facts
        self.shard = Tail(log, facts.clear)

    def apply(self, records: Sequence[Record]) -> None:
        """Drop what these records change. What was done to a pin changes its counts, which age by themselves."""
        self._drop(records)
        self.shard.commit(records)

    def _drop(self, records: Sequence[Record]) -> None:
        kept = {column.partition(".")[0].encode() for column in self._facts.cache.columns if column != STANDING}
        for record in records:
            batch = record.batch
            if not _RELEVANT[batch.action].any():
                continue
            switched = np.flatnonzero(batch.action == A.SWITCH_DATASET)
            if any(batch.title.run(row).tobytes() in kept for row in switched.tolist()):
                self._facts.clear()
            of_pin, put = _OF_PIN[batch.action], batch.action == A.PUT_FEATURES
            if (of_pin | put).any():
                self._facts.drop(np.where(of_pin, batch.pin, batch.target)[of_pin | put])
