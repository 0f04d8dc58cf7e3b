"""How the snapshots of the graph are checked."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pixie import keys, layout, snapshot
from services.blob.opening import address_of
from services.core.errors import MeshError

_AGAIN = "`feedmesh graph build` makes another and loads it"


def damaged_files(data: Path, say: Callable[[str], None]) -> Iterator[tuple[str, str, str]]:
    """(file, problem, remedy) of every snapshot, read whole, and of the file that names the one served."""
    graphs, folder = keys.graphs_of(data), f"{address_of(data)}/{keys.GRAPHS}"
    try:
        for version in snapshot.current(graphs)[:1]:
            snapshot.folder_of(graphs, version)
    except MeshError as error:
        yield f"{folder}/{keys.CURRENT}", str(error), _AGAIN
    for version in snapshot.versions(graphs):
        say(f"graph {version}")
        try:
            snapshot.open_snapshot(snapshot.folder_of(graphs, version), version=version)
        except MeshError as error:
            yield f"{folder}/{version}/{layout.MANIFEST}", str(error), _AGAIN
