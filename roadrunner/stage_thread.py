"""The thread that runs a stage on Kafka: a member of the stage's consumer group, which begins anew after whatever goes wrong.

A process joins the group once it has come near to what is noted there: one that has lost its folder, or is new, takes no
partition from those that can go on with it, and one that can't make the state of all of them takes none.
"""

import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from roadrunner.splitting import Part
from roadrunner.stage import Run, Stage, check_known
from services.core.errors import MeshError
from services.log.history import LogHistory
from services.log.kafka import KafkaReader
from services.log.kafka_group import KafkaGroup
from services.log.kafka_writer import KafkaWriter, Serialised
from services.log.protocol import Noted

logger = logging.getLogger(__name__)
POLL_S, RETRY_S, SEND_S, ASK_S = 0.2, 0.5, 30.0, 10.0
SAY_AFTER_S = 5.0  # trouble that lasts no longer is no problem: a broker changes, partitions move
FEW = 64  # records
FOLLOW_S = 1.0  # between looks at what the others have noted
NEAR = 1_000  # records before what is noted, at which a process joins
MOST_AHEAD = 4_096  # records of a partition of another that wait for its note


class StageThread:
    """Runs a stage until it is stopped."""

    def __init__(
        self, stage: Stage, reader: KafkaReader, writer: KafkaWriter, group: "GroupOf", together_s: float = 0.0
    ) -> None:
        """reader: of the topics that the stage reads and writes; together_s: so long it waits for more after a few records."""
        self._stage, self._reader, self._writer, self._open = stage, reader, writer, group
        self._group: KafkaGroup | None = None
        self._run = Run(stage, self._send, self._commit)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=stage.name, daemon=True)
        self._trouble: tuple[float, str] | None = None
        self._placed: frozenset[int] = frozenset()
        self._joined, self._looked_s = False, 0.0
        self._history: LogHistory | None = None
        self._together_s = together_s

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the piece in hand and stop."""
        self._stopping.set()
        self._thread.join()

    def problem(self) -> str:
        """Why it does not go on; empty when it does."""
        if self._stage.shard.damage:
            return self._stage.shard.damage
        trouble = self._trouble
        if trouble is None or time.monotonic() - trouble[0] < SAY_AFTER_S:
            return ""
        return f"{self._stage.name} waits: {trouble[1]}"

    def positions(self) -> dict[int, int]:
        """How far it has come in each of the partitions that it has."""
        return self._run.positions(dict.fromkeys(self._placed))

    def lag_records(self) -> int:
        """Records of its partitions that it has not gone through, at most; of all partitions before it has joined. Raises
        MeshError when the log can't be asked.
        """
        ends = self._reader.ends(ASK_S)
        every = [partition for topic, partition in ends if topic == self._stage.topic]
        positions = self._run.positions(dict.fromkeys(self._placed if self._joined else every))
        return sum(max(0, ends[self._stage.topic, p].next - position) for p, position in positions.items())

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._join()
            except Exception as error:
                self._fail(error)
                self._stopping.wait(RETRY_S)

    def _join(self) -> None:
        """Be a member until something goes wrong, or it is stopped."""
        group = self._group = self._open(placed=self._place, revoked=self._revoke)
        try:
            self._come_near(group)
            group.join()
            while not self._stopping.is_set():
                self._step(group)
                if self._joined:
                    self._trouble = None
        finally:
            self._revoke()
            self._joined = False
            group.close()

    def _come_near(self, group: KafkaGroup) -> None:
        """Go through what others have made, until little is left of it."""
        starts = self._run.place({}, self._noted(group))
        if self._run.left > NEAR:
            logger.info("%s: goes through what was made before it joins its group", self._stage.name)
            group.read(starts)
        while self._run.left > NEAR and not self._stopping.is_set():
            self._step(group)
        self._run.revoke()

    def _step(self, group: KafkaGroup) -> None:
        done = self._run.step(group.poll(POLL_S))
        others = self._run.others
        if others and time.monotonic() - self._looked_s > FOLLOW_S:
            self._run.follow(self._still(group.noted()))
            self._looked_s = time.monotonic()
        group.pause([partition for partition, ahead in others.items() if ahead > MOST_AHEAD])
        if 0 < done < FEW:
            self._stopping.wait(self._together_s)

    def _noted(self, group: KafkaGroup) -> dict[int, Noted]:
        """What the group has noted of every partition, of which this process can have the state. Raises NotReady when not."""
        history, ends = self._reader.history(ASK_S), self._reader.ends(ASK_S)
        noted = group.noted()
        check_known(self._stage, noted, ends)
        self._stage.shard.connect(history, ends, [(self._stage.topic, partition) for partition in noted])
        self._history = history
        return self._still(noted)

    def _place(self, own: Collection[int]) -> Mapping[int, int]:
        """Within `poll` of its group."""
        assert self._group is not None, "a member has a group"
        noted = self._noted(self._group)
        self._placed, self._joined = frozenset(own), True
        others = {p: of for p, of in noted.items() if p not in self._placed}
        return self._run.place({p: noted[p] for p in own}, others)

    def _still(self, noted: Mapping[int, Noted]) -> dict[int, Noted]:
        """What is noted, without what the log has lost since: other records lie there now."""
        found = dict(noted)
        for partition, of in noted.items():
            end = self._history.end_of(of.epoch, (self._stage.topic, partition)) if self._history else None
            if end is not None and of.next > end:
                found[partition] = Noted(end)
        return found

    def _revoke(self) -> None:
        self._placed = frozenset()
        self._run.revoke()

    def _send(self, parts: Sequence[Part]) -> None:
        self._writer.send([Serialised(p.topic, p.partition, p.value, p.provenance) for p in parts], SEND_S)

    def _commit(self, noted: Mapping[int, Noted]) -> None:
        assert self._group is not None, "who writes is a member"
        assert self._history is not None, "and has looked at the log before"
        self._group.commit({p: of._replace(epoch=self._history.epoch) for p, of in noted.items()})

    def _fail(self, error: Exception) -> None:
        if self._trouble is None or self._trouble[1] != str(error):  # said once, not with each attempt
            known = isinstance(error, MeshError)
            logger.warning("%s begins anew: %s", self._stage.name, error, exc_info=None if known else error)
            self._trouble = (self._trouble[0] if self._trouble else time.monotonic(), str(error))


GroupOf = partial[KafkaGroup]  # lacks `placed` and `revoked`
