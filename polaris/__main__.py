"""The door of polaris: its settings, and the wiring of a shard."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, open_shard, run_door, serve
from services.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[polaris]"""

    quality_coefficient: Annotated[
        float, Meta(ge=0, le=1_000, description="light score of a pin of quality 1 over one of quality 0")
    ] = 2.0
    freshness_days: Annotated[
        float, Meta(gt=0, le=36_500, description="days of age that cost a pin 1 of light score")
    ] = 90.0
    default_quality: Annotated[float, Meta(ge=0, le=1, description="quality of a pin whose quality was not stated")] = (
        0.5
    )
    head_postings: Annotated[
        int, Meta(ge=1, le=100_000, description="changes to a list before they are merged into its frozen part")
    ] = 64
    cap: Annotated[int, Meta(ge=1, le=1_000_000, description="best postings kept of a list when it is frozen")] = 4096
    lists_mb: Annotated[
        int,
        Meta(ge=1, le=1 << 20, description="memory for lists merged and ready; those that are asked for again stay"),
    ] = 64


def main() -> None:
    """Wire and serve."""
    from polaris import layout
    from polaris.kernel import Light
    from polaris.service import Polaris
    from polaris.store import TOPICS, Limits, PolarisStore
    from protos.polaris_pb2_grpc import add_PolarisServicer_to_server
    from roadrunner.client import RoadrunnerLog
    from services.clock import DAY_MS
    from services.follower import Follower

    process = open_process("polaris")
    settings, partitions = process.settings(Settings), process.mesh.common.partitions
    shard = open_shard(process, layout.FORMAT, layout.FAMILIES, settings)
    light = Light(settings.quality_coefficient, settings.freshness_days * DAY_MS, settings.default_quality)
    store = PolarisStore(
        shard, partitions, light, Limits(settings.head_postings, settings.cap, settings.lists_mb << 20)
    )
    store.warm()
    process.metrics.gauge("lists", lambda: float(len(store.cache)))
    process.metrics.gauge("lists_bytes", lambda: float(store.cache.bytes()))
    process.metrics.gauge("lists_asked", lambda: float(store.cache.asked))
    process.metrics.gauge("lists_missed", lambda: float(store.cache.missed))
    follower = Follower(RoadrunnerLog(process.mesh), store, TOPICS, process.partitions)
    service = Polaris(store)
    servicers = [lambda server: add_PolarisServicer_to_server(service, server)]
    serve(process, settings, servicers, follower, close=shard.close)


if __name__ == "__main__":
    run_door(main)
