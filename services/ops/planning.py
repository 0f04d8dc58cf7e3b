"""The processes of a mesh on one machine: how many of each service, in which zones, and on which ports."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from services.core.errors import InvalidArgument
from services.core.settings import MeshSettings, Sections, ServiceSettings, TlsSettings, services_of
from services.ops import layouts
from services.ops.layouts import Layouts
from services.ops.ports import Ports
from services.rpc import mesh as meshes
from services.rpc.credentials import is_loopback
from services.rpc.mesh import Address, Mesh, bracketed


@dataclass(frozen=True, slots=True)
class Plan:
    """A mesh, those of its processes that are to run here, and their ports: released when a supervisor has stopped it.

    notes: what people should know of it.
    """

    mesh: Mesh
    own: tuple[Address, ...]
    ports: Ports
    notes: tuple[str, ...] = ()


def plan(sections: Sections, services: Sequence[str] = ()) -> Plan:
    """Every process of the mesh, or of these services alone, with a free or configured port for each. Of layouts that stand
    beside each other those that answer (services/ops/layouts.py): a supervisor starts the others.

    Raises Unavailable for a port in use, InvalidArgument for shards or replicas that can't be.
    """
    _check_reach(sections)
    notes = tuple(layouts.settle(sections, layouts.load(Path(sections["mesh"].data))))
    ports = Ports(sections["mesh"].host)
    try:
        processes = [
            process for service in services or services_of(sections) for process in _processes(service, sections, ports)
        ]
    except BaseException:
        ports.release()
        raise
    ports.planned()
    return Plan(meshes.resolve(sections, processes), tuple(processes), ports, notes)


def _check_reach(sections: Sections) -> None:
    """Raise InvalidArgument for a mesh on one machine that others reach without TLS, or that has a port for probes."""
    common = sections["mesh"]
    if common.health_port:
        raise InvalidArgument(f"[mesh] health_port = {common.health_port}: of one process; allowed here is 0, none")
    check_open(sections, f"{bracketed(common.host)}:0", f"[mesh] host = {common.host!r}")


def check_open(sections: Sections, address: str, setting: str) -> None:
    """Raise InvalidArgument, naming the setting, where others reach an address, there is no TLS, and that is not said to be
    meant.
    """
    tls: TlsSettings = sections.get("tls") or TlsSettings()
    if not tls.on and not tls.insecure and not is_loopback(address):
        raise InvalidArgument(
            f"{setting}: others reach it, and there is no TLS: allowed are certificates in [tls], which `feedmesh certs init` "
            "and `feedmesh certs issue` make, or, on a network that only the mesh is on, `insecure = true` in [tls]"
        )


def shards_of(sections: Sections, service: str) -> int:
    """The layout of a service. Raises InvalidArgument for more shards than partitions."""
    shards, partitions = getattr(sections[service], "shards", 1), sections["mesh"].partitions
    if shards > partitions:
        raise InvalidArgument(f"[{service}] shards = {shards}: at most one a partition, {partitions}")
    return int(shards)


def replicas_of(sections: Sections, service: str) -> int:
    """How many processes each shard of a service has. Raises InvalidArgument for a service that is one process."""
    settings: ServiceSettings = sections[service]
    if why := settings.single(sections["mesh"]):
        if settings.replicas > 1:
            raise InvalidArgument(
                f"[{service}] replicas = {settings.replicas}: {service} is one process: {why}; allowed is 1"
            )
        return 1
    return settings.replicas or int(sections["mesh"].replicas)


def zones_of(common: MeshSettings) -> tuple[str, ...]:
    """The zones of the processes of one machine."""
    return common.zones or (common.zone,)


def laid_out(processes: Sequence[Address], wanted: Layouts, host: str, ports: Ports) -> list[Address]:
    """The processes of one machine in the layouts that are wanted: of each service those of the layout that answers, and those
    of one beside it, made where there are none. A layout that answers is one of those that there are, or nothing changes.
    """
    found: list[Address] = []
    for service in dict.fromkeys(of.service for of in processes):
        own, layout = [of for of in processes if of.service == service], wanted.get(service)
        there = {of.shards for of in own}
        if layout is None or layout.serves not in there:
            found += own
            continue
        kept = (of for of in own if of.shards in (layout.serves, layout.beside))
        found += (msgspec.structs.replace(of, asked=of.shards == layout.serves) for of in kept)
        if layout.beside and layout.beside not in there:
            found += _beside([of for of in own if of.shards == layout.serves], layout.beside, host, ports)
    return found


def _beside(present: Sequence[Address], shards: int, host: str, ports: Ports) -> Iterator[Address]:
    """The processes of another layout than the present one, which no client asks, with as many replicas in the same zones."""
    zones = {of.replica: of.zone for of in present}
    for shard in range(shards):
        for replica, zone in zones.items():
            address = f"{bracketed(host)}:{ports.take(0, f'[{present[0].service}] port')}"
            yield Address(
                service=present[0].service,
                shard=shard,
                shards=shards,
                replica=replica,
                zone=zone,
                address=address,
                asked=False,
                held=(address,),
            )


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
