"""How counters is built."""

from counters import layout
from counters.service import Counters
from counters.settings import Settings
from counters.store import TOPICS, CountersStore
from protos.counters_pb2_grpc import add_CountersServicer_to_server
from services.core.helpers import Helpers, cores
from services.ops.wiring import Follows, Parts, Runtime


def build(settings: Settings, runtime: Runtime) -> Parts:
    """A shard of counters."""
    shard = runtime.open_shard(layout.FORMAT, layout.FAMILIES, settings)
    partitions = runtime.mesh.common.partitions
    helpers = Helpers(settings.request_threads or cores())
    store = CountersStore(shard, runtime.partitions, partitions, runtime.clock, settings.recent, helpers)
    runtime.metrics.gauge("objects", lambda: float(store.objects()))
    runtime.metrics.gauge("table_bytes", lambda: float(store.memory_bytes()))
    return Parts(
        Counters(store),
        add_CountersServicer_to_server,
        Follows(store, runtime.open_reader(), TOPICS, runtime.partitions),
        families=layout.FAMILIES,
        check=layout.check,
        close=(helpers.close, shard.close),
    )
