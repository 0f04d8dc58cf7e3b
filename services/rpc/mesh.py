"""The mesh as it runs: resolved settings and where each process is, in one file that all of them read.

On one machine the supervisor writes it to `<data>/run/mesh.json`; by hand it is the static form of discovery.
"""

from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from services.core import summed
from services.core.durable import replace_durably
from services.core.errors import NotFound
from services.core.settings import MeshSettings, Sections

S = TypeVar("S", bound=Struct)


class Address(Struct, frozen=True, kw_only=True):
    """One process: which service and shard, where it listens for gRPC, and in which zone."""

    service: str
    shard: int
    shards: int
    address: str
    zone: str = "local"
    http: str = ""  # of the edge: where pages and JSON are
    held: tuple[str, ...] = ()  # those of its addresses whose ports are held for it (services/ops/ports.py)


class Mesh(Struct, kw_only=True):
    """Settings by section, and every process."""

    settings: dict[str, Any]
    processes: list[Address]

    def of(self, service: str) -> list[Address]:
        """The processes of a service, by shard. Raises NotFound when it is not part of this mesh."""
        found = sorted((p for p in self.processes if p.service == service), key=lambda p: p.shard)
        if not found:
            raise NotFound(
                f"this mesh has no {service}; it has {', '.join(sorted({p.service for p in self.processes}))}"
            )
        return found

    @property
    def common(self) -> MeshSettings:
        """The settings of the whole deployment."""
        return msgspec.convert(self.settings["mesh"], MeshSettings)

    @property
    def text_ids(self) -> bool:
        """Whether ids outside the mesh are text (services/core/external.py)."""
        return bool(self.settings.get("mesh", {}).get("ids") == "text")

    @property
    def data(self) -> Path:
        """The data folder."""
        return Path(self.common.data)

    def section(self, service: str, struct: type[S]) -> S:
        """The settings of one service."""
        return msgspec.convert(self.settings[service], struct)

    def partitions_of(self, shard: int, shards: int) -> range:
        """The partitions that a shard owns: an equal, contiguous part of them."""
        partitions = self.common.partitions
        return range(partitions * shard // shards, partitions * (shard + 1) // shards)


def mesh_file(data: Path) -> Path:
    """Where the mesh of a data folder is described while it runs."""
    return data / "run" / "mesh.json"


def resolve(sections: Sections, processes: list[Address]) -> Mesh:
    """The mesh of validated settings."""
    return Mesh(
        settings={name: msgspec.to_builtins(section) for name, section in sections.items()}, processes=processes
    )


def save(mesh: Mesh, path: Path) -> None:
    """Write the file at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, summed.encoded(mesh))


def load(path: Path) -> Mesh:
    """Read a mesh file. Raises NotFound when there is none, naming the path."""
    try:
        return summed.decoded(path.read_bytes(), Mesh)
    except FileNotFoundError:
        raise NotFound(
            f"{path}: no mesh runs on this data folder; start one with `feedmesh up` or `make run`"
        ) from None
    except msgspec.MsgspecError as error:
        remedy = "the next `feedmesh up` writes it anew"
        raise NotFound(f"{path}: is no mesh file: {error}; {remedy}") from None
