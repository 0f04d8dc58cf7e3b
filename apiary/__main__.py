"""The door of apiary: its settings, and the wiring of a shard."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, open_shard, run_door, serve
from services.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[apiary]"""

    direct_weight: Annotated[float, Meta(gt=0, le=100, description="weight of a board that is followed directly")] = 1.0
    through_weight: Annotated[float, Meta(gt=0, le=100, description="weight of a board of a followed user")] = 0.7
    boards_per_user: Annotated[int, Meta(ge=1, le=10_000, description="newest boards taken of a followed user")] = 100


def main() -> None:
    """Wire and serve."""
    from apiary import layout
    from apiary.service import Apiary, Weights
    from apiary.store import TOPICS, ApiaryStore
    from protos.apiary_pb2_grpc import add_ApiaryServicer_to_server
    from roadrunner.client import RoadrunnerLog
    from services.follower import Follower

    process = open_process("apiary")
    settings, partitions = process.settings(Settings), process.mesh.common.partitions
    shard = open_shard(process, layout.FORMAT, layout.FAMILIES, settings)
    store = ApiaryStore(shard, process.partitions, partitions)
    follower = Follower(RoadrunnerLog(process.mesh), store, TOPICS, process.partitions)
    service = Apiary(store, Weights(settings.direct_weight, settings.through_weight, settings.boards_per_user))
    servicers = [lambda server: add_ApiaryServicer_to_server(service, server)]
    serve(process, settings, servicers, follower, close=shard.close)


if __name__ == "__main__":
    run_door(main)
