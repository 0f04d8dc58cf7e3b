"""POST /v1/models/{name}/{version}/promotion and /v1/models/rollback: which model ranks the feeds, from the page.

The registry is scorpion's, in the data folder; its refusals are passed on in its words, and nothing changes.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from starlette.requests import Request

from rockstore.client import RockstoreClient
from scorpion.client import ScorpionClient
from services.core.context import serving
from services.core.errors import MeshError
from web.answers import Promotion
from web.models import model_of
from web.questions import NoQuery, PromotionQuery
from web.wire import asked


class Promotions:
    """Changes the registry of `data` through scorpion's client."""

    def __init__(self, scorpion: ScorpionClient, objects: RockstoreClient, data: Path, timeout: float) -> None:
        """`timeout`: seconds for each question that a promotion asks: of rockstore's datasets, and of every shard."""
        self._scorpion, self._objects, self._data, self._timeout = scorpion, objects, data, timeout

    async def promote(self, request: Request) -> Promotion:
        """Serve a version from now on."""
        query = asked(request, PromotionQuery)
        name = "{}@{}".format(*model_of(request))
        with serving(self._timeout):
            datasets = await self._datasets()
            promoted = await self._scorpion.promote(self._data, name, datasets, query.force, self._timeout)
        return Promotion(promoted)

    async def rollback(self, request: Request) -> Promotion:
        """Serve the version again that was served before."""
        asked(request, NoQuery)
        with serving(self._timeout):
            return Promotion(await self._scorpion.rollback(self._data, await self._datasets(), self._timeout))

    async def _datasets(self) -> Mapping[str, Collection[str]] | None:
        """The columns of rockstore's datasets; None when it can't be asked: then they are not checked."""
        try:
            return {dataset.name: list(dataset.columns) for dataset in await self._objects.datasets(self._timeout)}
        except MeshError:
            return None
