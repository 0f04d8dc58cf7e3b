"""How feedgen is built."""

from features import requests
from feedgen import kernel
from feedgen.cursor import Cursors, secret_of
from feedgen.feeds import Clients, feeds
from feedgen.hydrators.titles import PageTitles
from feedgen.page_limiter import PageLimiter
from feedgen.service import Feedgen, Losing
from feedgen.sessions import Sessions
from feedgen.settings import Settings
from feedgen.titles import Titles
from protos.feedgen_pb2_grpc import add_FeedgenServicer_to_server
from services.core.metrics import Metrics
from services.ops.wiring import AsyncParts, Runtime


def build(settings: Settings, runtime: Runtime) -> AsyncParts:
    """Feedgen, over the clients of every service that it asks. To be called on the event loop that serves it."""
    requests.warm()
    kernel.warm()
    cursors = Cursors(secret_of(runtime.mesh))
    servicer = servicer_of(settings, Clients.of(runtime.mesh), cursors, runtime.metrics)
    return AsyncParts(servicer, add_FeedgenServicer_to_server)


def servicer_of(settings: Settings, clients: Clients, cursors: Cursors, metrics: Metrics) -> Feedgen:
    """The servicer over these clients."""
    return Feedgen(
        feeds(clients, settings),
        PageTitles(Titles(clients.rockstore, settings.timeout)),
        cursors,
        PageLimiter(settings.pages_at_once, settings.slot_ms / 1000, settings.pages_waiting, metrics),
        metrics,
        settings.timeout,
        Sessions(clients.smartfeed),
        Losing(settings.losers_pages, settings.losers),
    )
