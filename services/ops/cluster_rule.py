"""The processes of a cluster whose addresses follow from a rule, as on Kubernetes: service, zone and ordinal give a name.

    [rule]
    zones = ["a", "b", "c"]
    host = "{service}-{zone}-{ordinal}.{service}-{zone}"     # of a process of its own name
    scaled = ["feedgen", "web"]                              # of any number, which one name stands for
    scaled_host = "{service}-{zone}"

stands in a cluster file in place of its hosts. Replica `r` of a shard is in the zone at `r` modulo the zones, and its ordinal
there is that of its shard, or more by the number of shards for each time the zones have been gone round. So a zone has a
StatefulSet of each service, whose ordinals go round the shards. Replicas are numbered by the zones' order: new zones come last.
"""

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from string import Formatter
from typing import Annotated

from msgspec import Meta, Struct

from services.core.errors import InvalidArgument
from services.core.settings import Sections, services_of
from services.ops.planning import replicas_of, shards_of
from services.rpc.membership import Address
from services.rpc.mesh import bracketed

ZONE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")  # a part of names in DNS
FIELDS = ("service", "zone", "ordinal")
Ports = Callable[[str], int]  # the port of a service
Resolve = Callable[
    [str], list[str]
]  # the addresses of a name, none where there are none; raises OSError where that is not known


class Rule(Struct, forbid_unknown_fields=True, kw_only=True):
    """[rule]. zones: in the order that numbers replicas; host: of a process, with {service}, {zone} and {ordinal}; scaled:
    services whose number changes, and which keep nothing; scaled_host: the name of all of them in a zone, with {service} and
    {zone}; listen: the address of this machine where a process listens; empty: that which the rule gives it.
    """

    zones: Annotated[tuple[str, ...], Meta(min_length=1)]
    host: Annotated[str, Meta(min_length=1)] = "{service}-{zone}-{ordinal}.{service}-{zone}"
    scaled: tuple[str, ...] = ("feedgen", "web")
    scaled_host: Annotated[str, Meta(min_length=1)] = "{service}-{zone}"
    listen: str = "0.0.0.0"


class Place(Struct, frozen=True):
    """Where a process is. ordinal: among those of its service and zone."""

    service: str
    zone: str
    ordinal: int
    shard: int
    shards: int
    replica: int


def check(rule: Rule, services: Iterable[str], path: str) -> None:
    """Raise InvalidArgument for a rule that names what there is not, or gives two processes one address."""
    for zone in rule.zones:
        if not ZONE.match(zone):
            raise InvalidArgument(
                f"{path}: [rule] zones: {zone!r}: allowed are small letters, digits and - between them"
            )
    if len(set(rule.zones)) < len(rule.zones):
        raise InvalidArgument(f"{path}: [rule] zones: one is named twice")
    known = list(services)
    for service in rule.scaled:
        if service not in known:
            raise InvalidArgument(f"{path}: [rule] scaled: there is no {service!r}; there are {', '.join(known)}")
    _fields(rule.host, FIELDS, f"{path}: [rule] host")
    _fields(rule.scaled_host, FIELDS[:2], f"{path}: [rule] scaled_host")


def _fields(template: str, needed: tuple[str, ...], where: str) -> None:
    try:
        found = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise InvalidArgument(f"{where} = {template!r}: {error}") from None
    for name in found - set(needed):
        raise InvalidArgument(f"{where} = {template!r}: {{{name}}} is not known here; known are {_braced(needed)}")
    for name in set(needed) - {"service"} - found:  # services have ports of their own
        raise InvalidArgument(f"{where} = {template!r}: {{{name}}} is missing: two processes would have one address")


def _braced(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def places(sections: Sections, rule: Rule, service: str) -> Iterator[Place]:
    """Of every process of a service that has a name of its own, by shard and replica."""
    shards, replicas, zones = shards_of(sections, service), replicas_of(sections, service), len(rule.zones)
    for shard in range(shards):
        for replica in range(replicas):
            ordinal = replica // zones * shards + shard
            yield Place(service, rule.zones[replica % zones], ordinal, shard, shards, replica)


def addresses(sections: Sections, rule: Rule, ports: Ports) -> tuple[Address, ...]:
    """Every process by the rule; for a scaled service its name in each zone, as if that were one process."""
    found: list[Address] = []
    for service in services_of(sections):
        if service in rule.scaled:
            if shards_of(sections, service) > 1:
                raise InvalidArgument(
                    f"[{service}] shards: a scaled service has no shards; take it out of [rule] scaled"
                )
            for number, zone in enumerate(rule.zones):
                host = rule.scaled_host.format(service=service, zone=zone)
                found.append(_address(sections, Place(service, zone, 0, 0, 1, number), host, ports))
            continue
        for place in places(sections, rule, service):
            host = rule.host.format(service=service, zone=place.zone, ordinal=place.ordinal)
            found.append(_address(sections, place, host, ports))
    return tuple(found)


def _address(sections: Sections, place: Place, host: str, ports: Ports) -> Address:
    http, at = getattr(sections[place.service], "http_port", None), bracketed(host)
    return Address(
        service=place.service,
        shard=place.shard,
        shards=place.shards,
        replica=place.replica,
        zone=place.zone,
        address=f"{at}:{ports(place.service)}",
        http=f"{at}:{http}" if http else "",
    )


def own_place(sections: Sections, rule: Rule, service: str, zone: str, ordinal: int) -> Place:
    """The place of this process. Raises InvalidArgument for one that the rule does not have, naming what it has."""
    check_zone(rule, zone)
    if service not in services_of(sections):
        raise InvalidArgument(f"--service {service}: there is none such; there are {', '.join(services_of(sections))}")
    there = {place.ordinal: place for place in places(sections, rule, service) if place.zone == zone}
    if not there:
        raise InvalidArgument(
            f"--zone {zone}: {service} has no process there, but as many as [{service}] replicas says"
        )
    if ordinal not in there:
        raise InvalidArgument(f"--ordinal {ordinal}: {service} has the ordinals 0 to {max(there)} in zone {zone}")
    return there[ordinal]


def check_zone(rule: Rule, zone: str) -> None:
    """Raise InvalidArgument for a zone that there is not."""
    if zone not in rule.zones:
        raise InvalidArgument(f"--zone {zone}: there is none such; there are {', '.join(rule.zones)}")


def resolved(name: str) -> list[str]:
    """The addresses of a name, in their order; none of a name that there is not. Raises OSError while that is not known."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return []
        raise
    return sorted({str(entry[4][0]) for entry in found})


def number_of(address: str) -> int:
    """The replica number of a scaled process at an IP address: its own, whoever looks, and whatever the others are."""
    return int(ip_address(address)) % 2**31


class Scaled:
    """The processes of scaled services, found by the names that stand for all of them."""

    def __init__(self, rule: Rule, resolve: Resolve = resolved) -> None:
        """resolve: how names are looked up."""
        self._rule, self._resolve = rule, resolve
        self._known: dict[str, list[str]] = {}

    def look(self, processes: Iterable[Address], own: Address | None = None) -> tuple[Address, ...]:
        """The processes, with those that are found in place of each name. A name of none stays, so that calls to it fail as to
        any process that is away; one that can't be looked up now is as it was. own: this very process, if it is scaled: it is
        found by name only when it is ready.
        """
        found: dict[tuple[str, int, int], Address] = {}
        for process in (*processes, *([own] if own else [])):
            hosts = self._hosts(process) if process.service in self._rule.scaled and process is not own else []
            for one in [_at(process, host) for host in hosts] or [process]:
                found[one.service, one.shard, one.replica] = one
        return tuple(found.values())

    def _hosts(self, process: Address) -> list[str]:
        name = process.address.rpartition(":")[0]
        with suppress(OSError):
            self._known[name] = self._resolve(name)
        return self._known.get(name, [])


def _at(process: Address, host: str) -> Address:
    """A scaled process at an IP address."""

    def there(address: str) -> str:
        return f"{bracketed(host)}:{address.rpartition(':')[2]}" if address else ""

    return Address(
        service=process.service,
        shard=process.shard,
        shards=process.shards,
        replica=number_of(host),
        zone=process.zone,
        address=there(process.address),
        http=there(process.http),
    )


def own_scaled(processes: Iterable[Address], service: str, zone: str, address: str) -> Address:
    """This process of a scaled service, at its IP address. Raises InvalidArgument for what is none."""
    try:
        ip_address(address)
    except ValueError:
        raise InvalidArgument(f"--address {address!r}: is no IP address") from None
    return _at(next(of for of in processes if (of.service, of.zone) == (service, zone)), address)
