"""Opens the store of blobs of a mesh. Today it is the data folder."""

from pathlib import Path

from services.blob.folder import FolderBlobs
from services.blob.protocol import Blobs
from services.rpc.mesh import Mesh

Place = Path | Mesh | Blobs  # where blobs lie


def open_blobs(place: Place) -> Blobs:
    """The blobs of a mesh, or of a data folder; a store that is open already as it is. Nothing is written."""
    if isinstance(place, Mesh):
        return FolderBlobs(place.data)
    return FolderBlobs(place) if isinstance(place, Path) else place
