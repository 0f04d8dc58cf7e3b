"""GET /v1/pins/{pin}: one pin, as rockstore has it."""

import math

from starlette.requests import Request

from rockstore.client import INTEREST, PIN, RockstoreClient
from services.core import tokens
from services.core.context import serving
from services.core.errors import NotFound
from services.core.external import collision
from web.answers import Pin
from web.ids import NUMBERS, Ids
from web.names import Names, named, one
from web.questions import ReadQuery
from web.wire import asked


class PinReader:
    """Asks rockstore."""

    def __init__(self, objects: RockstoreClient, timeout: float, ids: Ids = NUMBERS) -> None:
        self._objects, self._timeout, self._ids = objects, timeout, ids

    async def get(self, request: Request) -> Pin:
        """One pin."""
        pin = self._ids.object_id(request.path_params["pin"], "pin")
        query = asked(request, ReadQuery)
        with serving(self._timeout, tokens.of_text(query.token)):
            known = await self._objects.attributes(PIN, one(pin), self._timeout)
            text: str = getattr(pin, "text", str(pin))
            if known.externals and known.externals[0] not in ("", text):
                raise collision(PIN, pin, known.externals[0], text)
            self._ids.learn(PIN, [pin], known.externals or ("",))
            if not known.found[0]:
                raise NotFound(f"pin {text}: nothing is known of it")
            interests = known.interests.run(0)
            [names] = await Names(self._objects, self._timeout, self._ids).of((INTEREST, interests))
            [texts] = await self._ids.spelled((INTEREST, interests))
        quality = float(known.quality[0])
        return Pin(
            pin=text,
            title=known.titles[0],
            link=known.links[0],
            interests=named(texts, names),
            quality=None if math.isnan(quality) else round(quality, 6),
            created_ms=int(known.at_ms[0]),
            taken_down=bool(known.taken_down[0]),
        )
