"""What each service needs for a load: measured bytes and CPU, multiplied."""

from importlib.resources import files
from math import ceil
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from cli.schema import SERVICE_SETTINGS, SERVICES
from services.core.errors import InvalidArgument
from services.core.settings import ShardedSettings

SINGLE = "roadrunner"  # one process, whatever is asked of it
BUSY = 0.6  # of a core, and of a process: the rest is for peaks
FULL = 0.8  # of a machine's memory
CACHED = 0.2  # of all pins, those that scorpion keeps


class ServiceCost(Struct):
    """Of one service. cpu_ms: a feed; process_mb: a process with hardly any data; disk, memory: bytes a unit."""

    cpu_ms: float
    process_mb: float
    unit: str
    disk: float
    memory: float


class Capacity(Struct):
    """`capacity.json`. measured: when, where and how."""

    measured: dict[str, Any]
    services: dict[str, ServiceCost]


class Line(NamedTuple):
    """The needs of a service. copies: whether they are replicas that each hold everything, instead of shards."""

    service: str
    processes: int
    copies: bool
    process: float  # bytes of a process that holds hardly any data
    disk: float  # bytes
    memory: float
    cores: float
    machines: float


class Load(NamedTuple):
    """The load to plan for, by the unit in which a service's bytes are given."""

    units: dict[str, float]
    feeds_per_second: float
    memory_per_machine: float  # bytes
    cores_per_machine: int


def read() -> Capacity:
    """The measured figures, as they are installed."""
    return msgspec.json.decode((files("cli") / "capacity.json").read_bytes(), type=Capacity)


def planned(capacity: Capacity, load: Load) -> list[Line]:
    """A line a service. Raises InvalidArgument when a service that can't be split does not fit on a machine."""
    return [_line(service, capacity.services[service], load) for service in SERVICES]


def _line(service: str, of: ServiceCost, load: Load) -> Line:
    amount = load.units.get(of.unit, 0) * (CACHED if service == "scorpion" else 1)
    disk, held, process = amount * of.disk, amount * of.memory, of.process_mb * 1e6
    cores, usable = load.feeds_per_second * of.cpu_ms / 1000 / BUSY, load.memory_per_machine * FULL
    copies = not issubclass(SERVICE_SETTINGS[service], ShardedSettings)
    fits = held + process if copies else process
    if fits > usable:
        raise InvalidArgument(
            f"--memory-per-machine = {load.memory_per_machine / 1e9:g}: one {service} needs {fits / 1e9:,.1f} GB, and "
            f"{FULL:.0%} of a machine are used: allowed is at least {ceil(fits / FULL / 1e9):,} GB"
        )
    by_memory = 1 if copies else ceil(held / (usable - process)) if held else 1
    processes = 1 if service == SINGLE else max(1, ceil(cores), by_memory)
    memory = processes * (process + held) if copies else processes * process + held
    machines = max(cores / load.cores_per_machine, memory / usable)
    return Line(service, processes, copies, process, disk * (processes if copies else 1), memory, cores, machines)


def machines(lines: list[Line], load: Load) -> int:
    """Of the whole mesh, when services share machines."""
    by_memory = sum(line.memory for line in lines) / (load.memory_per_machine * FULL)
    return max(1, ceil(by_memory), ceil(sum(line.cores for line in lines) / load.cores_per_machine))


def load_of(
    users: int, pins: int, edges: int, feeds_per_second: float, follows: float, events: float, memory: float, cores: int
) -> Load:
    """The load of so many; follows and events: of a user; memory: of a machine, bytes. Raises InvalidArgument."""
    if edges > users * pins:
        raise InvalidArgument(
            f"--edges = {edges:,}: {users:,} users can't have saved {pins:,} pins more than once each"
        )
    all_follows, all_events = users * follows, users * events
    units = {"user": users, "pin": pins, "edge": edges, "follow": all_follows, "event": all_events,
             "record": pins + edges + all_follows + all_events}  # fmt: skip
    return Load(units, feeds_per_second, memory, cores)
