"""The entry point of feedgen: the clients of every service it asks, and the feeds over them."""

from features import requests
from feedgen import kernel
from feedgen.cursor import Cursors, secret_of
from feedgen.feeds import Clients, feeds
from feedgen.hydrators.titles import PageTitles
from feedgen.service import Feedgen, Losing
from feedgen.sessions import Sessions
from feedgen.settings import Settings
from feedgen.titles import Titles
from feedgen.turns import Turns
from protos.feedgen_pb2_grpc import add_FeedgenServicer_to_server
from services.ops.process import open_process, run_entry_point, serve_on_asyncio
from services.rpc.server import AddServicer


def main() -> None:
    """Wire and serve."""
    process = open_process("feedgen")
    settings, mesh = process.settings(Settings), process.mesh
    requests.warm()
    kernel.warm()

    def wire() -> list[AddServicer]:
        clients = Clients.of(mesh)
        titles = PageTitles(Titles(clients.rockstore, settings.timeout))
        cursors = Cursors(secret_of(mesh.data))
        turns = Turns(settings.pages_at_once, settings.turn_ms / 1000, settings.pages_waiting, process.metrics)
        losing = Losing(settings.losers_pages, settings.losers)
        pipelines, sessions = feeds(clients, settings), Sessions(clients.smartfeed)
        service = Feedgen(pipelines, titles, cursors, turns, process.metrics, settings.timeout, sessions, losing)
        return [lambda server: add_FeedgenServicer_to_server(service, server)]

    serve_on_asyncio(process, settings, wire)


if __name__ == "__main__":
    run_entry_point(main)
