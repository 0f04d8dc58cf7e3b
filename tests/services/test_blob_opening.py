"""Where the blobs of a data folder lie: in it, or in the store that its settings name by URL, which the folder remembers."""

from pathlib import Path
from typing import Any

import pytest

from cli.schema import SCHEMA
from services.blob.opening import NOTE, address_of, open_blobs, settle
from services.core import settings
from services.core.errors import InvalidArgument
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh

TOPS = ("models", "graphs")


def mesh_of(data: Path, **more: Any) -> Mesh:
    return meshes.resolve(settings.validated({"mesh": {"data": str(data), **more}}, "a test", SCHEMA), [])


def test_without_a_url_they_lie_in_the_data_folder(tmp_path: Path) -> None:
    settle(tmp_path, "", TOPS)
    open_blobs(mesh_of(tmp_path)).put("models/a", b"1")
    assert (open_blobs(tmp_path).get("models/a"), (tmp_path / "models" / "a").read_bytes()) == (b"1", b"1")
    assert not (tmp_path / NOTE).exists()


@pytest.mark.parametrize("scheme", ["file://", "file://localhost"])
def test_a_url_names_a_folder_which_the_data_folder_remembers(tmp_path: Path, scheme: str) -> None:
    data, store = tmp_path / "data", tmp_path / "a store"
    url = f"{scheme}{tmp_path}/a%20store"
    settle(data, url, TOPS)
    settle(data, url, TOPS)
    open_blobs(mesh_of(data, blobs=url)).put("models/a", b"1")
    assert (open_blobs(data).get("models/a"), (store / "models" / "a").read_bytes()) == (b"1", b"1")
    assert (address_of(data), (data / "models").exists()) == (str(store), False)


def test_another_store_than_the_one_where_the_blobs_are_is_refused(tmp_path: Path) -> None:
    data, url = tmp_path / "data", f"file://{tmp_path}/store"
    open_blobs(data).put("models/a", b"1")
    with pytest.raises(InvalidArgument, match="the blobs of .*data lie in .*data; to move them, stop the mesh, move"):
        settle(data, url, TOPS)
    (tmp_path / "store").mkdir()
    (data / "models").rename(tmp_path / "store" / "models")
    settle(data, url, TOPS)
    assert open_blobs(data).get("models/a") == b"1"
    for other in ("", f"file://{tmp_path}/third"):
        with pytest.raises(InvalidArgument, match="lie in .*store; to move them"):
            settle(data, other, TOPS)


@pytest.mark.parametrize(
    "url",
    ["s3://b/blobs", "store", "/mnt/blobs", "file:store", "file://", "file:///", "file://host/x", "file:///x?y", "file:///x#y",
     "http://x/y", "FILE", "file:///a%00b"],
)  # fmt: skip
def test_what_is_no_url_of_a_store_is_refused_with_what_is_allowed(tmp_path: Path, url: str) -> None:
    for opens in (lambda: settle(tmp_path, url, TOPS), lambda: open_blobs(mesh_of(tmp_path, blobs=url))):
        with pytest.raises(InvalidArgument, match=r"\[mesh\] blobs = .* is not allowed: .* such as file:///mnt/blobs"):
            opens()
    (tmp_path / NOTE).write_text(url)
    with pytest.raises(InvalidArgument, match="BLOBS = .* is not allowed"):
        open_blobs(tmp_path)
