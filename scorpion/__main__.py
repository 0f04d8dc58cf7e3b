"""The door of scorpion: its settings, and the wiring of a shard."""

from functools import partial
from typing import Annotated

from msgspec import Meta

from services.process import open_process, run_door, serve
from services.settings import ShardedSettings


class Settings(ShardedSettings, kw_only=True):
    """[scorpion]"""

    threads: Annotated[int, Meta(ge=1, le=256, description="threads that serve requests")] = 12
    cache_mb: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="cache of pins' facts of a shard; 220 bytes a pin, 64 more by 16 columns"),
    ] = 64
    counts_ttl_s: Annotated[
        float, Meta(ge=0, le=86_400, description="seconds that counts of a cached pin are good; 0: asked every time")
    ] = 60.0


def main() -> None:
    """Wire and serve."""
    from features import matrix
    from protos.scorpion_pb2_grpc import add_ScorpionServicer_to_server
    from roadrunner.client import RoadrunnerLog
    from scorpion import cache, kernel
    from scorpion.changes import TOPICS, Changes
    from scorpion.facts import Facts
    from scorpion.models import Models
    from scorpion.origin import MeshOrigin
    from scorpion.renewal import Renewal
    from scorpion.service import Scorpion
    from services.bridge import Bridge
    from services.follower import Follower

    process = open_process("scorpion")
    kernel.warm()
    cache.warm()
    matrix.warm()
    settings, bridge = process.settings(Settings), Bridge()
    origin = MeshOrigin(bridge, process.mesh)
    waiting = max(1, settings.threads * 3 // 4)  # the other threads are for requests of which all is cached
    facts = Facts(origin, settings.cache_mb << 20, int(settings.counts_ttl_s * 1000), waiting=waiting)
    models = Models(process.mesh.data, origin.known_datasets, facts.widen)
    models.start()
    renewal = Renewal(facts, settings.counts_ttl_s)
    renewal.start()
    log = RoadrunnerLog(process.mesh)
    follower = Follower(log, Changes(facts, log), TOPICS, process.partitions)
    service = Scorpion(models, facts)
    for name in service.gauges():
        process.metrics.gauge(name, partial(service.gauge, name))
    servicers = [lambda server: add_ScorpionServicer_to_server(service, server)]

    def close() -> None:
        models.stop()
        renewal.stop()
        origin.close()
        bridge.close()

    serve(process, settings, servicers, follower, close=close)


if __name__ == "__main__":
    run_door(main)
