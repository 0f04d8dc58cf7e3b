"""The door of pixie: its settings, and the wiring."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, run_door, serve
from services.settings import ThreadedSettings


class Settings(ThreadedSettings, kw_only=True):
    """[pixie]"""

    restart: Annotated[float, Meta(gt=0, le=1, description="probability of going back to the query pin")] = 0.5
    stop_nodes: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="early stopping: end a query pin's walk once so many nodes ...")
    ] = 2_000
    stop_visits: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="... were visited so often; high values never stop early")
    ] = 4
    max_steps: Annotated[
        int, Meta(ge=1, le=100_000_000, description="most steps of a request; a core walks millions a second")
    ] = 10_000_000
    verify: Annotated[
        bool, Meta(description="read and check the whole snapshot at a start too; a push always does")
    ] = False


def main() -> None:
    """Wire and serve."""
    from pixie.service import Pixie, Walking
    from pixie.store import PixieStore
    from protos.pixie_pb2_grpc import add_PixieServicer_to_server
    from services.clock import wall_clock

    process = open_process("pixie")
    settings = process.settings(Settings)
    store = PixieStore(process.mesh.data / "graphs", wall_clock)
    store.load_current(settings.verify)
    for name, read in store.gauges().items():
        process.metrics.gauge(name, read)
    walking = Walking(settings.restart, settings.stop_nodes, settings.stop_visits, settings.max_steps)
    service = Pixie(store, walking)
    serve(process, settings, [lambda server: add_PixieServicer_to_server(service, server)])


if __name__ == "__main__":
    run_door(main)
