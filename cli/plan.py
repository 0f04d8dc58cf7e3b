"""`feedmesh plan`: shards, memory and machines for so many users, pins and edges, from measured figures."""

from importlib.resources import files
from math import ceil
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from msgspec import Struct
from rich.table import Table

from cli.console import AsJson, out, plainly
from cli.schema import SERVICE_SETTINGS, SERVICES
from services.core import settings
from services.core.errors import InvalidArgument
from services.core.settings import ShardedSettings

SINGLE = "roadrunner"  # one process, whatever is asked of it
BUSY = 0.6  # of a core, and of a process: the rest is for peaks
FULL = 0.8  # of a machine's memory
CACHED = 0.2  # of all pins, those that scorpion keeps
PARTITIONS = settings.MeshSettings().partitions
LARGEST = 10**13


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


@plainly
def plan(
    users: Annotated[int, typer.Option(help="people")],
    pins: Annotated[int, typer.Option(help="pins")],
    edges: Annotated[int, typer.Option(help="saves: a pin on a board")],
    feeds_per_second: Annotated[float, typer.Option(help="home pages a second, at the peak")],
    follows_per_user: Annotated[float, typer.Option(help="boards, people and interests that one follows")] = 50,
    events_per_user: Annotated[float, typer.Option(help="impressions and other actions of one that are kept")] = 500,
    memory_per_machine: Annotated[float, typer.Option(help="GB")] = 64,
    cores_per_machine: Annotated[int, typer.Option(help="cores")] = 16,
    as_json: AsJson = False,
) -> None:
    """Plan a deployment: shards, disk, memory, cores and machines, by service.

    Bytes and CPU are measured ones, multiplied; the last lines say when and where they were measured, and the assumptions.

    Examples:

        feedmesh plan --users 50000 --pins 200000 --edges 2000000 --feeds-per-second 20 --memory-per-machine 16

        feedmesh plan --users 1000000 --pins 10000000 --edges 100000000 --feeds-per-second 500
    """
    for name, value, least, most in (
        ("--users", users, 1, LARGEST),
        ("--pins", pins, 1, LARGEST),
        ("--edges", edges, 1, LARGEST),
        ("--feeds-per-second", feeds_per_second, 0, 1e9),
        ("--follows-per-user", follows_per_user, 0, 1e6),
        ("--events-per-user", events_per_user, 0, 1e6),
        ("--memory-per-machine", memory_per_machine, 1, 1e5),
        ("--cores-per-machine", cores_per_machine, 1, 10_000),
    ):
        if not least <= value <= most:
            raise InvalidArgument(f"{name} = {value:,}: allowed are {least:,} to {most:,.0f}")
    if edges > users * pins:
        raise InvalidArgument(
            f"--edges = {edges:,}: {users:,} users can't have saved {pins:,} pins more than once each"
        )
    follows, events = users * follows_per_user, users * events_per_user
    units = {"user": users, "pin": pins, "edge": edges, "follow": follows, "event": events,
             "record": pins + edges + follows + events}  # fmt: skip
    capacity = read()
    load = Load(units, feeds_per_second, memory_per_machine * 1e9, cores_per_machine)
    lines = planned(capacity, load)
    if as_json:
        services = [line._asdict() | {"machines": round(line.machines, 3)} for line in lines]
        out.print_json(data={"services": services, "machines": machines(lines, load), "measured": capacity.measured})
        return
    out.print(_table(lines))
    _say(capacity, load, lines)


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
    return Line(service, processes, copies, disk * (processes if copies else 1), memory, cores, machines)


def machines(lines: list[Line], load: Load) -> int:
    """Of the whole mesh, when services share machines."""
    by_memory = sum(line.memory for line in lines) / (load.memory_per_machine * FULL)
    return max(1, ceil(by_memory), ceil(sum(line.cores for line in lines) / load.cores_per_machine))


def _table(lines: list[Line]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("service")
    for name in ("shards", "disk GB", "memory GB", "cores", "machines"):
        table.add_column(name, justify="right")
    for line in lines:
        shards = (
            f"{line.processes} {'replicas' if line.processes > 1 else 'replica'}"
            if line.copies
            else str(line.processes)
        )
        row = (f"{line.disk / 1e9:,.2f}", f"{line.memory / 1e9:,.2f}", f"{line.cores:,.2f}", f"{line.machines:,.2f}")
        table.add_row(line.service, shards, *row)
    disk, memory = (sum(getattr(line, name) for line in lines) / 1e9 for name in ("disk", "memory"))
    cores = sum(line.cores for line in lines)
    table.add_row(
        "all", str(sum(line.processes for line in lines)), f"{disk:,.2f}", f"{memory:,.2f}", f"{cores:,.2f}", ""
    )
    return table


def _say(capacity: Capacity, load: Load, lines: list[Line]) -> None:
    def say(text: str) -> None:
        out.print(text, highlight=False, markup=False, soft_wrap=True)

    n = machines(lines, load)
    say(
        f"\n{n} machine{'s' if n > 1 else ''} of {load.memory_per_machine / 1e9:g} GB and {load.cores_per_machine} cores"
    )
    several = [
        f"`[{line.service}] replicas = {line.processes}`" for line in lines if line.copies and line.processes > 1
    ]
    if several:
        say(f"set {', '.join(several)}: one process of each is too few")
    most = max(line.processes for line in lines if not line.copies)
    if most > PARTITIONS:
        say(
            f"set `[mesh] partitions` to at least {most:,} before anything is loaded: there are no more shards than those"
        )
    ingest = next(line for line in lines if line.service == SINGLE)
    if ingest.cores > 1:
        say(
            f"{SINGLE} is one process, and {ingest.cores:,.2f} cores are asked of it: so many feeds are more than it can log"
        )
    if n > 1:
        say("several machines are one mesh by a cluster file: docs/operations.md")
    of = capacity.measured
    say(
        f"measured {of['date']} at commit {of['commit']} on {of['cpu']}, {of['memory']}, by `{of['command']}`\n"
        f"assumed: cores {BUSY:.0%} busy, memory {FULL:.0%} full, scorpion caching {CACHED:.0%} of the pins, a fifth of the "
        "other stores' files in memory; one replica of each shard"
    )
