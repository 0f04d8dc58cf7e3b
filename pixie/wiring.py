"""How pixie is built."""

from pixie.following import Pushed
from pixie.keys import graphs_of
from pixie.service import Pixie, Walking
from pixie.settings import Settings
from pixie.store import PixieStore
from pixie.verifier import Verifier
from protos.pixie_pb2_grpc import add_PixieServicer_to_server
from services.ops.wiring import Parts, Runtime


def build(settings: Settings, runtime: Runtime) -> Parts:
    """Pixie over the graph that was pushed last."""
    graphs = graphs_of(runtime.mesh)
    store = PixieStore(graphs, runtime.clock)
    pushed = Pushed(graphs, store)
    store.load_current(settings.verify)
    for name, read in store.gauges().items():
        runtime.metrics.gauge(name, read)
    walking = Walking(settings.restart, settings.stop_nodes, settings.stop_visits, settings.max_steps)
    verifier = Verifier(store, runtime.mesh.common.check_every_h, runtime.metrics)
    return Parts(Pixie(store, walking), add_PixieServicer_to_server, background=(verifier, pushed))
