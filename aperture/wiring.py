"""How aperture is built."""

from aperture import layout
from aperture.service import Aperture
from aperture.settings import Settings
from aperture.store import TOPICS, ApertureStore
from protos.aperture_pb2_grpc import add_ApertureServicer_to_server
from services.ops.wiring import Follows, Parts, Runtime


def build(settings: Settings, runtime: Runtime) -> Parts:
    """A shard of aperture and its freezer."""
    shard = runtime.open_shard(layout.FORMAT, layout.FAMILIES, settings)
    partitions = runtime.mesh.common.partitions
    store = ApertureStore(
        shard, runtime.partitions, partitions, runtime.clock, settings.recent_keys, settings.keep_days
    )
    freezer = store.freezer
    runtime.metrics.gauge("recent_keys", lambda: float(freezer.recent))
    runtime.metrics.gauge("frozen_days", lambda: float(freezer.frozen_days))
    return Parts(
        Aperture(store),
        add_ApertureServicer_to_server,
        Follows(store, runtime.open_reader(), TOPICS, runtime.partitions),
        background=(freezer,),
        step=freezer.step,
        families=layout.FAMILIES,
        check=layout.check,
        close=(shard.close,),
    )
