"""The door of feedgen: its settings, the clients of every service it asks, and the feeds over them."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, run_door, serve_on_asyncio
from services.server import AddServicer
from services.settings import ServiceSettings


class Settings(ServiceSettings, kw_only=True):
    """[feedgen]"""

    boards: Annotated[int, Meta(ge=1, le=10_000, description="followed boards looked at for a page, best first")] = 500
    candidates: Annotated[int, Meta(ge=100, le=8_000, description="candidates that a source may bring")] = 1_000
    max_age_days: Annotated[int, Meta(ge=0, le=36_500, description="age of a save at most; 0: any")] = 0
    per_board: Annotated[int, Meta(ge=0, le=100, description="pins of one board on a page, while others last")] = 2
    per_owner: Annotated[int, Meta(ge=0, le=100, description="pins of one owner on a page, while others last")] = 3
    false_positive_rate: Annotated[float, Meta(ge=0.0001, le=0.5, description="of the filter of what was seen")] = 0.01
    deadline_ms: Annotated[int, Meta(ge=10, le=60_000, description="time for a page; then the last good feed")] = 1_000


def main() -> None:
    """Wire and serve."""
    from aperture.client import ApertureClient
    from apiary.client import ApiaryClient
    from feedgen.cursor import Cursors, secret_of
    from feedgen.feeds import Choices, Clients, feeds
    from feedgen.service import Feedgen
    from feedgen.wording import Wording
    from polaris.client import PolarisClient
    from protos.feedgen_pb2_grpc import add_FeedgenServicer_to_server
    from roadrunner.client import RoadrunnerClient
    from rockstore.client import RockstoreClient
    from services.clock import DAY_MS
    from smartfeed.client import SmartfeedClient

    process = open_process("feedgen")
    settings, mesh = process.settings(Settings), process.mesh
    deadline_s = settings.deadline_ms / 1000

    def wire() -> list[AddServicer]:
        clients = Clients(
            ApiaryClient(mesh), PolarisClient(mesh), ApertureClient(mesh), SmartfeedClient(mesh), RoadrunnerClient(mesh)
        )
        choices = Choices(
            boards=settings.boards,
            candidates=settings.candidates,
            max_age_ms=settings.max_age_days * DAY_MS,
            per_board=settings.per_board,
            per_owner=settings.per_owner,
            false_positive_rate=settings.false_positive_rate,
            timeout=deadline_s,
        )
        wording = Wording(RockstoreClient(mesh), deadline_s)
        cursors = Cursors(secret_of(mesh.data))
        service = Feedgen(feeds(clients, choices), wording, cursors, process.metrics, deadline_s)
        return [lambda server: add_FeedgenServicer_to_server(service, server)]

    serve_on_asyncio(process, settings, wire)


if __name__ == "__main__":
    run_door(main)
