"""How rockstore is built."""

from protos.rockstore_pb2_grpc import add_RockstoreServicer_to_server
from rockstore import keys, layout
from rockstore.service import Rockstore
from rockstore.settings import Settings
from rockstore.store import TOPICS, RockstoreStore
from services.ops.wiring import Follows, Parts, Runtime


def build(settings: Settings, runtime: Runtime) -> Parts:
    """A shard of rockstore."""
    shard = runtime.open_shard(layout.FORMAT, layout.FAMILIES, settings)
    store = RockstoreStore(
        shard,
        runtime.partitions,
        runtime.mesh.common.partitions,
        runtime.blobs and keys.datasets_of(runtime.blobs),
        settings.versions_kept,
        settings.objects_mb,
    )
    return Parts(
        Rockstore(store),
        add_RockstoreServicer_to_server,
        Follows(store, runtime.open_reader(), TOPICS, runtime.partitions),
        families=layout.FAMILIES,
        check=layout.check,
        close=(shard.close,),
    )
