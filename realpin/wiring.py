"""How realpin is built."""

from protos.realpin_pb2_grpc import add_RealpinServicer_to_server
from realpin import layout
from realpin.interests import CachedPins, Interests
from realpin.service import Realpin
from realpin.settings import Settings
from realpin.signals import decay_of
from realpin.store import TOPICS, RealpinStore
from rockstore.client import RockstoreClient
from services.core.topics import Topic
from services.ops.wiring import Follows, Parts, Runtime
from services.rpc.bridge import Bridge


def build(settings: Settings, runtime: Runtime) -> Parts:
    """A shard of realpin, with its cache of pins."""
    shard, partitions = runtime.open_shard(layout.FORMAT, layout.FAMILIES, settings), runtime.mesh.common.partitions
    store = RealpinStore(shard, partitions, runtime.clock, settings.actions_kept, settings.impression_weight != 0)
    log, bridge = runtime.open_reader(), Bridge()
    cached = CachedPins(log, partitions, settings.pins_mb << 20)
    interests = Interests(bridge, bridge.make(lambda: RockstoreClient(runtime.mesh)), cached)
    return Parts(
        Realpin(store, decay_of(settings), interests, settings.pins_looked_at),
        add_RealpinServicer_to_server,
        Follows(store, runtime.open_reader(), TOPICS, runtime.partitions),
        caches=(Follows(cached.view, log, (Topic.OBJECTS,), range(partitions)),),  # a user's pins are in any partition
        families=layout.FAMILIES,
        check=layout.check,
        close=(interests.close, shard.close),
    )
