"""Opens the store of blobs of a mesh: the data folder, or another that `[mesh] blobs` names by its URL.

The data folder notes the URL of a store elsewhere, so that commands find the blobs by the data folder alone, and a mesh
whose settings name another store does not begin with an empty one.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from services.blob import s3_url
from services.blob.folder import FolderBlobs
from services.blob.protocol import Blobs
from services.core.durable import replace_durably
from services.core.errors import InvalidArgument, NotReady
from services.core.installation import remedy
from services.rpc.mesh import Mesh

if TYPE_CHECKING:
    from services.blob.s3 import S3Blobs

Place = Path | Mesh | Blobs  # where blobs lie: by a data folder, a mesh, or as a store that is open
NOTE = "BLOBS"  # in the data folder: the URL of its store
CACHE = "cache"  # in the data folder: local files of a store elsewhere
EXTRA = "cluster"


def open_blobs(place: Place) -> Blobs:
    """The blobs of a mesh, or of a data folder; a store that is open already as it is. Nothing is written there.

    Raises InvalidArgument for a URL that is none of a store, NotReady when the packages for it are not installed.
    """
    if isinstance(place, Mesh):
        return _opened(place.common.blobs, place.data, "[mesh] blobs")
    return _opened(_noted(place), place, str(place / NOTE)) if isinstance(place, Path) else place


def address_of(data: Path) -> str:
    """Where the blobs of a data folder lie, for people: the key `a` is `<address>/a`. Raises InvalidArgument when its
    note is no URL of a store.
    """
    at = _place(_noted(data), data, str(data / NOTE))
    return at.address if isinstance(at, s3_url.Location) else str(at)


def settle(data: Path, url: str, tops: Iterable[str]) -> None:
    """Note the store of a data folder as its mesh starts. tops: the first names of all keys.

    Raises InvalidArgument for a URL that is none of a store, and for another store than the one where the blobs are; and as
    it is noted for the first time Unavailable when it can't be asked.
    """
    to, before = _place(url, data, "[mesh] blobs"), _place(_noted(data), data, str(data / NOTE))
    if str(to) == str(before):
        if url != _noted(data) and url.startswith(s3_url.SCHEME):
            replace_durably(data / NOTE, f"{url}\n".encode())  # reached in another way
        return
    if _noted(data) or any((data / top).exists() for top in tops):
        raise InvalidArgument(
            f"[mesh] blobs = {url!r}: the blobs of {data} lie in {before}; to move them, stop the mesh, move the folders "
            f"{', '.join(tops)} to {to}, and remove {data / NOTE}"
        )
    if isinstance(to, s3_url.Location):
        _bucket(to.url, data).check()
    data.mkdir(parents=True, exist_ok=True)
    replace_durably(data / NOTE, f"{url}\n".encode())


def _noted(data: Path) -> str:
    try:
        return (data / NOTE).read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _opened(url: str, data: Path, origin: str) -> Blobs:
    at = _place(url, data, origin)
    return FolderBlobs(at) if isinstance(at, Path) else _bucket(at.url, data)


@lru_cache
def _bucket(url: str, data: Path) -> "S3Blobs":
    """The one store of this process for a bucket: it keeps connections, and knows what was published."""
    try:
        from services.blob.s3 import S3Blobs  # noqa: PLC0415 - where there is no bucket obstore need not be installed
    except ModuleNotFoundError as error:
        raise NotReady(
            f"[mesh] blobs = {url!r} takes a package that is not here, {error.name}; install it: `{remedy(EXTRA)}`"
        ) from None
    return S3Blobs(s3_url.location_of(url), data / CACHE)


def _place(url: str, data: Path, origin: str) -> "Path | s3_url.Location":
    """The folder or bucket of a URL; the data folder where there is none."""
    if not url:
        return data
    parts = urlsplit(url)
    if parts.scheme == s3_url.SCHEME:
        try:
            return s3_url.location_of(url)
        except ValueError as error:
            raise _none(url, origin, f"{error}; or ") from None
    path = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment or "\0" in path:
        raise _none(url, origin)
    if not path.startswith("/") or path == "/":
        raise _none(url, origin)
    return Path(path)


def _none(url: str, origin: str, why: str = "") -> InvalidArgument:
    return InvalidArgument(
        f'{origin} = {url!r} is not allowed: {why}"", which is the data folder, the URL of a folder, such as '
        f"file:///mnt/blobs, or of a bucket, {s3_url.FORM}"
    )
