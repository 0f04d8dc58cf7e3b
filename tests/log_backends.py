"""Every log behind `services.log.protocol.Reader` and `Writer`, as the contract suite runs it (tests/test_log_contract.py).

A backend is one more class and one name in BACKENDS. Besides readers and writers it takes batches through its own ingest API,
which the protocol leaves open.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from roadrunner.writer import EmbeddedWriter
from services.core.clock import wall_clock
from services.core.errors import DeadlineExceeded, Unavailable
from services.core.events import Batch
from services.core.topics import split
from services.log.kafka import KafkaReader
from services.log.kafka_writer import KafkaWriter
from services.log.memory import MemoryLog
from services.log.protocol import Draft, Reader, Writer
from tests.kafka.broker import Broker
from tests.kafka.logs import new_log
from tests.roadrunner.running import PARTITIONS, running
from tests.services.children import until


class Backend(Protocol):
    """A log that runs, with PARTITIONS partitions a topic. counts: whether it counts events (`End.events`)."""

    counts: bool

    def publish(self, batch: Batch) -> None:
        """Returns once the batch is durable."""
        ...

    def reader(self) -> Reader:
        """A reader of its own."""
        ...

    def writer(self) -> Writer:
        """A writer of its own."""
        ...

    def restart(self) -> None:
        """Stop it and start it again, where it was."""
        ...


class Embedded:
    """Roadrunner's log, over gRPC."""

    counts = True

    def __init__(self, folder: Path) -> None:
        self._running = running(folder)
        self._door = self._running.__enter__()

    def publish(self, batch: Batch) -> None:
        self._door.publisher().publish(batch, 30)

    def reader(self) -> Reader:
        return self._door.reader()

    def writer(self) -> Writer:
        return EmbeddedWriter(self._door.committer, PARTITIONS)

    def restart(self) -> None:
        self._door.stop()
        self._door.start()

    def __enter__(self) -> "Embedded":
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__(None, None, None)


class InMemory:
    """A log of this process."""

    gaps, counts = 0, True

    def __init__(self, folder: Path) -> None:
        self._log = MemoryLog(PARTITIONS, gaps=self.gaps)

    def publish(self, batch: Batch) -> None:
        self._log.append(batch, accepted_ms=wall_clock())

    def reader(self) -> Reader:
        return self._log.reader()

    def writer(self) -> Writer:
        return self._log.writer()

    def restart(self) -> None:
        self._log.restart()

    def __enter__(self) -> "InMemory":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class WithGaps(InMemory):
    """The same, with gaps between offsets and writers that number their records."""

    gaps = 4


class OnKafka:
    """On a real broker, in topics of its own. What publishes splits batches itself, as roadrunner's splitter does."""

    counts = False

    def __init__(self, broker: Broker) -> None:
        self._broker, self._cluster = broker, new_log(broker, PARTITIONS)
        self._writers: list[KafkaWriter] = []
        self._publisher = self.writer()

    def publish(self, batch: Batch) -> None:
        parts = split(batch, PARTITIONS)
        self._publisher.append([Draft(part.topic, part.partition, part.batch) for part in parts], 30)

    def reader(self) -> Reader:
        return KafkaReader(self._cluster)

    def writer(self) -> Writer:
        self._writers.append(KafkaWriter(self._cluster))
        return self._writers[-1]

    def restart(self) -> None:
        self._broker.stop()
        self._broker.start()
        until(self._leads, 60)

    def _leads(self) -> bool:
        """Whether the broker leads every partition again, which is a moment after it answers."""
        reader = KafkaReader(self._cluster)
        try:
            reader.history(5)
            return len(reader.ends(5)) > 0
        except (Unavailable, DeadlineExceeded):
            return False
        finally:
            reader.close()

    def __enter__(self) -> "OnKafka":
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()


#: By name; the one on Kafka takes a broker, the others a folder.
BACKENDS: dict[str, Callable[[Any], AbstractContextManager[Backend]]] = {
    "embedded": Embedded,
    "memory": InMemory,
    "memory with gaps": WithGaps,
    "kafka": OnKafka,
}
