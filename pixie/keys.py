"""Where the snapshots of the graph lie among the blobs: `graphs/<version>/`, and `graphs/current`, which names those pushed."""

from services.blob.opening import Place, open_blobs
from services.blob.protocol import Blobs

GRAPHS = "graphs"
CURRENT = "current"  # beside the snapshots: the version that is opened at a start, and below it those before it


def graphs_of(place: Place) -> Blobs:
    """The snapshots of a mesh, or of a data folder, as a store of their own."""
    return open_blobs(place).below(GRAPHS)


def was_pushed(place: Place) -> bool:
    """Whether a graph is there that is opened at a start."""
    return graphs_of(place).exists(CURRENT)
