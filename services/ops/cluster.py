"""The cluster file: the hosts of a mesh on several machines, and which processes each of them runs.

    [tls]                        # of `feedmesh certs`; or `insecure = true`, where the network is the mesh's alone
    ca = "/etc/feedmesh/tls/ca.pem"
    certificate = "/etc/feedmesh/tls/{service}.pem"
    key = "/etc/feedmesh/tls/{service}.key"
    [hosts.a]
    address = "10.0.0.1"
    zone = "east"
    [hosts.b]
    address = "10.0.0.2"
    zone = "west"

and the sections of a mesh.toml. Every host has the same file, so each knows where all processes are: ports are fixed. By
default the replicas of a shard are spread over the zones, one for each; or every host lists what it `runs`. Where names
follow from a rule, as on Kubernetes, a section [rule] stands in place of the hosts (cluster_rule.py).

    [layouts.polaris]            # beside the shards that [polaris] says, which answer
    shards = 3
    port = 7750

is another layout of a service, which no client asks: it is being filled, or was replaced. To switch is to exchange both numbers
with those of [polaris], as `feedmesh layout` does (cluster_layouts.py).
"""

import tomllib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from services.core.errors import InvalidArgument
from services.core.settings import Port, Schema, Sections, TlsSettings, services_of, validated
from services.core.words import complaint
from services.ops import cluster_rule
from services.ops.cluster_rule import Rule
from services.ops.layouts import SETTING
from services.ops.planning import Plan, check_open, replicas_of, shards_of
from services.ops.ports import Ports
from services.rpc import mesh as meshes
from services.rpc.mesh import Address, Mesh, bracketed

PER_SERVICE = 100  # ports of a service: its shards listen on port, port + 1, ...
BESIDE = 50  # how many ports on another layout listens, unless it says where
Names = tuple[Annotated[str, Meta(min_length=1)], ...]


class ClusterSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """[cluster]. port: the first of the fixed ones, 100 for each service; insecure: as that of [tls], where it stood before."""

    port: Port = 7400
    insecure: bool = False


class Host(Struct, forbid_unknown_fields=True, kw_only=True):
    """[hosts.<name>]. address: where its processes listen and the others find them; data: its data folder, if not that of
    [mesh]; runs: "apiary" for all shards of a service, "apiary:1" for one.
    """

    address: Annotated[str, Meta(min_length=1)]
    zone: Annotated[str, Meta(min_length=1)]
    data: str = ""
    runs: Names | None = None


class Beside(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[layouts.<service>]. shards: of a layout that no client asks; port: the first of its ports."""

    shards: Annotated[int, Meta(ge=1)]
    port: Port = 0


class Cluster(Struct, frozen=True):
    """A cluster file. processes: of all hosts; rule: where processes follow from one, and there are no hosts; beside: the other
    layout of a service, by service; serving: that which answers, of each service that has shards.
    """

    hosts: dict[str, Host]
    sections: Sections
    processes: tuple[Address, ...]
    origin: str
    rule: Rule | None = None
    beside: Mapping[str, Beside] = {}
    serving: Mapping[str, Beside] = {}


def read(path: Path, schema: Schema) -> Cluster:
    """Read a cluster file. Raises InvalidArgument naming the file, the setting and what is allowed."""
    try:
        return parse(path.read_text(), path, schema)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path}: not TOML: {error}") from None


def parse(text: str, path: Path, schema: Schema) -> Cluster:
    """What a cluster file says. Raises InvalidArgument as `read` does."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{path}: not TOML: {error}") from None
    own = _section(raw.pop("cluster", {}), ClusterSettings, f"{path}: [cluster]")
    if "rule" in raw:
        return _ruled(raw, path, own, schema)
    hosts, stated = _hosts(raw.pop("hosts", {}), path), raw.pop("layouts", {})
    sections = _sections(raw, path, {host.zone for host in hosts.values()}, schema, own)
    if sections["mesh"].health_port:
        raise InvalidArgument(
            f"{path}: [mesh] health_port: of machines with one process, by a [rule]; allowed here is 0"
        )
    for name, host in hosts.items():
        check_open(sections, f"{bracketed(host.address)}:0", f"{path}: [hosts.{name}] address = {host.address!r}")
    if len(hosts) > 1:
        _check_blobs(sections, path)
    serving = {
        name: Beside(shards=shards_of(sections, name), port=_port(sections, own, name, shards_of(sections, name)))
        for name in services_of(sections)
        if hasattr(sections[name], SETTING)
    }
    beside = _beside(stated, serving, sections, own, path)
    most = {name: max(of.shards, beside.get(name, of).shards) for name, of in serving.items()}
    processes = _processes(sections, own, hosts, path, services_of(sections), most)
    for name, of in beside.items():
        changed = msgspec.structs.replace(sections[name], shards=of.shards, port=of.port)
        others = _processes({**sections, name: changed}, own, hosts, path, [name], most)
        processes += [msgspec.structs.replace(process, asked=False) for process in others]
    _check_alone(processes, path)
    return Cluster(hosts, sections, tuple(processes), str(path), beside=beside, serving=serving)


def _processes(
    sections: Sections,
    own: ClusterSettings,
    hosts: dict[str, Host],
    path: Path,
    services: Sequence[str],
    most: Mapping[str, int],
) -> list[Address]:
    """Those of some services. most: shards of the larger layout of each."""
    stated = any(host.runs is not None for host in hosts.values())
    placed = _stated(sections, hosts, path, services, most) if stated else _spread(sections, hosts, services)
    return [_address(sections, own, hosts, *at) for at in placed]


def _beside(
    raw: Any, serving: Mapping[str, Beside], sections: Sections, own: ClusterSettings, path: Path
) -> dict[str, Beside]:
    """The other layouts of services, each with the first of its ports."""
    if not isinstance(raw, dict):
        raise InvalidArgument(f"{path}: layouts = {raw!r}: allowed is a [layouts.<service>] for each")
    found, partitions = {}, sections["mesh"].partitions
    for name, stated in raw.items():
        where = f"{path}: [layouts.{name}]"
        if name not in serving:
            raise InvalidArgument(f"{where}: {name} has no shards; those that do are {', '.join(serving)}")
        of: Beside = _section(stated, Beside, where)
        if of.shards == serving[name].shards or of.shards > partitions:
            raise InvalidArgument(
                f"{where} shards = {of.shards}: allowed is another number than {serving[name].shards}, which answer, at most "
                f"one a partition, {partitions}"
            )
        first = _first_port(sections, own, name)
        other = first + BESIDE if serving[name].port == first else first
        found[name] = Beside(shards=of.shards, port=of.port or other)
    return found


def _check_alone(processes: Sequence[Address], path: Path) -> None:
    """Raise InvalidArgument where two processes would listen on one port."""
    there: dict[str, Address] = {}
    for process in processes:
        other = there.setdefault(process.address, process)
        if other is not process:
            raise InvalidArgument(
                f"{path}: {other.name} and {process.name} would both listen on {process.address}; name another `port` for one "
                "of them"
            )


def _sections(
    raw: dict[str, Any], path: Path, zones: Collection[str], schema: Schema, own: ClusterSettings
) -> Sections:
    """The sections of a mesh.toml, with a replica for each zone unless stated."""
    if isinstance(raw.get("mesh", {}), dict):
        raw["mesh"] = {"replicas": len(zones)} | raw.get("mesh", {})
    found = validated(raw, str(path), schema)
    found.setdefault("tls", TlsSettings()).insecure |= own.insecure
    return found


def _ruled(raw: dict[str, Any], path: Path, own: ClusterSettings, schema: Schema) -> Cluster:
    if raw.pop("hosts", None) is not None:
        raise InvalidArgument(f"{path}: [hosts] and [rule]: allowed is one of them")
    if "layouts" in raw:
        raise InvalidArgument(
            f"{path}: [layouts] and [rule]: allowed is one of them; a rule has one layout of each service"
        )
    rule: Rule = _section(raw.pop("rule"), Rule, f"{path}: [rule]")
    sections = _sections(raw, path, rule.zones, schema, own)
    cluster_rule.check(rule, services_of(sections), str(path))
    _check_blobs(sections, path)
    processes = cluster_rule.addresses(sections, rule, lambda service: _port(sections, own, service, 1))
    for process in processes:
        check_open(sections, process.address, f"{path}: [rule] host = {rule.host!r}")
    return Cluster({}, sections, processes, str(path), rule)


def member(cluster: Cluster, own: Address, processes: tuple[Address, ...], data: str) -> Mesh:
    """The mesh of a process that follows from a rule, with these processes, and its data folder, if not that of [mesh].

    Raises InvalidArgument for a file with hosts.
    """
    if cluster.rule is None:
        raise InvalidArgument(
            f"{cluster.origin}: names hosts, whose parts `feedmesh up --cluster` starts; there is no [rule]"
        )
    common = cluster.sections["mesh"]
    host = cluster.rule.listen or own.address.rpartition(":")[0].strip("[]")
    common = msgspec.structs.replace(common, host=host, zone=own.zone, data=data or common.data)
    return meshes.resolve({**cluster.sections, "mesh": common}, list(processes))


def plan(cluster: Cluster, name: str) -> Plan:
    """The part of one host. Raises InvalidArgument for one that there is not, Unavailable for a port in use."""
    if cluster.rule is not None:
        raise InvalidArgument(
            f"{cluster.origin}: has a [rule] and no hosts: `feedmesh serve --cluster` starts a process of it"
        )
    host = cluster.hosts.get(name)
    if host is None:
        raise InvalidArgument(f"{cluster.origin}: there is no [hosts.{name}]; there are {', '.join(cluster.hosts)}")
    common = msgspec.structs.replace(
        cluster.sections["mesh"], host=host.address, zone=host.zone, data=host.data or cluster.sections["mesh"].data
    )
    own = tuple(process for process in cluster.processes if process.host == name)
    return Plan(meshes.resolve({**cluster.sections, "mesh": common}, list(cluster.processes)), own, Ports(host.address))


def check_ports(plan: Plan) -> None:
    """Raise Unavailable when a port of this host's processes is another's."""
    for process in plan.own:
        for address in filter(None, (process.address, process.http)):
            plan.ports.take(int(address.rpartition(":")[2]), process.name)
    plan.ports.planned()


def _section(raw: Any, struct: type[Any], where: str) -> Any:
    try:
        return msgspec.convert(raw, struct)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{where}: {complaint(error, raw, struct, whole='the section')}") from None


def _hosts(raw: Any, path: Path) -> dict[str, Host]:
    if not isinstance(raw, dict) or not raw:
        raise InvalidArgument(f"{path}: names no host; a [hosts.<name>] for each is needed")
    hosts = {name: _section(one, Host, f"{path}: [hosts.{name}]") for name, one in raw.items()}
    for address, times in Counter(host.address for host in hosts.values()).items():
        if times > 1:
            raise InvalidArgument(f"{path}: address = {address!r} is that of {times} hosts; each has its own")
    return hosts


def _check_blobs(sections: Sections, path: Path) -> None:
    if not sections["mesh"].blobs:
        raise InvalidArgument(
            f"{path}: [mesh] blobs is missing: models, graphs and datasets lie where every host finds them: the URL of a "
            "folder that all have, such as file:///mnt/blobs"
        )


Placed = tuple[str, int, int, int, str]  # service, shard, shards, replica, host


def _spread(sections: Sections, hosts: dict[str, Host], services: Collection[str]) -> Iterator[Placed]:
    """Replicas over zones, shards over the hosts of a zone; each service begins at another host."""
    zones: dict[str, list[str]] = {}
    for name, described in hosts.items():
        zones.setdefault(described.zone, []).append(name)
    in_zone = list(zones.values())
    for number, service in enumerate(services_of(sections)):
        if service not in services:
            continue
        shards, replicas = shards_of(sections, service), replicas_of(sections, service)
        for shard in range(shards):
            taken: list[str] = []
            for replica in range(replicas):
                at = shard * replicas + replica
                there = in_zone[at % len(in_zone)]
                host = there[(number + shard + replica // len(in_zone)) % len(there)]
                if host in taken:
                    raise InvalidArgument(
                        f"[{service}] replicas = {replicas}: two of a shard would be on host {host}; allowed are at most as many "
                        "as each zone has hosts for"
                    )
                taken.append(host)
                yield service, shard, shards, replica, host


def _stated(
    sections: Sections, hosts: dict[str, Host], path: Path, services: Sequence[str], most: Mapping[str, int]
) -> Iterator[Placed]:
    """As each host lists it; the replicas of a shard are numbered in the order of the hosts."""
    silent = [name for name, host in hosts.items() if host.runs is None]
    if silent:
        raise InvalidArgument(
            f"{path}: [hosts.{silent[0]}] has no `runs`, and others have; allowed is: all hosts, or none"
        )
    found: dict[tuple[str, int], list[str]] = {}
    for name, described in hosts.items():
        for stated in described.runs or ():
            for at in _meant(sections, stated, f"{path}: [hosts.{name}] runs", most):
                found.setdefault(at, []).append(name)
    for service in services:
        shards = shards_of(sections, service)
        for shard in range(shards):
            there = found.get((service, shard), [])
            if not there:
                shown = f"{service}:{shard} of {shards} shards" if shards > 1 else service
                raise InvalidArgument(f"{path}: no host runs {shown}")
            if len(there) > 1 and (why := sections[service].single(sections["mesh"])):
                raise InvalidArgument(f"{path}: {service} is one process, and {', '.join(there)} run it: {why}")
            if len(set(there)) < len(there):
                raise InvalidArgument(f"{path}: a host runs {service}:{shard} twice")
            for replica, host in enumerate(there):
                yield service, shard, shards, replica, host


def _meant(sections: Sections, stated: str, where: str, most: Mapping[str, int]) -> list[tuple[str, int]]:
    """The shards that a host means, of the layout of the sections: those that it has not are of the other one."""
    service, _, shard = stated.partition(":")
    if service not in services_of(sections):
        raise InvalidArgument(
            f"{where}: {stated!r}: there is no {service!r}; there are {', '.join(services_of(sections))}"
        )
    shards = shards_of(sections, service)
    if not shard and ":" not in stated:
        return [(service, one) for one in range(shards)]
    last = most.get(service, shards) - 1
    if not (shard.isascii() and shard.isdigit() and int(shard) <= last):
        raise InvalidArgument(f"{where}: {stated!r}: {service} has the shards 0 to {last}")
    return [(service, int(shard))] if int(shard) < shards else []


def _address(
    sections: Sections,
    own: ClusterSettings,
    hosts: dict[str, Host],
    service: str,
    shard: int,
    shards: int,
    replica: int,
    host: str,
) -> Address:
    at = bracketed(hosts[host].address)
    port = _port(sections, own, service, shards) + shard
    http = getattr(sections[service], "http_port", None)
    if http == 0:
        raise InvalidArgument(f"[{service}] http_port = 0: hosts need to know it; allowed are 1 to 65535")
    return Address(
        service=service,
        shard=shard,
        shards=shards,
        replica=replica,
        zone=hosts[host].zone,
        host=host,
        address=f"{at}:{port}",
        http=f"{at}:{http + shard}" if http else "",
    )


def _port(sections: Sections, own: ClusterSettings, service: str, shards: int) -> int:
    """Of the first shard: the setting, or else one that follows from the service alone."""
    stated = int(sections[service].port)
    if not stated and shards > PER_SERVICE:
        raise InvalidArgument(f"[{service}] shards = {shards}: name the first of so many ports, `port`, in [{service}]")
    first = stated or _first_port(sections, own, service)
    if first + shards > 65535:
        raise InvalidArgument(f"[cluster] port = {own.port}: the ports of {service} would end at {first + shards}")
    return first


def _first_port(sections: Sections, own: ClusterSettings, service: str) -> int:
    """Of the hundred of a service."""
    return own.port + PER_SERVICE * services_of(sections).index(service)
