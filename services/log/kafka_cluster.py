"""A Kafka cluster as the log uses it: the names of its topics, how clients connect, and their errors as the mesh's own.

Every call has a deadline. What the client library says of each fault is pinned in tests/assumptions/test_kafka_assumptions.py.
"""

import logging
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

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
_ALLOWED = ("security.", "sasl.", "ssl.")
_RACK = "client.rack"

E = KafkaError
_TIMEOUTS = {E._TIMED_OUT, E._MSG_TIMED_OUT, E.REQUEST_TIMED_OUT, E._TIMED_OUT_QUEUE}
_OUT_OF_RANGE = {E.OFFSET_OUT_OF_RANGE, E._AUTO_OFFSET_RESET, E._LOG_TRUNCATION}
_UNKNOWN = {E.UNKNOWN_TOPIC_OR_PART, E._UNKNOWN_TOPIC, E._UNKNOWN_PARTITION, E.UNKNOWN_TOPIC_ID}
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
    ({E._NOENT}, Unavailable, "no broker leads a partition, or its topic is missing (`feedmesh log init` makes it)"),
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
            "log.connection.close": False,
            "error_cb": _note,
            **security(self.settings),
            **{name.replace("_", "."): value for name, value in more.items()},
        }

    def admin(self) -> AdminClient:
        """A client that asks about topics."""
        return AdminClient(self.client(), logger=ClientLog())

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
    cluster: Cluster, admin: AdminClient, wanted: Collection[Partition], timeout: float
) -> dict[Partition, Any]:
    """(first, next) of each of these partitions. Raises Unavailable, DeadlineExceeded, NotReady for a topic that is missing."""
    with cluster.errors():
        asked = [
            admin.list_offsets(dict.fromkeys(cluster.places(wanted), spec), request_timeout=timeout)
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        ]
        first, last = ({(tp.topic, tp.partition): f.result(timeout).offset for tp, f in of.items()} for of in asked)
    names = {at: (cluster.name(at[0]), at[1]) for at in wanted}
    return {at: (first[name], last[name]) for at, name in names.items()}


def waited(cluster: Cluster, futures: Mapping[str, "Future[Any]"], timeout: float) -> dict[str, Any]:
    """The results of what an admin client was asked, by topic."""
    with cluster.errors():
        return {name: future.result(timeout) for name, future in futures.items()}
