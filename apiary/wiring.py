"""How apiary is built."""

from apiary import layout
from apiary.service import Apiary, Weights
from apiary.settings import Settings
from apiary.store import TOPICS, ApiaryStore
from protos.apiary_pb2_grpc import add_ApiaryServicer_to_server
from services.ops.wiring import Follows, Parts, Runtime


def build(settings: Settings, runtime: Runtime) -> Parts:
    """A shard of apiary."""
    shard = runtime.open_shard(layout.FORMAT, layout.FAMILIES, settings)
    store = ApiaryStore(shard, runtime.partitions, runtime.mesh.common.partitions)
    weights = Weights(settings.direct_weight, settings.through_weight, settings.boards_per_user)
    return Parts(
        Apiary(store, weights),
        add_ApiaryServicer_to_server,
        Follows(store, runtime.open_reader(), TOPICS, runtime.partitions),
        families=layout.FAMILIES,
        check=layout.check,
        close=(shard.close,),
    )
