"""The mesh as it runs: resolved settings and where each process is, in one file that all of them read.

On one machine the supervisor writes it to `<data>/run/mesh.json`; by hand it is the static form of discovery.
"""

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from services.core import summed
from services.core.durable import replace_durably
from services.core.errors import NotFound
from services.core.settings import MeshSettings, Sections, TlsSettings
from services.rpc import credentials
from services.rpc.caller import Caller
from services.rpc.credentials import Credentials
from services.rpc.membership import Address, FileMembership, Members, Membership, MemoryMembership

__all__ = ["Address", "Mesh", "bracketed", "listening", "load", "mesh_file", "probed_at", "resolve", "save"]
S = TypeVar("S", bound=Struct)


class Mesh(Struct, kw_only=True, dict=True):
    """Settings by section, and every process as the mesh was described when it was made or read."""

    settings: dict[str, Any]
    processes: list[Address]

    def of(self, service: str) -> list[Address]:
        """The processes of a service, by shard and replica. Raises NotFound when it is not part of this mesh."""
        return Members(tuple(self.processes)).of(service)

    @property
    def membership(self) -> Membership:
        """Its processes from now on: those of its file, if it was read from one, and else those that it was made of."""
        found: Membership | None = self.__dict__.get("followed")
        return MemoryMembership(self.processes) if found is None else found

    def follow(self, membership: Membership) -> None:
        """Clients that are made of this mesh from now on follow this membership."""
        self.__dict__["followed"] = membership

    @property
    def caller(self) -> Caller:
        """The process that clients made of this mesh ask for; of no process, one of the zone of the settings."""
        found: Caller | None = self.__dict__.get("called_as")
        return Caller(self.common.zone) if found is None else found

    def call_as(self, caller: Caller) -> None:
        """Clients that are made of this mesh from now on ask for this process."""
        self.__dict__["called_as"] = caller

    @property
    def one_machine(self) -> bool:
        """Whether one supervisor runs all of it: no cluster file describes it, by hosts or by a rule for addresses."""
        return len({of.address.rpartition(":")[0] for of in self.processes}) == 1 and not self.processes[0].host

    @property
    def common(self) -> MeshSettings:
        """The settings of the whole deployment."""
        return self.section("mesh", MeshSettings)

    @property
    def credentials(self) -> Credentials | None:
        """Of this process for calls over TCP; None: there is no TLS. Raises InvalidArgument for files that are of no use."""
        stated = self.settings.get("tls", {})  # those of an older version have none
        settings = msgspec.convert({k: v for k, v in stated.items() if k in _fields(TlsSettings)}, TlsSettings)
        return credentials.opened(settings, self.caller.service)

    @property
    def text_ids(self) -> bool:
        """Whether ids outside the mesh are text (services/core/external.py)."""
        return bool(self.settings.get("mesh", {}).get("ids") == "text")

    @property
    def data(self) -> Path:
        """The data folder."""
        return Path(self.common.data)

    def section(self, service: str, struct: type[S]) -> S:
        """The settings of one service. Those that this version does not know are passed over: during an upgrade the mesh's
        file may be of the next version. A user's own file is checked for them (services/core/settings.py).
        """
        known = _fields(struct)
        return msgspec.convert({name: value for name, value in self.settings[service].items() if name in known}, struct)

    def partitions_of(self, shard: int, shards: int) -> range:
        """The partitions that a shard owns: an equal, contiguous part of them."""
        partitions = self.common.partitions
        return range(partitions * shard // shards, partitions * (shard + 1) // shards)


@cache
def _fields(struct: type[Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(struct))


def bracketed(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def listening(mesh: Mesh, address: str) -> str:
    """Where the process of this mesh whom others find at `address` listens: the same port, at the host of its settings."""
    return f"{bracketed(mesh.common.host)}:{address.rpartition(':')[2]}"


def probed_at(mesh: Mesh) -> str:
    """Where each process of this mesh answers probes that know no TLS; empty: nowhere."""
    port = mesh.common.health_port
    return f"{bracketed(mesh.common.host)}:{port}" if port else ""


def mesh_file(data: Path) -> Path:
    """Where the mesh of a data folder is described while it runs."""
    return data / "run" / "mesh.json"


def resolve(sections: Sections, processes: list[Address]) -> Mesh:
    """The mesh of validated settings, as it is read from its file."""
    settings = {name: msgspec.json.decode(msgspec.json.encode(section)) for name, section in sections.items()}
    return Mesh(settings=settings, processes=processes)


def save(mesh: Mesh, path: Path) -> None:
    """Write the file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, summed.encoded(mesh))


def load(path: Path) -> Mesh:
    """Read a mesh file, which clients of the mesh then follow. Raises NotFound when there is none, naming the path."""
    try:
        mesh = summed.decoded(path.read_bytes(), Mesh)
    except FileNotFoundError:
        raise NotFound(
            f"{path}: no mesh runs on this data folder; start one with `feedmesh up` or `make run`"
        ) from None
    except msgspec.MsgspecError as error:
        remedy = "the next `feedmesh up` writes it anew"
        raise NotFound(f"{path}: is no mesh file: {error}; {remedy}") from None
    mesh.follow(FileMembership(path, mesh.processes))
    return mesh
