"""How a process reads the log of its mesh, whichever log that is."""

import time
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from services.core.errors import NotReady, Unavailable
from services.core.installation import remedy
from services.core.topics import Topic
from services.log.embedded import EmbeddedReader
from services.log.progress import Progress
from services.log.protocol import Positions, Reader, Record
from services.rpc.mesh import Mesh

if TYPE_CHECKING:
    from services.log.kafka import KafkaReader

EMBEDDED = "embedded"  # of `[mesh] log`
ENDS_S = 60.0  # for the ends of the log, at most


def open_reader(mesh: Mesh) -> Reader:
    """A reader of its own of the log that `[mesh] log` names. Raises NotReady where Kafka's client is not installed."""
    return kafka_reader(mesh) if on_kafka(mesh) else EmbeddedReader(mesh)


def on_kafka(mesh: Mesh) -> bool:
    """Whether the log is on Kafka."""
    return mesh.common.log != EMBEDDED


def kafka_reader(mesh: Mesh, topics: Collection[int] = tuple(Topic)) -> "KafkaReader":
    """A reader of the log on Kafka, and of the ends of these topics. Raises NotReady where its client is not installed."""
    check_client()
    from services.log.kafka import KafkaReader  # noqa: PLC0415 - the embedded log needs no client of Kafka
    from services.log.kafka_cluster import cluster_of  # noqa: PLC0415

    return KafkaReader(cluster_of(mesh), topics)


def check_client() -> None:
    """Raise NotReady, with a remedy, where Kafka's client is not installed."""
    if find_spec("confluent_kafka") is None:
        raise NotReady(
            f"a log on Kafka takes a package that is not here: confluent-kafka; install it: `{remedy('cluster')}`"
        )


def read_all(log: Reader, positions: Positions, timeout: float) -> Iterator[list[Record]]:
    """Chunks of records from the positions to the log's present end, where a record of each partition lies, then stop. Repeats
    come without their events (services/log/progress.py). Raises Unavailable after `timeout`, NotReady when a record was lost.
    """
    ends = {at: end.next for at, end in log.ends(min(timeout, ENDS_S)).items() if at in positions}
    missing = {at for at, end in ends.items() if positions[at] < end}
    progress = {at: Progress(positions[at], whole=not positions[at]) for at in missing}
    started = time.monotonic()
    for chunk in log.subscribe(positions) if missing else ():
        wanted = [r for r in chunk if r.offset < ends[r.topic, r.partition]]
        yield [found for r in wanted if (found := progress[r.topic, r.partition].pass_over(r)) is not None]
        missing = {at for at in missing if progress[at].next < ends[at]}
        if not missing:
            return
        if time.monotonic() - started > timeout:
            raise Unavailable(f"{len(missing)} partitions of the log were not read to their end within {timeout} s")
