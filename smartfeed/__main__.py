"""The door of smartfeed: its settings, and the wiring of a shard."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, open_shard, run_door, serve
from services.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[smartfeed]"""

    max_pins: Annotated[int, Meta(ge=1, le=10_000, description="pins that are kept of a list that was served")] = 250


def main() -> None:
    """Wire and serve."""
    from protos.smartfeed_pb2_grpc import add_SmartfeedServicer_to_server
    from roadrunner.client import RoadrunnerLog
    from services.follower import Follower
    from smartfeed import layout
    from smartfeed.service import Smartfeed
    from smartfeed.store import TOPICS, SmartfeedStore

    process = open_process("smartfeed")
    settings, partitions = process.settings(Settings), process.mesh.common.partitions
    shard = open_shard(process, layout.FORMAT, layout.FAMILIES, settings)
    store = SmartfeedStore(shard, process.partitions, partitions, settings.max_pins)
    follower = Follower(RoadrunnerLog(process.mesh), store, TOPICS, process.partitions)
    service = Smartfeed(store)
    servicers = [lambda server: add_SmartfeedServicer_to_server(service, server)]
    serve(process, settings, servicers, follower, close=shard.close)


if __name__ == "__main__":
    run_door(main)
