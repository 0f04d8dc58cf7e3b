"""The door of feedgen: its settings, the clients of every service it asks, and the feeds over them."""

from typing import Annotated

from msgspec import Meta

from feedgen.choices import Choices
from services.process import open_process, run_door, serve_on_asyncio
from services.server import AddServicer


class Settings(Choices, kw_only=True):
    """[feedgen]"""

    pages_at_once: Annotated[
        int, Meta(ge=1, le=10_000, description="pages in the making at most; those who wait begin together")
    ] = 8
    turn_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="after this a page in the making holds up no other, slow as it may be")
    ] = 100
    pages_waiting: Annotated[
        int, Meta(ge=0, le=10_000, description="readers who wait for a turn; who comes then gets the last good page")
    ] = 32


def main() -> None:
    """Wire and serve."""
    from features import requests
    from feedgen import kernel
    from feedgen.cursor import Cursors, secret_of
    from feedgen.feeds import Clients, feeds
    from feedgen.service import Feedgen
    from feedgen.turns import Turns
    from feedgen.wording import Wording
    from protos.feedgen_pb2_grpc import add_FeedgenServicer_to_server

    process = open_process("feedgen")
    settings, mesh = process.settings(Settings), process.mesh
    requests.warm()
    kernel.warm()

    def wire() -> list[AddServicer]:
        clients = Clients.of(mesh)
        wording = Wording(clients.rockstore, settings.timeout)
        cursors = Cursors(secret_of(mesh.data))
        turns = Turns(settings.pages_at_once, settings.turn_ms / 1000, settings.pages_waiting, process.metrics)
        service = Feedgen(feeds(clients, settings), wording, cursors, turns, process.metrics, settings.timeout)
        return [lambda server: add_FeedgenServicer_to_server(service, server)]

    serve_on_asyncio(process, settings, wire)


if __name__ == "__main__":
    run_door(main)
