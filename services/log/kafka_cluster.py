"""A Kafka cluster as the log uses it: the names of its topics, how clients connect, and their errors as the mesh's own.

Every call has a deadline. What the client library says of each fault is pinned in tests/assumptions/test_kafka_assumptions.py.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from services.core.errors import (
    DeadlineExceeded,
    Exhausted,
    InvalidArgument,
    MeshError,
    NotReady,
    OutOfRange,
    Unavailable,
)
from services.core.settings import KafkaSettings
from services.core.topics import INGEST, Topic
from services.log.protocol import Partition
from services.rpc.mesh import Mesh

logger = logging.getLogger(__name__)
SCHEME = "kafka://"
MAX_RECORD = 8 << 20  # bytes of one record; its topic and the client allow as many
META = "meta"
NAMES = {INGEST: "ingest"} | {int(topic): topic.name.lower() for topic in Topic}
#: Of a client that asks: it finds the new leader of a partition once what it knew of the old one is older than this. An
#: AdminClient that waits for a broker which is away spins meanwhile (tests/assumptions/test_kafka_assumptions.py): so ranges are
#: asked for by a consumer, whose calls wait.
ASKING = {"metadata_max_age_ms": 2_000}
ATTEMPT_S, AGAIN_S = 2.5, 0.1
_EARLIEST, _LATEST = -2, -1  # in place of a time: the protocol's own numbers
#: A broker whose machine is gone answers nothing, and says nothing: what is asked of it ends by these, and the new leaders of its
#: partitions are heard of without an error.
_GONE = {"socket.timeout.ms": 6_000, "topic.metadata.refresh.interval.ms": 3_000}
Place = Any  # a Partition, or one of the topic `meta` by its name
_ALLOWED = ("security.", "sasl.", "ssl.")
_RACK = "client.rack"

E = KafkaError
_TIMEOUTS = {E._TIMED_OUT, E._MSG_TIMED_OUT, E.REQUEST_TIMED_OUT, E._TIMED_OUT_QUEUE}
_OUT_OF_RANGE = {E.OFFSET_OUT_OF_RANGE, E._AUTO_OFFSET_RESET, E._LOG_TRUNCATION}
_UNKNOWN = {E.UNKNOWN_TOPIC_OR_PART, E._UNKNOWN_TOPIC, E.UNKNOWN_TOPIC_ID}
_LEADERLESS = {E._NOENT, E._UNKNOWN_PARTITION}  # said of a topic that is missing, and of any while no broker is there
_FULL = {E._QUEUE_FULL}
_TOO_LARGE = {E.MSG_SIZE_TOO_LARGE, E.RECORD_LIST_TOO_LARGE}
_REFUSED = {
    E._AUTHENTICATION,
    E._SSL,
    E.SASL_AUTHENTICATION_FAILED,
    E.TOPIC_AUTHORIZATION_FAILED,
    E.GROUP_AUTHORIZATION_FAILED,
    E.CLUSTER_AUTHORIZATION_FAILED,
}
_KINDS: list[tuple[set[int], type[MeshError], str]] = [
    (_TIMEOUTS, DeadlineExceeded, "gave no answer in time"),
    (_OUT_OF_RANGE, OutOfRange, "the offset is not in the log"),
    (_UNKNOWN, NotReady, "a topic is missing; `feedmesh log init` makes it"),
    (_LEADERLESS, Unavailable, "no broker leads a partition, or its topic is missing (`feedmesh log init` makes it)"),
    (_FULL, Exhausted, "takes no more records until it has acknowledged some"),
    (_TOO_LARGE, InvalidArgument, f"a record is too large; allowed are {MAX_RECORD} bytes"),
    (_REFUSED, Unavailable, "refuses this client; see [kafka] client and client_file, and the rights of its user"),
]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a log on Kafka is."""

    servers: str
    prefix: str
    partitions: int
    settings: KafkaSettings

    def __str__(self) -> str:
        return f"Kafka at {self.servers}"

    def name(self, topic: int | str) -> str:
        """The name of a topic: of its number, or `meta`."""
        return f"{self.prefix}.{topic if isinstance(topic, str) else NAMES[topic]}"

    @property
    def ingest_partitions(self) -> int:
        """Those of the topic of accepted batches, which are no more than those of the others."""
        return min(self.settings.ingest_partitions, self.partitions)

    def partitions_of(self, topic: int) -> int:
        """How many a topic has."""
        return self.ingest_partitions if topic == INGEST else self.partitions

    def every(self, topics: Collection[int] = tuple(NAMES)) -> list[Partition]:
        """The partitions of these topics."""
        return [(int(topic), p) for topic in topics for p in range(self.partitions_of(topic))]

    @property
    def names(self) -> list[str]:
        """Those of all topics."""
        return [self.name(META), *(self.name(topic) for topic in NAMES)]

    def client(self, **more: Any) -> dict[str, Any]:
        """The configuration of a client. Raises InvalidArgument for a property that is not allowed."""
        return {
            "bootstrap.servers": self.servers,
            "client.id": "feedmesh",
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 1_000,
            **_GONE,
            "log.connection.close": False,
            "error_cb": _note,
            **security(self.settings),
            **{name.replace("_", "."): value for name, value in more.items()},
        }

    def admin(self) -> AdminClient:
        """A client that asks about topics."""
        return AdminClient(self.client(**ASKING), logger=ClientLog())

    def places(self, positions: Mapping[Partition, int] | Collection[Partition]) -> list[TopicPartition]:
        """Partitions as the client has them, with their offsets if any are given."""
        offsets: Mapping[Partition, int] = positions if isinstance(positions, Mapping) else {}
        return [TopicPartition(self.name(at[0]), at[1], offsets.get(at, 0)) for at in positions]

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise what the client raises as an error of the mesh."""
        try:
            yield
        except KafkaException as error:
            raise self.error(error.args[0]) from None
        except TimeoutError:  # of a future
            raise DeadlineExceeded(f"{self}: gave no answer in time") from None

    def error(self, error: Any) -> MeshError:
        """An error of the client as one of the mesh, which names the cluster."""
        for codes, kind, what in _KINDS:
            if error.code() in codes:
                return kind(f"{self}: {what} ({error.str()})")
        return Unavailable(f"{self}: {error.str()}")


class ClientLog:
    """Takes the lines of the client library. It says twenty times a second that a broker is away: what matters is raised."""

    def log(self, level: int, line: str, *more: object) -> None:
        """As `logging.Logger` has it."""
        logger.debug(line, *more)


def _note(error: Any) -> None:
    """What the client says beside its calls, as of a broker that is away: it goes on by itself."""
    logger.debug("Kafka's client: %s", error)


def cluster_of(mesh: Mesh) -> Cluster:
    """The cluster that `[mesh] log` names."""
    common = mesh.common
    return parse(common.log, common.partitions, mesh.section("kafka", KafkaSettings))


def parse(url: str, partitions: int, settings: KafkaSettings) -> Cluster:
    """The cluster of a URL. Raises InvalidArgument for another one."""
    servers, _, prefix = url.removeprefix(SCHEME).partition("/")
    if not url.startswith(SCHEME) or not servers or not prefix:
        raise InvalidArgument(f"[mesh] log = {url!r}: allowed are embedded and kafka://host:port,host:port/prefix")
    return Cluster(servers, prefix, partitions, settings)


def security(settings: KafkaSettings) -> dict[str, str]:
    """Properties of the client from [kafka] client and client_file. Raises InvalidArgument naming one that is not allowed."""
    found = dict(settings.client)
    if settings.client_file:
        try:
            lines = Path(settings.client_file).read_text().splitlines()
        except OSError as error:
            raise InvalidArgument(f"[kafka] client_file = {settings.client_file!r}: {error.strerror}") from None
        for number, line in enumerate(lines, 1):
            name, equals, value = line.partition("=")
            if line.strip() and not line.lstrip().startswith("#"):
                if not equals:
                    raise InvalidArgument(f"{settings.client_file}:{number}: allowed are lines of `name = value`")
                found[name.strip()] = value.strip()
    for name in found:
        if not name.startswith(_ALLOWED) and name != _RACK:
            raise InvalidArgument(
                f"[kafka] client: {name!r} is not allowed; allowed are names that begin with {', '.join(_ALLOWED)} and {_RACK}"
            )
    return found


def offsets(
    cluster: Cluster, looking: Consumer, wanted: Collection[Place], timeout: float
) -> dict[Place, tuple[int, int]]:
    """(first, next) of each of these. looking: a client of `ASKING`. Raises Unavailable, DeadlineExceeded, NotReady."""
    first, last = (_asked(cluster, looking, wanted, which, timeout) for which in (_EARLIEST, _LATEST))
    return {at: (first[at], last[at]) for at in wanted}


def _asked(
    cluster: Cluster, looking: Consumer, wanted: Collection[Place], which: int, timeout: float
) -> dict[Place, int]:
    """An attempt asks the leaders that the client knows; one that died is known until the metadata is old."""
    end = time.monotonic() + timeout
    while True:
        within = max(0.1, min(end - time.monotonic(), ATTEMPT_S))
        try:
            with cluster.errors():
                found = looking.offsets_for_times(cluster.places(dict.fromkeys(wanted, which)), timeout=within)
                for place in found:
                    if place.error is not None:
                        raise cluster.error(place.error)
        except (DeadlineExceeded, Unavailable):
            if time.monotonic() + AGAIN_S > end:
                raise
            time.sleep(AGAIN_S)
        else:
            of = {(place.topic, place.partition): place.offset for place in found}
            return {at: of[cluster.name(at[0]), at[1]] for at in wanted}


def waited(cluster: Cluster, futures: Mapping[str, "Future[Any]"], timeout: float) -> dict[str, Any]:
    """The results of what an admin client was asked, by topic."""
    with cluster.errors():
        return {name: future.result(timeout) for name, future in futures.items()}
