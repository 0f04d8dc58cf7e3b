"""The door of realpin: its settings, and the wiring of a shard."""

from typing import Annotated

from msgspec import Meta

from services.process import open_process, open_shard, run_door, serve
from services.settings import ShardSettings

Days = Annotated[float, Meta(ge=0.001, le=36_500)]
Weight = Annotated[float, Meta(ge=0, le=1000)]


class Settings(ShardSettings, kw_only=True):
    """[realpin]"""

    impression_weight: Annotated[
        float, Meta(ge=-1000, le=1000, description="weight of an impression; 0: counted only, takes no room of actions")
    ] = 0.0
    closeup_weight: Annotated[Weight, Meta(description="weight of a closeup")] = 1.0
    click_weight: Annotated[Weight, Meta(description="weight of a click")] = 2.0
    save_weight: Annotated[Weight, Meta(description="weight of a save")] = 4.0
    hide_weight: Annotated[
        float, Meta(ge=-1000, le=0, description="weight of a hide, against the interests of the pin")
    ] = -8.0
    impression_half_life_days: Annotated[Days, Meta(description="days in which an impression fades to half")] = 1.0
    closeup_half_life_days: Annotated[Days, Meta(description="days in which a closeup fades to half")] = 3.0
    click_half_life_days: Annotated[Days, Meta(description="days in which a click fades to half")] = 7.0
    save_half_life_days: Annotated[Days, Meta(description="days in which a save fades to half")] = 30.0
    hide_half_life_days: Annotated[Days, Meta(description="days in which a hide fades to half")] = 90.0
    actions_kept: Annotated[
        int, Meta(ge=1, le=10_000, description="newest actions kept of a user; of hides as many besides")
    ] = 500
    pins_looked_at: Annotated[
        int, Meta(ge=1, le=1000, description="pins of greatest weight whose interests count in a request")
    ] = 200
    pins_mb: Annotated[
        int, Meta(ge=1, le=1_000_000, description="memory for what rockstore said of pins; about 220 bytes a pin")
    ] = 32


def main() -> None:
    """Wire and serve."""
    from protos.realpin_pb2_grpc import add_RealpinServicer_to_server
    from realpin import layout
    from realpin.interests import Interests, KeptPins
    from realpin.service import Realpin
    from realpin.signals import decay_of
    from realpin.store import TOPICS, RealpinStore
    from roadrunner.client import RoadrunnerLog
    from rockstore.client import RockstoreClient
    from services.bridge import Bridge
    from services.clock import wall_clock
    from services.follower import Follower
    from services.topics import Topic

    process = open_process("realpin")
    settings, partitions = process.settings(Settings), process.mesh.common.partitions
    shard = open_shard(process, layout.FORMAT, layout.FAMILIES, settings)
    impressions = settings.impression_weight != 0
    store = RealpinStore(shard, partitions, wall_clock, settings.actions_kept, impressions)
    follower = Follower(RoadrunnerLog(process.mesh), store, TOPICS, process.partitions)
    log, bridge = RoadrunnerLog(process.mesh), Bridge()
    kept = KeptPins(log, partitions, settings.pins_mb << 20)
    changes = Follower(log, kept.changes, (Topic.OBJECTS,), range(partitions))  # a user's pins are in any partition
    changes.start()
    interests = Interests(bridge, bridge.make(lambda: RockstoreClient(process.mesh)), kept)
    service = Realpin(store, decay_of(settings), interests, settings.pins_looked_at)
    servicers = [lambda server: add_RealpinServicer_to_server(service, server)]

    def close() -> None:
        changes.stop()
        interests.close()
        shard.close()

    serve(process, settings, servicers, follower, close=close)


if __name__ == "__main__":
    run_door(main)
