"""`feedmesh roll`: a rolling restart of the whole mesh, on one machine or many."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cli.console import Config, Data, data_of, err, out, plainly
from cli.schema import SCHEMA
from services.core.errors import InvalidArgument
from services.ops import cluster as clusters
from services.ops.rolling import Roll
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh


@plainly
def roll(
    services: Annotated[list[str] | None, typer.Argument(help="of these alone [default: every service]")] = None,
    cluster: Annotated[Path | None, typer.Option("--cluster", help="a cluster file: all of its hosts")] = None,
    within: Annotated[float, typer.Option(min=1, help="seconds in which each process must be ready again")] = 600.0,
    config: Config = None,
    data: Data = None,
) -> None:
    """Restart every process, one after the other, each ready again before the next.

    A replica is taken away only while all others of its shard are ready. Supervisors start the processes again, so they take new
    code and settings. What has one process alone is away for as long as it takes to start.

    Examples:

        feedmesh roll

        feedmesh roll polaris rockstore --data /tmp/world

        feedmesh roll --cluster /etc/feedmesh/cluster.toml
    """
    mesh = _mesh(cluster, config, data)
    there = {process.service for process in mesh.processes}
    for service in services or ():
        if service not in there:
            raise InvalidArgument(f"{service}: this mesh has no such service; it has {', '.join(sorted(there))}")
    wanted = [process for process in mesh.processes if not services or process.service in services]

    async def run() -> None:
        await Roll(mesh, lambda line: err.print(Text(line), soft_wrap=True), within).run(wanted)

    asyncio.run(run())
    out.print(f"{len(wanted)} processes were restarted")


def _mesh(cluster: Path | None, config: Path | None, data: Path | None) -> Mesh:
    if cluster is None:
        return meshes.load(meshes.mesh_file(data_of(config, data)))
    if config is not None or data is not None:
        raise InvalidArgument("--cluster: allowed is that, or --config and --data")
    found = clusters.read(cluster, SCHEMA)
    return meshes.resolve(found.sections, list(found.processes))
