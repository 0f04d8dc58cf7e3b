"""Which snapshot is served: pushes one to the running pixie and remembers it for the next start, and goes back.

`graphs/current` is written once pixie has checked and taken a snapshot, never before.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from pixie import layout
from pixie.client import PixieClient, ServedGraph
from pixie.keys import CURRENT
from pixie.layout import SnapshotManifest
from pixie.snapshot import current, folder_of, manifest_of, versions
from services.blob.opening import Place, open_blobs
from services.core.errors import InvalidArgument, MeshError, NotFound
from services.rpc.mesh import Mesh

LOAD_WITHIN_S = 600.0  # it reads and checks every byte
ASK_WITHIN_S = 2.0
REMEMBERED = 20


@dataclass(frozen=True, slots=True)
class ListedSnapshot:
    """A snapshot in the folder: its manifest, or why it can't be read."""

    version: str
    manifest: SnapshotManifest | None
    problem: str
    pushed: bool  # is opened at a start
    served: bool  # by the running pixie


def push(mesh: Mesh, graphs: Place, version: str) -> ServedGraph:
    """Load a version into the running pixie. Raises NotFound, InvalidArgument when it is refused, Unavailable."""
    folder_of(graphs, version)
    loaded = _load(mesh, version)
    _remember(graphs, [version, *(v for v in _pushed(graphs) if v != version)])
    return loaded


def rollback(mesh: Mesh, graphs: Place) -> ServedGraph:
    """Load the version that was pushed before the present one. Raises NotFound when there was none."""
    pushed = current(graphs)
    if len(pushed) < 2:
        raise NotFound(f"graphs/{CURRENT}: no snapshot was pushed before {pushed[0] if pushed else 'any'}")
    loaded = _load(mesh, pushed[1])
    _remember(graphs, pushed[1:])
    return loaded


def listed(graphs: Place, mesh: Mesh | None) -> list[ListedSnapshot]:
    """Every snapshot of a folder, newest first; with a mesh, which of them pixie serves."""
    served, pushed, found = _served(mesh), _pushed(graphs)[:1], []
    for version in versions(graphs):
        manifest, problem = None, ""
        try:
            manifest = manifest_of(graphs, version)
        except MeshError as error:
            problem = str(error)
        found.append(ListedSnapshot(version, manifest, problem, [version] == pushed, version == served))
    return found


def _load(mesh: Mesh, version: str) -> ServedGraph:
    async def load() -> ServedGraph:
        client = PixieClient(mesh)
        try:
            return await client.load(version, LOAD_WITHIN_S)
        finally:
            await client.close()

    return asyncio.run(load())


def _served(mesh: Mesh | None) -> str:
    """The version that pixie serves; empty when there is none, or no pixie that answers."""

    async def describe(mesh: Mesh) -> str:
        client = PixieClient(mesh)
        try:
            return (await client.describe(ASK_WITHIN_S)).version
        finally:
            await client.close()

    try:
        return asyncio.run(describe(mesh)) if mesh else ""
    except MeshError:
        return ""


def _pushed(graphs: Place) -> list[str]:
    """The versions pushed, as far as they are known: a damaged list is written anew."""
    with suppress(InvalidArgument):
        return current(graphs)
    return []


def _remember(graphs: Place, pushed: list[str]) -> None:
    """Written whole or not at all."""
    open_blobs(graphs).put(CURRENT, layout.pack_current(pushed[:REMEMBERED]).encode())
