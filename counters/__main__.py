"""The door of counters: its settings, and the wiring of a shard."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, open_shard, run_door, serve
from services.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[counters]"""

    recent: Annotated[
        int, Meta(ge=1, le=100_000, description="candidates of Top by the last 7 days, of each kind and action")
    ] = 4_000


def main() -> None:
    """Wire and serve."""
    from counters import layout, table
    from counters.service import Counters
    from counters.store import TOPICS, CountersStore
    from protos.counters_pb2_grpc import add_CountersServicer_to_server
    from roadrunner.client import RoadrunnerLog
    from services.clock import wall_clock
    from services.follower import Follower

    process = open_process("counters")
    settings, partitions = process.settings(Settings), process.mesh.common.partitions
    table.warm()
    shard = open_shard(process, layout.FORMAT, layout.FAMILIES, settings)
    store = CountersStore(shard, process.partitions, partitions, wall_clock, settings.recent)
    process.metrics.gauge("objects", lambda: float(store.objects()))
    process.metrics.gauge("table_bytes", lambda: float(store.memory_bytes()))
    follower = Follower(RoadrunnerLog(process.mesh), store, TOPICS, process.partitions)
    servicers = [lambda server: add_CountersServicer_to_server(Counters(store), server)]
    serve(process, settings, servicers, follower, close=shard.close)


if __name__ == "__main__":
    run_door(main)
