"""The door of rockstore: its settings, and the wiring of a shard."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, open_shard, run_door, serve
from services.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[rockstore]"""

    versions_kept: Annotated[
        int, Meta(ge=2, le=100, description="bulk loads of a dataset that are kept, to switch back to at once")
    ] = 3
    objects_mb: Annotated[
        int, Meta(ge=1, le=1_000_000, description="memory for the objects asked for most; about 500 bytes each")
    ] = 32


def main() -> None:
    """Wire and serve."""
    from protos.rockstore_pb2_grpc import add_RockstoreServicer_to_server
    from roadrunner.client import RoadrunnerLog
    from rockstore import layout
    from rockstore.service import Rockstore
    from rockstore.store import TOPICS, RockstoreStore
    from services.follower import Follower

    process = open_process("rockstore")
    settings, partitions = process.settings(Settings), process.mesh.common.partitions
    shard = open_shard(process, layout.FORMAT, layout.FAMILIES, settings)
    datasets = process.mesh.data / "datasets"
    kept = settings.versions_kept, settings.objects_mb
    store = RockstoreStore(shard, process.partitions, partitions, datasets, *kept)
    follower = Follower(RoadrunnerLog(process.mesh), store, TOPICS, process.partitions)
    service = Rockstore(store)
    servicers = [lambda server: add_RockstoreServicer_to_server(service, server)]
    serve(process, settings, servicers, follower, close=shard.close)


if __name__ == "__main__":
    run_door(main)
