"""The thread that runs a stage on Kafka: a member of the stage's consumer group, which begins anew after whatever goes wrong."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
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
        self._epoch, self._together_s = 0, together_s

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
        """Records of its partitions that it has not gone through, at most. Raises MeshError when the log can't be asked."""
        ends = self._reader.ends(ASK_S)
        return sum(max(0, ends[self._stage.topic, p].next - position) for p, position in self.positions().items())

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
            while not self._stopping.is_set():
                done = self._run.step(group.poll(POLL_S))
                if 0 < done < FEW:
                    self._stopping.wait(self._together_s)
                if self._placed:
                    self._trouble = None
        finally:
            self._revoke()
            group.close()

    def _place(self, noted: Mapping[int, Noted]) -> Mapping[int, int]:
        history, ends = self._reader.history(ASK_S), self._reader.ends(ASK_S)
        check_known(self._stage, noted, any(end.next for at, end in ends.items() if at[0] in self._stage.writes))
        self._stage.shard.connect(history, ends, [(self._stage.topic, partition) for partition in noted])
        self._placed, self._epoch = frozenset(noted), history.epoch
        return self._run.place({p: self._still(p, of, history) for p, of in noted.items()})

    def _still(self, partition: int, noted: Noted, history: LogHistory) -> Noted:
        """What is noted, without what the log has lost since: other records lie there now."""
        end = history.end_of(noted.epoch, (self._stage.topic, partition))
        return noted if end is None or noted.next <= end else Noted(end)

    def _revoke(self) -> None:
        self._placed = frozenset()
        self._run.revoke()

    def _send(self, parts: Sequence[Part]) -> None:
        self._writer.send([Serialised(p.topic, p.partition, p.value, p.provenance) for p in parts], SEND_S)

    def _commit(self, noted: Mapping[int, Noted]) -> None:
        if self._group is not None:
            self._group.commit({p: of._replace(epoch=self._epoch) for p, of in noted.items()})

    def _fail(self, error: Exception) -> None:
        if self._trouble is None or self._trouble[1] != str(error):  # said once, not with each attempt
            known = isinstance(error, MeshError)
            logger.warning("%s begins anew: %s", self._stage.name, error, exc_info=None if known else error)
            self._trouble = (self._trouble[0] if self._trouble else time.monotonic(), str(error))


GroupOf = partial[KafkaGroup]  # lacks `placed` and `revoked`
