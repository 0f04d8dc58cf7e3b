"""Ids of text that a load brings, held against those that the mesh has."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rockstore.client import RockstoreClient
from services.core.columns import U8, U64
from services.core.errors import NotFound
from services.core.external import collision
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh

AT_ONCE = 10_000
TIMEOUT_S = 30.0


def check_names(mesh: Mesh, kinds: U8, numbers: U64, ids: Any) -> None:
    """Raise InvalidArgument where a number of the load belongs to another text of the mesh.

    ids: the texts of the load, by number (loaders/text_ids.py). Raises the MeshErrors of rockstore.
    """
    asyncio.run(_check(mesh, kinds, numbers, ids))


async def _check(mesh: Mesh, kinds: U8, numbers: U64, ids: Any) -> None:
    client = RockstoreClient(mesh)
    try:
        for start in range(0, len(numbers), AT_ONCE):
            some, of = numbers[start : start + AT_ONCE], kinds[start : start + AT_ONCE]
            known = await client.attributes(of, some, TIMEOUT_S, bare=True, external=True)
            there = np.flatnonzero([bool(text) for text in known.externals])
            own = ids.texts(some[there])
            for row, text in zip(there.tolist(), own, strict=True):
                if known.externals[row] != text:
                    raise collision(int(of[row]), int(some[row]), known.externals[row], text)
    finally:
        await client.close()


@contextmanager
def reading(data: Path) -> Iterator[Callable[[Any], Any]]:
    """Within it, sets are read with ids as the mesh on a data folder has them. Yields what puts the names of ids before a set,
    which leaves it as it is where ids are numbers.
    """
    try:
        mesh = meshes.load(meshes.mesh_file(data))
    except NotFound:  # which is said when the set is published
        mesh = None
    if mesh is None or not mesh.text_ids:
        yield lambda dataset: dataset
        return
    from loaders import text_ids
    from loaders.naming import with_names

    ids = text_ids.TextIds()

    def named(dataset: Any) -> Any:
        found, (kinds, numbers) = with_names(dataset, ids)
        check_names(mesh, kinds, numbers, ids)
        return found

    with text_ids.as_text(ids):
        yield named
