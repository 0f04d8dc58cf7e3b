"""The processes of a mesh on one machine: how many of each service, in which zones, and on which ports."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.core.errors import InvalidArgument
from services.core.settings import MeshSettings, Sections, ServiceSettings, services_of
from services.ops.ports import Ports
from services.rpc import mesh as meshes
from services.rpc.mesh import Address, Mesh, bracketed


@dataclass(frozen=True, slots=True)
class Plan:
    """A mesh, those of its processes that are to run here, and their ports: released when a supervisor has stopped it."""

    mesh: Mesh
    own: tuple[Address, ...]
    ports: Ports


def plan(sections: Sections, services: Sequence[str] = ()) -> Plan:
    """Every process of the mesh, or of these services alone, with a free or configured port for each.

    Raises Unavailable for a port in use, InvalidArgument for shards or replicas that can't be.
    """
    ports = Ports(sections["mesh"].host)
    try:
        processes = [
            process for service in services or services_of(sections) for process in _processes(service, sections, ports)
        ]
    except BaseException:
        ports.release()
        raise
    ports.planned()
    return Plan(meshes.resolve(sections, processes), tuple(processes), ports)


def shards_of(sections: Sections, service: str) -> int:
    """The layout of a service. Raises InvalidArgument for more shards than partitions."""
    shards, partitions = getattr(sections[service], "shards", 1), sections["mesh"].partitions
    if shards > partitions:
        raise InvalidArgument(f"[{service}] shards = {shards}: at most one a partition, {partitions}")
    return int(shards)


def replicas_of(sections: Sections, service: str) -> int:
    """How many processes each shard of a service has. Raises InvalidArgument for a service that is one process."""
    settings: ServiceSettings = sections[service]
    if not settings.replicated:
        if settings.replicas > 1:
            raise InvalidArgument(f"[{service}] replicas = {settings.replicas}: {service} is one process; allowed is 1")
        return 1
    return settings.replicas or int(sections["mesh"].replicas)


def zones_of(common: MeshSettings) -> tuple[str, ...]:
    """The zones of the processes of one machine."""
    return common.zones or (common.zone,)


def _processes(service: str, sections: Sections, ports: Ports) -> Iterator[Address]:
    common, settings = sections["mesh"], sections[service]
    shards, replicas, zones = shards_of(sections, service), replicas_of(sections, service), zones_of(common)
    for shard in range(shards):
        for replica in range(replicas):
            addresses, held = {}, []
            for setting in ("port", "http_port"):
                wanted = getattr(settings, setting, None)
                if wanted is not None:
                    number = wanted + replica * shards + shard if wanted else 0
                    taken = ports.take(number, f"[{service}] {setting}")
                    addresses[setting] = f"{bracketed(common.host)}:{taken}"
                    held += [] if wanted else [addresses[setting]]
            yield Address(
                service=service,
                shard=shard,
                shards=shards,
                replica=replica,
                zone=zones[replica % len(zones)],
                address=addresses["port"],
                http=addresses.get("http_port", ""),
                held=tuple(held),
            )
