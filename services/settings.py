"""Settings: one `mesh.toml`, a section a service, each a validated struct that its service's door declares.

Every field carries its description and bounds; what is wrong is refused by its name, with what is allowed.
"""

import tomllib
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from services.errors import InvalidArgument

#: The processes of the mesh, in the order in which they start. Each is a package with a door, `<name>/__main__.py`.
SERVICES: tuple[str, ...] = (
    *("roadrunner", "rockstore", "apiary", "polaris", "aperture", "realpin", "counters"),
    *("smartfeed", "pixie", "scorpion", "feedgen", "web"),
)

Port = Annotated[int, Meta(ge=0, le=65535)]


class MeshSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of the whole deployment."""

    data: Annotated[str, Meta(description="folder of everything that is kept", min_length=1)] = "data"
    host: Annotated[
        str, Meta(description="address to listen on; loopback unless others must reach it", min_length=1)
    ] = "127.0.0.1"
    zone: Annotated[str, Meta(description="availability zone of this machine", min_length=1)] = "local"
    partitions: Annotated[
        int, Meta(ge=1, le=1024, description="partitions of every topic; fixed once data has been written")
    ] = 16
    min_free_mb: Annotated[
        int, Meta(ge=1, le=10_000_000, description="free disk below which the front door refuses events")
    ] = 256
    drain_s: Annotated[float, Meta(ge=0.1, le=300, description="seconds a process may take to finish on SIGTERM")] = 5.0
    unix_sockets: Annotated[
        bool,
        Meta(description="whether processes of one machine ask each other through Unix sockets; else by gRPC alone"),
    ] = True


class ServiceSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of any service."""

    port: Annotated[Port, Meta(description="first port; shard i listens on port + i; 0: any free one")] = 0
    max_requests: Annotated[
        int, Meta(ge=1, le=100_000, description="requests under way at once; more are shed with RESOURCE_EXHAUSTED")
    ] = 512


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


Sections = dict[str, Any]


def door_settings(service: str) -> type[ServiceSettings]:
    """The struct that a service's door declares."""
    declared: type[ServiceSettings] = import_module(f"{service}.__main__").Settings
    return declared


def schema() -> dict[str, type[Struct]]:
    """Every section of mesh.toml and its struct."""
    return {"mesh": MeshSettings, **{service: door_settings(service) for service in SERVICES}}


def validated(sections: dict[str, Any], origin: str) -> Sections:
    """Each section as its struct, defaults filled in. Raises InvalidArgument naming the setting."""
    known = schema()
    unknown = sorted(set(sections) - set(known))
    if unknown:
        raise InvalidArgument(f"{origin}: unknown section [{unknown[0]}]; known are {', '.join(known)}")
    return {name: _convert(sections.get(name, {}), struct, f"{origin}: [{name}]") for name, struct in known.items()}


def _convert(section: Any, struct: type[Struct], where: str) -> Struct:
    try:
        return msgspec.convert(section, struct)
    except msgspec.ValidationError as error:
        names = ", ".join(struct.__struct_fields__)
        raise InvalidArgument(f"{where}: {error} (settings here: {names})") from None


def load(path: Path | None) -> Sections:
    """The sections of a mesh.toml; all defaults without one. Raises InvalidArgument naming file and setting."""
    if path is None:
        return validated({}, "defaults")
    try:
        return validated(tomllib.loads(path.read_text()), str(path))
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
        rows.append((field.name, repr(field.default), _allowed(info), extra.get("description", "")))
    return rows


def _allowed(info: Any) -> str:
    kind = type(info).__name__.removesuffix("Type").lower()
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    bounds = ((word, getattr(info, name, None)) for name, word in words.items())
    return " ".join([kind, *(f"{word} {bound}" for word, bound in bounds if bound is not None)])
