"""The names of ids: rockstore's titles, or nothing where it knows none or is away."""

import asyncio
from collections.abc import Iterable

import numpy as np

from rockstore.client import RockstoreClient
from services.core.columns import U64, ids
from services.core.errors import MeshError
from web.answers import Named, Titled
from web.ids import NUMBERS, Ids


class Names:
    """Titles of many objects, of several kinds in one call."""

    def __init__(self, objects: RockstoreClient, timeout: float, ids: Ids = NUMBERS) -> None:
        self._objects, self._timeout, self._ids = objects, timeout, ids
        self.lost = False  # whether some question went unanswered

    async def of(self, *wanted: tuple[int, U64]) -> list[list[str]]:
        """The titles of each (kind, ids), in order; empty where unknown. Never raises a MeshError."""
        return list(await asyncio.gather(*(self._titles(kind, of) for kind, of in wanted)))

    async def _titles(self, kind: int, of: U64) -> list[str]:
        if not len(of):
            return []
        distinct, each = np.unique(of, return_inverse=True)
        try:
            known = await self._objects.attributes(kind, distinct, self._timeout)
        except MeshError:
            self.lost = True
            return [""] * len(of)
        if known.externals:
            self._ids.learn(kind, distinct.tolist(), known.externals)
        return [known.titles[i] for i in each.tolist()]


def named(of: Iterable[str | None], names: list[str]) -> list[Named]:
    """Users or interests with their names; those without an id are left out."""
    return [Named(i, name) for i, name in zip(of, names, strict=True) if i is not None]


def titled(of: Iterable[str | None], titles: list[str]) -> list[Titled]:
    """Boards with their titles; those without an id are left out."""
    return [Titled(i, title) for i, title in zip(of, titles, strict=True) if i is not None]


def one(object_id: int) -> U64:
    """A single id as the clients take it."""
    return ids([object_id])
