"""`feedmesh status`: every process, live."""

import asyncio
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.console import AsJson, Config, Data, data_of, out, plainly
from services.core.errors import InvalidArgument, Unavailable
from services.ops.probe import Health, Probe
from services.rpc import mesh as meshes


@plainly
def status(
    config: Config = None,
    data: Data = None,
    watch: Annotated[bool, typer.Option("--watch/--once", help="keep the table up to date until Ctrl-C")] = False,
    as_json: AsJson = False,
) -> None:
    """Show each process: ready or why not, events and seconds behind the log, QPS and P99 of the last minute, memory; its
    zone and host where there are several.

    Exit code 1 when a process is not ready that clients ask: one of a layout that `feedmesh layout` added may catch up for long.

    Examples:

        feedmesh status

        feedmesh status --watch

        feedmesh status --json | jq '.[] | select(.ready | not)'
    """
    if watch and as_json:
        raise InvalidArgument("--watch and --json: allowed is one of them")
    mesh = meshes.load(meshes.mesh_file(data_of(config, data)))
    try:
        health = asyncio.run(_show(mesh, watch, as_json))
    except KeyboardInterrupt:
        return
    unready = [h.of.name for h in health if h.of.asked and not h.ready]
    if unready:
        raise Unavailable(f"not ready: {', '.join(unready)}")


async def _show(mesh: meshes.Mesh, watch: bool, as_json: bool) -> list[Health]:
    probe = Probe(mesh)
    health = await probe.ask()
    if as_json:
        out.print_json(data=[_record(h) for h in health])
    elif not watch:
        out.print(_table(health))
    else:
        with Live(_table(health), console=out, refresh_per_second=4) as live:
            while True:
                await asyncio.sleep(1)
                live.update(_table(await probe.ask()))
    await probe.close()
    return health


def _table(health: list[Health]) -> Table:
    table = Table(box=None, header_style="bold")
    places = len({_place(h) for h in health}) > 1
    for name in ("process", *(["zone"] if places else []), "address"):
        table.add_column(name, no_wrap=True, overflow="fold")
    table.add_column("state", max_width=60)
    for name in ("behind", "behind s", "QPS", "P99 ms", "errors", "memory MB", "pid"):
        table.add_column(name, justify="right")
    for h in health:
        state = Text("ready", "green") if h.ready else Text(h.why, "red")
        where = [_place(h)] if places else []
        table.add_row(h.of.name, *where, h.of.http or h.of.address, state, *_figures(h))
    return table


def _place(h: Health) -> str:
    """Its zone, and its host where a cluster file names hosts."""
    return f"{h.of.zone} ({h.of.host})" if h.of.host else h.of.zone


def _record(h: Health) -> dict[str, Any]:
    of = {
        "service": h.of.service,
        "shard": h.of.shard,
        "shards": h.of.shards,
        "replica": h.of.replica,
        "asked": h.of.asked,
        "zone": h.of.zone,
        "host": h.of.host or None,
        "address": h.of.address,
        "http": h.of.http or None,
    }
    state = {"ready": h.ready, "why": h.why or None}
    if h.status is None:
        return of | state
    methods = [
        {"method": m.method, "calls": m.calls, "errors": m.errors, "qps": m.qps, "p50_ms": m.p50_ms, "p99_ms": m.p99_ms}
        for m in h.status.methods
    ]
    lag = {"behind": h.status.behind, "behind_records": h.status.behind_records, "behind_s": h.status.behind_s}
    figures = {"uptime_s": h.status.uptime_s, "rss_bytes": h.status.rss_bytes}
    return of | state | lag | figures | {"pid": h.status.pid, "methods": methods}


def _figures(h: Health) -> list[str]:
    if h.status is None:
        return ["-"] * 7
    methods = h.status.methods
    busiest = max(methods, key=lambda m: m.qps, default=None)
    return [
        str(h.status.behind),
        f"{h.status.behind_s:.1f}",
        f"{sum(m.qps for m in methods):.1f}",
        f"{busiest.p99_ms:.1f}" if busiest else "-",
        str(sum(m.errors for m in methods)),
        str(h.status.rss_bytes >> 20),
        str(h.status.pid),
    ]
