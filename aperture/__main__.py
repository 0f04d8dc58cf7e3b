"""The door of aperture: its settings, and the wiring of a shard and its freezer."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, open_shard, run_door, serve
from services.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[aperture]"""

    recent_keys: Annotated[
        int, Meta(ge=1, le=100_000, description="recent keys of a user and day that are frozen before the day ends")
    ] = 64
    keep_days: Annotated[int, Meta(ge=0, le=36_500, description="days that history is kept; 0: for ever")] = 0


def main() -> None:
    """Wire and serve."""
    from aperture import kernel, layout
    from aperture.service import Aperture
    from aperture.store import TOPICS, ApertureStore
    from protos.aperture_pb2_grpc import add_ApertureServicer_to_server
    from roadrunner.client import RoadrunnerLog
    from services import bloom
    from services.clock import wall_clock
    from services.columns import ids
    from services.follower import Follower

    process = open_process("aperture")
    settings, partitions = process.settings(Settings), process.mesh.common.partitions
    layout.warm()
    bloom.build(kernel.distinct(ids([1])))
    shard = open_shard(process, layout.FORMAT, layout.FAMILIES, settings)
    store = ApertureStore(shard, process.partitions, partitions, wall_clock, settings.recent_keys, settings.keep_days)
    freezer = store.freezer
    process.metrics.gauge("recent_keys", lambda: float(freezer.recent))
    process.metrics.gauge("frozen_days", lambda: float(freezer.frozen_days))
    follower = Follower(RoadrunnerLog(process.mesh), store, TOPICS, process.partitions)
    service = Aperture(store)
    servicers = [lambda server: add_ApertureServicer_to_server(service, server)]

    def close() -> None:
        freezer.stop()
        shard.close()

    freezer.start()
    serve(process, settings, servicers, follower, close=close)


if __name__ == "__main__":
    run_door(main)
