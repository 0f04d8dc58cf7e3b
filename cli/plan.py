"""`feedmesh plan`: shards, memory and machines for so many users, pins and edges, from measured figures."""

from typing import Annotated

import typer
from rich.table import Table

from cli.console import AsJson, out, plainly
from cli.plan_lines import BUSY, CACHED, FULL, SINGLE, Capacity, Line, Load, load_of, machines, planned, read
from cli.pods import Pods, pods
from services.core import settings
from services.core.errors import InvalidArgument

PARTITIONS = settings.MeshSettings().partitions
LARGEST = 10**13


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
    zones: Annotated[int, typer.Option(help="zones, for the pods of Kubernetes; 0: none are planned")] = 0,
    as_json: AsJson = False,
) -> None:
    """Plan a deployment: shards, disk, memory, cores and machines, by service.

    Bytes and CPU are measured ones, multiplied; the last lines say when and where they were measured, and the assumptions.

    Examples:

        feedmesh plan --users 50000 --pins 200000 --edges 2000000 --feeds-per-second 20 --memory-per-machine 16

        feedmesh plan --users 1000000 --pins 10000000 --edges 100000000 --feeds-per-second 500 --zones 3
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
        ("--zones", zones, 0, 64),
    ):
        if not least <= value <= most:
            raise InvalidArgument(f"{name} = {value:,}: allowed are {least:,} to {most:,.0f}")
    load = load_of(
        users,
        pins,
        edges,
        feeds_per_second,
        follows_per_user,
        events_per_user,
        memory_per_machine * 1e9,
        cores_per_machine,
    )
    capacity = read()
    lines = planned(capacity, load)
    if as_json:
        services = [line._asdict() | {"machines": round(line.machines, 3)} for line in lines]
        found = {"services": services, "machines": machines(lines, load), "measured": capacity.measured}
        of_pods = {"pods": [of._asdict() for of in pods(lines, zones)]} if zones else {}
        out.print_json(data=found | of_pods)
        return
    out.print(_table(lines))
    if zones:
        out.print(_pods_table(pods(lines, zones)))
    _say(capacity, load, lines)


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


def _pods_table(found: list[Pods]) -> Table:
    table = Table(box=None, header_style="bold", title="pods, as deploy/kubernetes has them")
    table.add_column("service")
    for name in ("shards", "replicas", "zones", "pods a zone", "cpu", "memory MB", "disk GB"):
        table.add_column(name, justify="right")
    for of in found:
        a_zone = f"{of.a_zone} to {of.most}" if of.scaled else f"{of.a_zone}"
        numbers = (of.shards, of.replicas, of.zones, a_zone, f"{of.cpu:g}", f"{of.memory_mb:,}", f"{of.disk_gb:,}")
        table.add_row(of.service, *map(str, numbers))
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
