"""Opens the store of blobs of a mesh: the data folder, or another that `[mesh] blobs` names by its URL.

The data folder notes the URL of a store elsewhere, so that commands find the blobs by the data folder alone, and a mesh
whose settings name another store does not begin with an empty one.
"""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.blob.folder import FolderBlobs
from services.blob.protocol import Blobs
from services.core.durable import replace_durably
from services.core.errors import InvalidArgument
from services.rpc.mesh import Mesh

Place = Path | Mesh | Blobs  # where blobs lie: by a data folder, a mesh, or as a store that is open
NOTE = "BLOBS"  # in the data folder: the URL of its store


def open_blobs(place: Place) -> Blobs:
    """The blobs of a mesh, or of a data folder; a store that is open already as it is. Nothing is written.

    Raises InvalidArgument for a URL that is none of a store.
    """
    if isinstance(place, Mesh):
        return FolderBlobs(_folder(place.common.blobs, place.data, "[mesh] blobs"))
    return FolderBlobs(folder_of(place)) if isinstance(place, Path) else place


def folder_of(data: Path) -> Path:
    """Where the blobs of a data folder lie, for people. Raises InvalidArgument when its note is no URL of a store."""
    return _folder(_noted(data), data, str(data / NOTE))


def settle(data: Path, url: str, tops: Iterable[str]) -> None:
    """Note the store of a data folder as its mesh starts. tops: the first names of all keys.

    Raises InvalidArgument for a URL that is none of a store, and for another store than the one where the blobs are.
    """
    to, before = _folder(url, data, "[mesh] blobs"), folder_of(data)
    if to == before:
        return
    if _noted(data) or any((data / top).exists() for top in tops):
        raise InvalidArgument(
            f"[mesh] blobs = {url!r}: the blobs of {data} lie in {before}; to move them, stop the mesh, move the folders "
            f"{', '.join(tops)} to {to}, and remove {data / NOTE}"
        )
    data.mkdir(parents=True, exist_ok=True)
    replace_durably(data / NOTE, f"{url}\n".encode())


def _noted(data: Path) -> str:
    try:
        return (data / NOTE).read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _folder(url: str, data: Path, origin: str) -> Path:
    """The folder of a URL; the data folder where there is none."""
    if not url:
        return data
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment or "\0" in path:
        raise _none(url, origin)
    if not path.startswith("/") or path == "/":
        raise _none(url, origin)
    return Path(path)


def _none(url: str, origin: str) -> InvalidArgument:
    return InvalidArgument(
        f'{origin} = {url!r} is not allowed: "", which is the data folder, or the URL of a folder, such as file:///mnt/blobs'
    )
