"""Interests and takedowns of pins by rockstore, for the threads that serve.

Rockstore is asked for pins that are not kept here. A kept answer is rockstore's as of this process' position in the log:
`services/state/changes.py` drops a pin as it changes, and says which answers may be kept. A read that must see a write takes
a kept answer only where all changes before that write have come here; else rockstore, which waits for the write, is asked.
"""

from typing import cast

from realpin.known import UNKNOWN, Known, joined, words_of
from rockstore.client import PIN, RockstoreClient
from services.core import context
from services.core.columns import U64
from services.core.errors import MeshError
from services.core.events import Action, flags
from services.log.protocol import Reader
from services.rpc.bridge import Bridge
from services.state.changes import Changes
from services.state.kept import Kept

A = Action
#: The actions that change interests or takedown of their pin.
RELEVANT = flags(A.CREATE_PIN, A.UPDATE_PIN, A.TAKEDOWN, A.JOIN_INTEREST, A.LEAVE_INTEREST)
#: Of the request's remaining time, the share that asking may take: the rest is for the answer without interests.
SHARE = 0.75
NO_REQUEST_S = 10.0  # where no request is being served, as in a replay
PLACE_BYTES = 190  # of a pin that is kept, besides its words: measured


class KeptPins:
    """The words of pins, as many as fit, and the log that drops them."""

    def __init__(self, log: Reader, partitions: int, max_bytes: int) -> None:
        """partitions: how many the deployment has, all of which `changes` is to follow."""
        self.words = Kept[int, bytes](max_bytes, lambda words: PLACE_BYTES + len(words))
        self.changes = Changes(log, partitions, RELEVANT, self.words)


class Interests:
    """Asks rockstore through a bridge. Thread-safe."""

    def __init__(self, bridge: Bridge, client: RockstoreClient, kept: KeptPins | None = None) -> None:
        """`client` lives on the bridge's loop: bridge.make(lambda: RockstoreClient(mesh)). kept: None keeps nothing."""
        self._bridge, self._client, self._kept = bridge, client, kept

    def __call__(self, pins: U64) -> Known:
        """Interests and takedowns of the pins, in their order; nothing of those for which rockstore could not be asked."""
        request, keys = context.current(), pins.tolist()
        words: list[bytes | None] = [None] * len(keys)
        if self._kept is not None and self._kept.changes.shows(request.token if request else b""):
            words = self._kept.words.get(keys)
        lost = None in words and not self._complete(pins, words)
        return Known(joined(cast(list[bytes], words)), lost)

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
        request, kept = context.current(), self._kept
        timeout = SHARE * request.remaining() if request else NO_REQUEST_S
        asking = self._client.attributes(PIN, pins, timeout, bare=True, reached=kept is not None)
        found = self._bridge.run(asking, timeout)
        words = words_of(found)
        if kept is not None:
            keys = pins.tolist()
            kept.changes.keep(
                pins,
                found.reached,
                lambda rows: kept.words.put([keys[row] for row in rows], [words[row] for row in rows]),
            )
        return words

    def close(self) -> None:
        """Close the client and the bridge."""
        self._bridge.run(self._client.close(), NO_REQUEST_S)
        self._bridge.close()
