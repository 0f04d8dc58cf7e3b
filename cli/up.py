"""`feedmesh up` and `feedmesh down`: the whole mesh on this machine, under one supervisor."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.cluster import ClusterPart
from cli.console import Config, Data, config_of, data_of, err, hint, out, plainly, sections_of
from cli.learning import Learner, events_of
from cli.schema import BLOBS
from pixie.keys import was_pushed
from scorpion import keys as models
from services.blob.opening import open_blobs, settle
from services.core.durable import rename_durably
from services.core.errors import InvalidArgument, NotFound, Unavailable
from services.core.installation import environment, program
from services.ops.phase import phase
from services.ops.planning import plan
from services.ops.probe import Health, Probe
from services.ops.supervisor import DataFolder, Supervisor
from services.rpc import mesh as meshes

READY_WITHIN_S = 600.0  # a view that rebuilds from a long log takes its time
STOPS_WITHIN_S = 10.0  # a load that is stopped writes down how far it came
_BY_HAND = "feedmesh model train --promote"
KNOWN_AFTER_S = 1.5  # a view asks every half second how long the log is; until then it may not know that it is behind


@plainly
def up(
    config: Config = None,
    data: Data = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="the page's port; 0: any free one")] = None,
    with_demo: Annotated[
        bool, typer.Option("--demo", help="make and load a demo world if there is no data yet")
    ] = False,
    cluster: Annotated[Path | None, typer.Option("--cluster", help="a cluster file: run one host's part of it")] = None,
    host: Annotated[str | None, typer.Option("--host", help="which host of the cluster file this is")] = None,
) -> None:
    """Start every service, or one host's part of a cluster, and keep them running until Ctrl-C.

    Examples:

        feedmesh up                         the settings of ./mesh.toml if it is there, ./data, page on port 8080

        feedmesh up --data /tmp/world --port 9000

        feedmesh up --demo                  with a world to look at, the first time

        feedmesh up --cluster cluster.toml --host a
    """
    watched = None
    if cluster is not None or host is not None:
        watched = ClusterPart.of(cluster, host, alone=(config, data, port, with_demo or None))
        common = watched.plan.mesh.common
    else:
        sections = sections_of(config, data)
        if port is not None:
            sections["web"].http_port = port
        common = sections["mesh"]
    folder = DataFolder(Path(common.data))
    settle(folder.path, common.blobs, BLOBS)
    stop = _Stop()
    made = watched.plan if watched else plan(sections)
    supervisor = Supervisor(made, report=lambda line: err.print(Text(line, "yellow"), soft_wrap=True))
    learner = Learner(
        supervisor.mesh, None if watched else config_of(config), events_of(supervisor.mesh), _report_learning
    )
    try:
        supervisor.start()
        _until_ready(supervisor, stop)
        if with_demo and not stop.asked:
            _first_world(supervisor, stop, folder.path.resolve())
        if not stop.asked:
            _say_ready(supervisor)
            if any((of.service, of.replica) == ("roadrunner", 0) for of in made.own):  # once in a cluster
                learner.start()
        while not stop.asked:
            supervisor.watch()
            if watched:
                watched.look(supervisor)
            time.sleep(0.1)
    finally:
        err.print("draining …")
        learner.stop()
        killed = supervisor.stop()
        folder.release()
        err.print(f"stopped{', killed: ' + ', '.join(killed) if killed else ''}")


def _report_learning(line: str) -> None:
    err.print(Text(line), soft_wrap=True)


class _Stop:
    """Whether SIGINT or SIGTERM has come. A second one is obeyed at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def _until_ready(supervisor: Supervisor, stop: _Stop, caught_up: bool = False) -> None:
    """Show each process on its way until all are ready, and have applied the log. Raises Unavailable when one can't be
    started.
    """
    asyncio.run(_watch_start(supervisor, stop, caught_up))


async def _watch_start(supervisor: Supervisor, stop: _Stop, caught_up: bool) -> None:
    own = {child.name for child in supervisor.children if child.of.asked}  # another layout may be filled for long
    probe, end = Probe(supervisor.mesh, lambda of: of.name in own), time.monotonic() + READY_WITHIN_S
    since = time.monotonic()  # all has been well
    with _shown() as show:
        while not stop.asked:
            supervisor.watch()
            supervisor.fail_fast()
            health = await probe.ask()
            show(health)
            if not all(h.ready and not (caught_up and h.status and h.status.behind) for h in health):
                since = time.monotonic()
            elif not caught_up or time.monotonic() - since > KNOWN_AFTER_S:
                break
            if time.monotonic() > end:
                raise Unavailable(f"not ready within {READY_WITHIN_S:.0f} s: {_first_unready(health)}")
            await asyncio.sleep(0.15)
    await probe.close()


@contextmanager
def _shown() -> Iterator[Callable[[list[Health]], None]]:
    """Yields what shows how the processes are: in place on a terminal, else in a line for each that became ready."""
    if err.is_terminal:
        with Live(console=err, refresh_per_second=8, transient=True) as live:
            yield lambda health: live.update(_starting(health))
        return
    ready: set[str] = set()

    def lines(health: list[Health]) -> None:
        for h in health:
            name = h.of.name
            if h.ready and name not in ready:
                ready.add(name)
                err.print(f"{name} is ready", highlight=False)

    yield lines


def _starting(health: list[Health]) -> Table:
    table = Table.grid(padding=(0, 2))
    for h in health:
        behind = f", {h.status.behind:,} events behind" if h.status and h.status.behind else ""
        state = Text(f"ready{behind}", "green") if h.ready else Text(h.why if h.status else "starting", "yellow")
        table.add_row(f"  {h.of.name}", state)
    return table


def _first_unready(health: list[Health]) -> str:
    return next(f"{h.of.name}: {h.why}" for h in health if not h.ready)


def _first_world(supervisor: Supervisor, stop: _Stop, data: Path) -> None:
    """A demo world, made and loaded once, and its graph; never into a folder that holds another set."""
    world, draft = data / "demo", data / "demo.draft"
    if not world.exists() and not any((data / "loads").glob("*.json")):
        with phase(data, "a demo world is being made"):
            if not _did(supervisor, stop, "demo", "--out", draft, "--no-hint"):
                raise typer.Exit(1)
        rename_durably(draft, world)  # whole or not at all, whenever this is killed
    if not world.exists():
        return
    with phase(data, "the demo world is being loaded"):
        if not _did(supervisor, stop, "load", "parquet", world, "--data", data):
            raise typer.Exit(1)
        _until_ready(supervisor, stop, caught_up=True)
    if was_pushed(data) or stop.asked:
        return
    with phase(data, "the graph of the demo world is being built"):
        if not _did(supervisor, stop, "graph", "build", "--data", data):
            hint("`feedmesh graph build` failed: picked and home do without; try it by hand")


def _did(supervisor: Supervisor, stop: _Stop, *words: object) -> bool:
    """Run a `feedmesh` command to its end, and start again what dies meanwhile; whether it went well. It has a process
    of its own: the supervisor stays small, and the command is stopped wherever it is, where a KeyboardInterrupt raised
    inside a callback or a destructor would be lost. Raises Exit when it was stopped.
    """
    command = [*program("cli.main"), *map(str, words)]
    child = subprocess.Popen(command, stdout=sys.stderr, env=environment(), start_new_session=True)
    try:
        while child.poll() is None and not stop.asked:
            supervisor.watch()
            time.sleep(0.1)
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            child.wait(STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        err.print(f"feedmesh {words[0]} did not stop within {STOPS_WITHIN_S:.0f} s: killed", style="yellow")
    finally:
        child.kill()
        child.wait()
    if stop.asked:
        raise typer.Exit(130)
    return child.returncode == 0


def _say_ready(supervisor: Supervisor) -> None:
    mesh = supervisor.mesh
    edge = next((child.of.http for child in supervisor.children if child.of.http), mesh.of("web")[0].http)
    out.print(f"\n[bold green]Feedmesh is ready[/]   page    http://{edge}/", highlight=False)
    out.print(f"                    health  http://{edge}/health", highlight=False)
    out.print(f"                    API     http://{edge}/docs", highlight=False)
    if not open_blobs(mesh).exists(models.PROMOTED):
        out.print(
            "                    model   none yet: one is made when there is enough to learn from", highlight=False
        )
    out.print(f"                    data    {mesh.data}   (Ctrl-C drains and stops everything)", highlight=False)


@plainly
def down(
    config: Config = None,
    data: Data = None,
    timeout: Annotated[float, typer.Option(min=1, help="seconds to wait for it to drain")] = 30.0,
) -> None:
    """Drain and stop the mesh that runs on a data folder.

    Example:

        feedmesh down --data /tmp/world
    """
    folder = data_of(config, data)
    lock = folder / "run" / "lock"
    try:
        holder = int(lock.read_text())
        DataFolder(folder).release()
    except Unavailable:
        pass
    except (OSError, ValueError, InvalidArgument):
        raise NotFound(f"{folder}: no mesh runs on this data folder") from None
    else:
        raise NotFound(f"{folder}: no mesh runs on this data folder")
    os.kill(holder, signal.SIGTERM)
    _await_end(holder, folder, timeout)
    out.print("stopped")


def _await_end(holder: int, folder: Path, timeout: float) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            os.kill(holder, 0)
        except ProcessLookupError:
            return
        if not meshes.mesh_file(folder).exists():
            try:
                DataFolder(folder).release()
            except Unavailable:
                pass
            else:
                return
        time.sleep(0.1)
    raise Unavailable(f"process {holder} did not stop within {timeout:.0f} s")
