"""How smartfeed is built."""

from protos.smartfeed_pb2_grpc import add_SmartfeedServicer_to_server
from services.ops.wiring import Follows, Parts, Runtime
from smartfeed import layout
from smartfeed.service import Smartfeed
from smartfeed.settings import Settings
from smartfeed.store import TOPICS, SmartfeedStore


def build(settings: Settings, runtime: Runtime) -> Parts:
    """A shard of smartfeed."""
    shard = runtime.open_shard(layout.FORMAT, layout.FAMILIES, settings)
    store = SmartfeedStore(shard, runtime.partitions, runtime.mesh.common.partitions, settings.max_pins)
    return Parts(
        Smartfeed(store),
        add_SmartfeedServicer_to_server,
        Follows(store, runtime.open_reader(), TOPICS, runtime.partitions),
        families=layout.FAMILIES,
        check=layout.check,
        close=(shard.close,),
    )
