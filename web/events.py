"""POST /v1/events: what users did, published as one batch or not at all; and takedowns of pins."""

import logging
import random

import numpy as np
from starlette.requests import Request

from roadrunner.client import Published, RoadrunnerClient
from rockstore.client import PIN, RockstoreClient
from services import tokens
from services.clock import Clock
from services.context import serving
from services.errors import InvalidArgument, MeshError
from services.events import AUDIT_FROM, Action, Batch, events
from web.answers import Accepted, Written
from web.body import read_body
from web.intake import as_stated, batch_of, parse
from web.questions import NoQuery
from web.wire import asked, object_id

logger = logging.getLogger(__name__)


class Events:
    """Translates between HTTP and the front door."""

    def __init__(
        self,
        door: RoadrunnerClient,
        objects: RockstoreClient,
        clock: Clock,
        max_body: int,
        timeout: float,
        quality_timeout: float,
    ) -> None:
        """`max_body` in bytes; `quality_timeout`: how long a save may wait for its pin's quality, in seconds."""
        self._door, self._objects, self._clock = door, objects, clock
        self._max_body, self._timeout, self._quality_timeout = max_body, timeout, quality_timeout

    async def post(self, request: Request) -> Accepted:
        """Publish the events of the body."""
        asked(request, NoQuery)
        with serving(self._timeout) as within:
            body = await read_body(request, self._max_body, within.remaining())
            batch = batch_of(parse(body), self._clock())
            published = await self._publish(await self._with_quality(batch))
        return Accepted(published.accepted, published.duplicates, tokens.to_text(published.token))

    async def take_down(self, request: Request) -> Written:
        """Take a pin down everywhere, also one that is on boards and has no attributes."""
        asked(request, NoQuery)
        pin = object_id(request.path_params["pin"], "pin")
        if pin >= AUDIT_FROM:
            raise InvalidArgument(f"pin = {pin} is not allowed: ids from {AUDIT_FROM} on are the mesh's own")
        takedown = events(1, action=Action.TAKEDOWN, pin=pin, at_ms=self._clock(), id=random.randrange(1, AUDIT_FROM))
        with serving(self._timeout):
            published = await self._publish(takedown)
        return Written(tokens.to_text(published.token))

    async def _publish(self, batch: Batch) -> Published:
        try:
            return await self._door.publish(batch, self._timeout)
        except InvalidArgument as error:
            raise as_stated(error) from None

    async def _with_quality(self, batch: Batch) -> Batch:
        """The batch with each save's pin's own quality where none is stated and it is known: a help, never a need."""
        rows = np.flatnonzero((batch.action == Action.SAVE) & np.isnan(batch.quality))
        if not len(rows):
            return batch
        pins, each = np.unique(batch.pin[rows], return_inverse=True)
        try:
            known = await self._objects.attributes(PIN, pins, self._quality_timeout)
        except MeshError as error:
            logger.info("saves go without quality: %s", error)
            return batch
        quality = batch.quality.copy()
        quality[rows] = known.quality[each]
        return batch.replace(quality=quality)
