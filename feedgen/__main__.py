"""The door of feedgen: its settings, the clients of every service it asks, and the feeds over them."""

from feedgen.choices import Choices
from services.process import open_process, run_door, serve_on_asyncio
from services.server import AddServicer


class Settings(Choices, kw_only=True):
    """[feedgen]"""


def main() -> None:
    """Wire and serve."""
    from features import requests
    from feedgen import kernel
    from feedgen.cursor import Cursors, secret_of
    from feedgen.feeds import Clients, feeds
    from feedgen.service import Feedgen
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
        service = Feedgen(feeds(clients, settings), wording, cursors, process.metrics, settings.timeout)
        return [lambda server: add_FeedgenServicer_to_server(service, server)]

    serve_on_asyncio(process, settings, wire)


if __name__ == "__main__":
    run_door(main)
