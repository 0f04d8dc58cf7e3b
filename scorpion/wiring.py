"""How scorpion is built."""

from functools import partial

from protos.scorpion_pb2_grpc import add_ScorpionServicer_to_server
from scorpion.changes import TOPICS, pin_changes
from scorpion.models import Models
from scorpion.origin import MeshOrigin
from scorpion.pin_features import PinFeatureLoader
from scorpion.renewal import Renewal
from scorpion.service import Scorpion
from scorpion.settings import Settings
from services.ops.wiring import Follows, Parts, Runtime
from services.rpc.bridge import Bridge
from services.state.change_feed import ChangeFeed


def build(settings: Settings, runtime: Runtime) -> Parts:
    """A shard of scorpion: the models, and the cache of pins that it ranks."""
    bridge = Bridge()
    origin = MeshOrigin(bridge, runtime.mesh)
    waiting = max(1, settings.threads * 3 // 4)  # the other threads are for requests of which all is cached
    ttl_ms = int(settings.counts_ttl_s * 1000)
    feed = ChangeFeed(runtime.mesh.common.partitions)
    loader = PinFeatureLoader(origin, feed, settings.cache_mb << 20, ttl_ms, runtime.clock, waiting=waiting)
    models = Models(runtime.mesh.data, origin.known_datasets, loader.widen)
    log = runtime.open_reader()
    service = Scorpion(models, loader, runtime.clock)
    for name in service.gauges():
        runtime.metrics.gauge(name, partial(service.gauge, name))
    return Parts(
        service,
        add_ScorpionServicer_to_server,
        Follows(pin_changes(loader, feed, log), log, TOPICS, runtime.partitions),
        background=(models, Renewal(loader, settings.counts_ttl_s)),
        close=(origin.close, bridge.close),
    )
