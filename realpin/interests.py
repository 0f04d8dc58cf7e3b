"""What rockstore knows of pins, asked from the threads that serve: their interests, and which were taken down.

Asked when signals are read and not kept here, so there is one copy of it, and an interest that a pin joins later
counts for what was done to the pin before.
"""

from rockstore.client import PIN, Attributes, RockstoreClient
from services import context
from services.bridge import Bridge
from services.columns import U64

#: Of what is left of the request's time, how much asking may take: the rest is for the answer without interests.
SHARE = 0.75
NO_REQUEST_S = 10.0  # where no request is being served, as in a replay


class Interests:
    """Asks rockstore through a bridge."""

    def __init__(self, bridge: Bridge, client: RockstoreClient) -> None:
        """`client` lives on the bridge's loop: bridge.make(lambda: RockstoreClient(mesh))."""
        self._bridge, self._client = bridge, client

    def __call__(self, pins: U64) -> Attributes:
        """What is known of the pins, in their order. Raises the MeshError of a rockstore that does not answer."""
        request = context.current()
        timeout = SHARE * request.remaining() if request else NO_REQUEST_S
        return self._bridge.run(self._client.attributes(PIN, pins, timeout, bare=True), timeout)

    def close(self) -> None:
        """Close the client and the bridge."""
        self._bridge.run(self._client.close(), NO_REQUEST_S)
        self._bridge.close()
