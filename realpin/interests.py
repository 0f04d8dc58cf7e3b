"""Interests and takedowns of pins by rockstore, for the threads that serve.

Rockstore is asked for pins that are not cached here. A cached answer is rockstore's as of this process' position in the log
(`services/state/change_feed.py`): a pin is dropped as it changes, and only sure answers are cached. A read that must see a
write takes a cached answer only where all changes before that write have come here; else rockstore, which waits for the
write, is asked.
"""

from itertools import compress
from typing import cast

from realpin.known import UNKNOWN, PinWords, joined, words_of
from rockstore.client import PIN, RockstoreClient
from services.core import context
from services.core.columns import U64, Array
from services.core.errors import MeshError
from services.core.events import Action, Batch, flags
from services.core.topics import Topic
from services.log.protocol import Reader
from services.rpc.bridge import Bridge
from services.state.change_feed import ChangeFeed
from services.state.feed_view import Changed, FeedView
from services.state.second_chance import SecondChanceCache

A = Action
#: The actions that change interests or takedown of their pin.
RELEVANT = flags(A.CREATE_PIN, A.UPDATE_PIN, A.TAKEDOWN, A.JOIN_INTEREST, A.LEAVE_INTEREST)
#: Of the request's remaining time, the share that asking may take: the rest is for the answer without interests.
SHARE = 0.75
NO_REQUEST_S = 10.0  # where no request is being served, as in a replay
PLACE_BYTES = 190  # of a pin that is cached, besides its words: measured


class CachedPins:
    """The words of pins, as many as fit, and the log that drops them."""

    def __init__(self, log: Reader, partitions: int, max_bytes: int) -> None:
        """partitions: how many the deployment has, all of which `view` is to follow."""
        self.words = SecondChanceCache[int, bytes](max_bytes, lambda words: PLACE_BYTES + len(words))
        self.feed = ChangeFeed(partitions)
        self.view = FeedView(self.feed, log, Topic.OBJECTS, _changed, self)

    def drop(self, keys: U64) -> None:
        """Forget these pins."""
        self.words.drop(keys.tolist())

    def clear(self) -> None:
        """Forget every pin."""
        self.words.clear()


def _changed(batch: Batch) -> Changed:
    return Changed(batch.pin[RELEVANT[batch.action]])


class Interests:
    """Asks rockstore through a bridge. Thread-safe."""

    def __init__(self, bridge: Bridge, client: RockstoreClient, cached: CachedPins | None = None) -> None:
        """`client` lives on the bridge's loop: bridge.make(lambda: RockstoreClient(mesh)). cached: None caches nothing."""
        self._bridge, self._client, self._cached = bridge, client, cached

    def __call__(self, pins: U64) -> PinWords:
        """Interests and takedowns of the pins, in their order; nothing of those for which rockstore could not be asked."""
        request, keys = context.current(), pins.tolist()
        words: list[bytes | None] = [None] * len(keys)
        if self._cached is not None and self._cached.view.shows(request.token if request else b""):
            words = self._cached.words.get(keys)
        lost = None in words and not self._complete(pins, words)
        return PinWords(joined(cast(list[bytes], words)), lost)

    def _complete(self, pins: U64, words: list[bytes | None]) -> bool:
        """Ask for the missing pins; False: in vain."""
        rows = [row for row, known in enumerate(words) if known is None]
        wanted = pins[rows]
        try:
            answered = self._ask(wanted)
        except MeshError:
            answered = None
        for row, known in zip(rows, [UNKNOWN] * len(rows) if answered is None else answered, strict=True):
            words[row] = known
        return answered is not None

    def _ask(self, pins: U64) -> list[bytes]:
        request, cached = context.current(), self._cached
        timeout = SHARE * request.remaining() if request else NO_REQUEST_S
        asking = self._client.attributes(PIN, pins, timeout, bare=True, reached=cached is not None)
        found = self._bridge.run(asking, timeout)
        words = words_of(found)
        if cached is not None:
            keys = pins.tolist()

            def put(sure: Array) -> None:
                cached.words.put(compress(keys, sure), compress(words, sure))

            cached.feed.fill(cached.feed.places(pins), found.position, put)
        return words

    def close(self) -> None:
        """Close the client and the bridge."""
        self._bridge.run(self._client.close(), NO_REQUEST_S)
        self._bridge.close()
