"""Settings: one `mesh.toml`, a section a service, each a validated struct that its service declares.

Every field carries its description and bounds; a wrong value is refused by its name, with the values allowed.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from services.core.errors import InvalidArgument
from services.core.words import complaint

Port = Annotated[int, Meta(ge=0, le=65535)]
CompactionThreads = Annotated[
    int,
    Meta(
        ge=1,
        le=64,
        description="threads of RocksDB that compact its files; more than one where cores are idle",
    ),
]


class MeshSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of the whole deployment."""

    data: Annotated[str, Meta(description="folder of everything that is kept", min_length=1)] = "data"
    blobs: Annotated[
        str,
        Meta(
            description="where models, graphs, datasets and snapshots lie: the URL of a folder, such as file:///mnt/blobs, or of "
            "an S3-compatible store, `s3://bucket/prefix?endpoint=…&region=…&credentials=file`, of which what is left out is the "
            "environment's (AWS_…); empty: in the data folder"
        ),
    ] = ""
    host: Annotated[
        str, Meta(description="address to listen on; loopback unless others must reach it", min_length=1)
    ] = "127.0.0.1"
    zone: Annotated[str, Meta(description="availability zone of this machine", min_length=1)] = "local"
    zones: Annotated[
        tuple[str, ...],
        Meta(
            description="zones of the replicas of each shard on this machine, in turn, to try out what zones do; none: "
            "`zone` is that of all"
        ),
    ] = ()
    replicas: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="processes of each shard, each with all of it; roadrunner and prober have one",
        ),
    ] = 1
    partitions: Annotated[
        int, Meta(ge=1, le=1024, description="partitions of every topic; fixed once data has been written")
    ] = 16
    min_free_mb: Annotated[
        int, Meta(ge=1, le=10_000_000, description="free disk below which the ingest API refuses events")
    ] = 256
    drain_s: Annotated[float, Meta(ge=0.1, le=300, description="seconds a process may take to finish on SIGTERM")] = 5.0
    hang_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="seconds without an answer after which a process is killed and started again; 0: never",
        ),
    ] = 20.0
    check_every_h: Annotated[
        float,
        Meta(
            ge=0, le=8760, description="hours after which each process reads its own state again for damage; 0: never"
        ),
    ] = 24.0
    ids: Annotated[
        Literal["numbers", "text"],
        Meta(
            description="what ids are outside of the mesh: numbers up to 2^64, or any text, such as UUIDs; fixed once data "
            "has been written"
        ),
    ] = "numbers"
    log: Annotated[
        str,
        Meta(
            pattern=r"^(embedded|kafka://[^/\s,]+(,[^/\s,]+)*/[a-zA-Z0-9._-]{1,100})\Z",
            description="where the log is: `embedded`, in roadrunner, or on Kafka, `kafka://host:port,host:port/prefix`, in the "
            "topics that `feedmesh log init` makes",
        ),
    ] = "embedded"
    unix_sockets: Annotated[
        bool,
        Meta(description="whether processes of one machine ask each other through Unix sockets; else by gRPC alone"),
    ] = True
    streams: Annotated[
        bool,
        Meta(
            description="whether calls by gRPC between processes are messages on long-lived streams; else each is a call of "
            "its own"
        ),
    ] = True
    health_port: Annotated[
        Port,
        Meta(
            description="port at which a process answers the standard health service alone, without TLS, for probes that know "
            "none, such as a kubelet's; of a machine with one process (`feedmesh serve`); 0: none"
        ),
    ] = 0


class LearningSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of the models that `feedmesh up` makes by itself."""

    first: Annotated[
        bool, Meta(description="whether a first graph and model are made as soon as the log holds enough")
    ] = True
    every: Annotated[
        str,
        Meta(
            pattern=r"^(off|daily|[1-9][0-9]{0,3}h)\Z",
            description="how often graph and model are made anew: `off`, `daily`, or a number of hours such as `6h`",
        ),
    ] = "off"
    samples: Annotated[
        int, Meta(ge=60, le=1_000_000, description="requests that such a model learns from and is judged by")
    ] = 2_000

    @property
    def every_hours(self) -> int:
        """The hours between two; 0: it is off."""
        return {"off": 0, "daily": 24}.get(self.every) or int(self.every.removesuffix("h").replace("off", "0"))


class KafkaSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of a log on Kafka: of its topics, which `feedmesh log init` makes and checks, and of the connections to it."""

    replication_factor: Annotated[
        int, Meta(ge=1, le=10, description="brokers that have each record; with 3, two may be lost before a record is")
    ] = 3
    min_insync_replicas: Annotated[
        int, Meta(ge=1, le=10, description="brokers that must have a record before it is acknowledged")
    ] = 2
    ingest_partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="parts of the accepted batches that are split beside each other: at most as many roadrunners work, and "
            "fewer of them make larger records. As many as [mesh] partitions at most; fixed once the topics are made",
        ),
    ] = 4
    retention_hours: Annotated[
        int,
        Meta(
            ge=-1,
            description="age of records kept at most, by when they were appended; -1: without limit. Dropped records can "
            "rebuild no view",
        ),
    ] = -1
    ingest_retention_hours: Annotated[
        int,
        Meta(
            ge=-1,
            description="the same of accepted batches, once they are split; at least 48 unless -1, since a batch may be sent "
            "again for a day",
        ),
    ] = -1
    client: Annotated[
        dict[str, str],
        Meta(
            description="properties of the client library librdkafka for security, such as "
            '{ "security.protocol" = "SASL_SSL", "ssl.ca.location" = "ca.pem" }; names begin with security., sasl., ssl. or are '
            "client.rack"
        ),
    ] = {}
    client_file: Annotated[
        str,
        Meta(description="a file with more of them, such as passwords, a `name = value` a line; empty: none"),
    ] = ""


class TlsSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of TLS between processes over TCP: on where the three files are named. Each may be one for each service."""

    ca: Annotated[
        str,
        Meta(description="file of the certificates (PEM) by which those of all processes are signed; empty: no TLS"),
    ] = ""
    certificate: Annotated[
        str,
        Meta(
            description="file of the own certificate (PEM), and of those between it and the CA; `{service}` in it stands for the "
            "service's name, and for `operator` where a command asks"
        ),
    ] = ""
    key: Annotated[str, Meta(description="file of its private key (PEM), which its owner alone can read")] = ""
    domain: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z",
            description="trust domain: the certificate of apiary is that of `spiffe://mesh/apiary` and of the name `apiary.mesh`",
        ),
    ] = "mesh"
    loopback: Annotated[
        bool, Meta(description="whether addresses of the loopback have TLS too, which only this machine reaches")
    ] = False
    insecure: Annotated[
        bool,
        Meta(
            description="that addresses which others reach are without TLS is meant: their network is the mesh's alone"
        ),
    ] = False

    @property
    def on(self) -> bool:
        """Whether there is TLS. Raises InvalidArgument where a file is missing."""
        files = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        missing = [name for name, path in files.items() if not path]
        if 0 < len(missing) < len(files):
            raise InvalidArgument(f"[tls] {missing[0]} is missing: allowed are {', '.join(files)} together, or none")
        return not missing


class ServiceSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of any service."""

    port: Annotated[
        Port, Meta(description="first port; shard i listens on port + i, further replicas after those; 0: any free one")
    ] = 0
    replicas: Annotated[int, Meta(ge=0, le=64, description="processes of each shard; 0: as `[mesh] replicas`")] = 0
    max_requests: Annotated[
        int, Meta(ge=1, le=100_000, description="requests that run in parallel; more are shed with RESOURCE_EXHAUSTED")
    ] = 512

    @classmethod
    def single(cls, common: MeshSettings) -> str:
        """Why it is one process in a mesh of these settings; empty where it may have replicas."""
        return ""


class ThreadedSettings(ServiceSettings, kw_only=True):
    """Of any service that serves from threads."""

    threads: Annotated[int, Meta(ge=1, le=256, description="threads that serve requests")] = 8


class ShardedSettings(ThreadedSettings, kw_only=True):
    """Of any service with shards, which serve from threads."""

    shards: Annotated[
        int, Meta(ge=1, le=1024, description="shard processes; each owns an equal part of partitions")
    ] = 1


class ShardSettings(ShardedSettings, kw_only=True):
    """Of any service with shards that keep their state on RocksDB."""

    cache_mb: Annotated[int, Meta(ge=1, le=1_000_000, description="RocksDB block cache of a shard")] = 32
    memtable_mb: Annotated[int, Meta(ge=1, le=10_000, description="RocksDB write buffer of a column family")] = 16
    compaction_threads: CompactionThreads = 1
    snapshot_every_s: Annotated[
        float,
        Meta(
            ge=0,
            le=30 * 86_400,
            description="seconds from one snapshot of a shard to the next, such as 3600; 0: none are taken",
        ),
    ] = 0.0
    snapshots_kept: Annotated[
        int, Meta(ge=2, le=10_000, description="snapshots of a shard that are kept, the newest ones")
    ] = 3


Sections = dict[str, Any]
Schema = Mapping[str, type[Struct]]  # by section
#: The sections of the deployment; every other is a service's.
DEPLOYMENT: dict[str, type[Struct]] = {
    "mesh": MeshSettings,
    "learning": LearningSettings,
    "kafka": KafkaSettings,
    "tls": TlsSettings,
}


def services_of(sections: Sections) -> list[str]:
    """The services that sections are of, in their order, in which they start."""
    return [name for name in sections if name not in DEPLOYMENT]


def validated(sections: Mapping[str, Any], origin: str, schema: Schema) -> Sections:
    """Each section as its struct, defaults filled in. Raises InvalidArgument naming the setting."""
    unknown = sorted(set(sections) - set(schema))
    if unknown:
        raise InvalidArgument(f"{origin}: unknown section [{unknown[0]}]; known are {', '.join(schema)}")
    return {name: _convert(sections.get(name, {}), struct, f"{origin}: [{name}]") for name, struct in schema.items()}


def _convert(section: Any, struct: type[Struct], where: str) -> Struct:
    try:
        return msgspec.convert(section, struct)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{where}: {complaint(error, section, struct, whole='the section')}") from None


def load(path: Path | None, schema: Schema) -> Sections:
    """The sections of a mesh.toml; all defaults without one. Raises InvalidArgument naming file and setting."""
    if path is None:
        return validated({}, "defaults", schema)
    try:
        return validated(tomllib.loads(path.read_text()), str(path), schema)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path}: not TOML: {error}") from None


def describe(struct: type[Struct]) -> list[tuple[str, str, str, str]]:
    """(name, default, allowed, description) of each setting of a section."""
    rows = []
    for field in msgspec.structs.fields(struct):
        info = msgspec.inspect.type_info(field.type)
        extra = getattr(info, "extra_json_schema", None) or {}
        while isinstance(info, msgspec.inspect.Metadata):
            extra, info = {**extra, **(info.extra_json_schema or {})}, info.type
        default = list(field.default) if isinstance(field.default, tuple) else field.default  # as TOML has it
        rows.append((field.name, repr(default), _allowed(info), extra.get("description", "")))
    return rows


def _allowed(info: Any) -> str:
    if isinstance(info, msgspec.inspect.LiteralType):
        return " or ".join(f"`{value}`" for value in info.values)
    kind = type(info).__name__.removesuffix("Type").lower().replace("vartuple", "list")
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    bounds = ((word, getattr(info, name, None)) for name, word in words.items())
    return " ".join([kind, *(f"{word} {bound}" for word, bound in bounds if bound is not None)])
