"""GET /v1/pins/{pin}: one pin, as rockstore has it."""

import math

from starlette.requests import Request

from rockstore.client import INTEREST, PIN, RockstoreClient
from services import tokens
from services.context import serving
from services.errors import NotFound
from web.answers import Pin
from web.names import Names, named, one
from web.questions import ReadQuery
from web.wire import asked, object_id


class Pins:
    """Asks rockstore."""

    def __init__(self, objects: RockstoreClient, timeout: float) -> None:
        self._objects, self._timeout = objects, timeout

    async def get(self, request: Request) -> Pin:
        """One pin."""
        pin = object_id(request.path_params["pin"], "pin")
        query = asked(request, ReadQuery)
        with serving(self._timeout, tokens.of_text(query.token)):
            known = await self._objects.attributes(PIN, one(pin), self._timeout)
            if not known.found[0]:
                raise NotFound(f"pin {pin}: nothing is known of it")
            interests = known.interests.run(0)
            names = await Names(self._objects, self._timeout).of((INTEREST, interests))
        quality = float(known.quality[0])
        return Pin(
            pin=str(pin),
            title=known.titles[0],
            link=known.links[0],
            interests=named(interests, names[0]),
            quality=None if math.isnan(quality) else round(quality, 6),
            created_ms=int(known.at_ms[0]),
            taken_down=bool(known.taken_down[0]),
        )
