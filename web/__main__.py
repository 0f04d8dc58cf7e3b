"""The door of web: its settings, the clients of what it asks, and the HTTP edge over them."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, run_door
from services.settings import Port, ServiceSettings


class Settings(ServiceSettings, kw_only=True):
    """[web]"""

    http_port: Annotated[Port, Meta(description="where pages and JSON are; 0: any free port")] = 8080
    max_body_mb: Annotated[int, Meta(ge=1, le=64, description="size of a request's body at most")] = 8
    feed_timeout_s: Annotated[
        float, Meta(ge=0.05, le=60, description="time for a feed, waiting for its token included")
    ] = 3.0
    event_timeout_s: Annotated[
        float, Meta(ge=0.05, le=60, description="time for events, reading their body included")
    ] = 10.0
    read_timeout_s: Annotated[
        float, Meta(ge=0.05, le=60, description="time for a user, a list of users, a pin, or the models")
    ] = 2.0
    quality_timeout_s: Annotated[
        float, Meta(ge=0.001, le=5, description="time a save may wait for its pin's quality; then it goes without")
    ] = 0.1


def main() -> None:
    """Wire and serve."""
    import uvloop

    from web.app import Law, application
    from web.serving import serve
    from web.wiring import Clients, operations_of, status_of

    process = open_process("web")
    settings = process.settings(Settings)
    address = next(p for p in process.mesh.of("web") if p.shard == process.shard)

    async def run() -> None:
        status, clients = status_of(process), Clients(process.mesh)
        try:
            app = application(
                operations_of(clients, settings, status, address), Law(process.metrics, settings.max_requests)
            )
            await serve(process, settings, status, app, address.http)
        finally:
            await clients.close()

    uvloop.run(run())


if __name__ == "__main__":
    run_door(main)
