"""How polaris is built."""

from polaris import layout
from polaris.kernel import Light
from polaris.service import Polaris
from polaris.settings import Settings
from polaris.store import TOPICS, Limits, PolarisStore
from protos.polaris_pb2_grpc import add_PolarisServicer_to_server
from services.core.clock import DAY_MS
from services.ops.wiring import Follows, Parts, Runtime


def build(settings: Settings, runtime: Runtime) -> Parts:
    """A shard of polaris."""
    shard = runtime.open_shard(layout.FORMAT, layout.FAMILIES, settings)
    light = Light(settings.quality_coefficient, settings.freshness_days * DAY_MS, settings.default_quality)
    limits = Limits(settings.head_postings, settings.cap, settings.lists_mb << 20)
    store = PolarisStore(shard, runtime.mesh.common.partitions, light, limits)
    runtime.metrics.gauge("lists", lambda: float(len(store.cache)))
    runtime.metrics.gauge("lists_bytes", lambda: float(store.cache.bytes()))
    runtime.metrics.gauge("lists_asked", lambda: float(store.cache.asked))
    runtime.metrics.gauge("lists_missed", lambda: float(store.cache.missed))
    return Parts(
        Polaris(store),
        add_PolarisServicer_to_server,
        Follows(store, runtime.open_reader(), TOPICS, runtime.partitions),
        families=layout.FAMILIES,
        check=layout.check,
        close=(shard.close,),
    )
