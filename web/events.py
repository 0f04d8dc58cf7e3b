"""POST /v1/events: actions of users, published as one batch or not at all; and takedowns of pins."""

import random
from dataclasses import replace

from msgspec import UNSET
from starlette.requests import Request

from roadrunner.client import PublishAnswer, RoadrunnerClient
from services.core import tokens
from services.core.clock import Clock
from services.core.context import serving
from services.core.errors import InvalidArgument
from services.core.events import RESERVED_FROM, Action, Batch, events
from web.answers import Accepted, Written
from web.body import Bodies
from web.ids import NUMBERS, Ids, ids_of
from web.intake import Decoders, as_stated, batch_of, parse
from web.questions import NoQuery
from web.wire import asked


class Events:
    """Translates between HTTP and the ingest API."""

    def __init__(
        self,
        roadrunner: RoadrunnerClient,
        clock: Clock,
        bodies: Bodies,
        timeout: float,
        ids: Ids = NUMBERS,
    ) -> None:
        self._roadrunner, self._clock, self._bodies, self._timeout = roadrunner, clock, bodies, timeout
        self._ids, self._decoders = ids, Decoders(ids.read)

    async def post(self, request: Request) -> Accepted:
        """Publish the events of the body."""
        asked(request, NoQuery)
        with serving(self._timeout) as within:
            async with self._bodies.read(request, within.remaining()) as body:
                given = parse(body, self._decoders)
                batch = batch_of(given, self._clock())
                names = await self._ids.naming(batch, ids_of(given))
                published = await self._publish(batch, names)
        known = UNSET if published.duplicates is None else published.duplicates
        return Accepted(accepted=published.accepted, duplicates=known, token=tokens.to_text(published.token))

    async def take_down(self, request: Request) -> Written:
        """Take a pin down everywhere, also one that is on boards and has no attributes."""
        asked(request, NoQuery)
        pin = self._ids.object_id(request.path_params["pin"], "pin")
        takedown = events(
            1, action=Action.TAKEDOWN, pin=pin, at_ms=self._clock(), id=random.randrange(1, RESERVED_FROM)
        )
        with serving(self._timeout):
            published = await self._publish(takedown, await self._ids.naming(takedown, [pin]))
        return Written(tokens.to_text(published.token))

    async def _publish(self, batch: Batch, names: list[Batch]) -> PublishAnswer:
        """The batch, and what names its ids: after it, so that a refusal counts rows as the request does."""
        try:
            for part in names[1:]:
                await self._roadrunner.publish(part, self._timeout)
            if not names:
                return await self._roadrunner.publish(batch, self._timeout)
            published = await self._roadrunner.publish(Batch.concat([batch, names[0]]), self._timeout)
        except InvalidArgument as error:
            raise as_stated(error) from None
        return replace(published, accepted=published.accepted - len(names[0]))
