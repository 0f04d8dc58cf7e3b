"""`feedmesh features` against rockstore's own answers: what is named and is not there is refused with what is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.schema import SCHEMA
from services.core import settings
from services.core.events import Action, events
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh
from tests.rockstore.test_rockstore_service import PARTITIONS, rockstore


@pytest.fixture
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The folder of a mesh of one rockstore, with a dataset of two columns; roadrunner is away."""
    row = events(
        1, action=Action.PUT_FEATURES, target=5, title=["taste"], features=[[0.5, 1.0]], at_ms=1_700_000_000_000
    )
    given = {"mesh": {"data": str(tmp_path), "partitions": PARTITIONS, **getattr(request, "param", {})}}
    with rockstore(tmp_path / "shards", 1, row) as served:
        found = meshes.resolve(settings.validated(given, "a test", SCHEMA), list(served.processes))
        meshes.save(Mesh(settings=found.settings, processes=served.processes), meshes.mesh_file(tmp_path))
        yield tmp_path


def features(data: Path, *arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["features", *map(str, arguments), "--data", str(data)], env={"COLUMNS": "300"})
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("put", "tast", "--key", 1, 0.5, 1), "dataset = 'tast': there is none of this name; there are taste. `"),
        (("put", "taste", "--key", 1, 0.5), "values: 1 numbers; taste has 2 columns: x0, x1"),
        (("put", "taste", "--key", 1, 0.5, 1, 2), "values: 3 numbers; taste has 2 columns"),
        (("put", "taste", "--key", 0, 0.5, 1), "key = '0': allowed are whole numbers from 1 to 18446744073708503039"),
        (("put", "taste", "--key", 2**64 - 1, 0.5, 1), f"key = '{2**64 - 1}': allowed are"),
        (("put", "taste", "--key", "u-0651", 0.5, 1), "key = 'u-0651': allowed are"),
        (("put", "taste", "--key", "1.0", 0.5, 1), "key = '1.0': allowed are"),
        (("switch", "tast", 1), "dataset = 'tast': there is none of this name; there are taste. `"),
    ],
)
def test_a_row_that_would_come_to_nothing_is_refused(data: Path, arguments: tuple[Any, ...], said: str) -> None:
    code, found = features(data, *arguments)
    assert (code, said in found) == (2, True), found


def test_a_dataset_is_known_by_its_files_too(data: Path) -> None:
    pq.write_table(pa.table({"pin": [1.0, 2.0], "shine": [0.5, 1.0]}), data / "in.parquet")
    assert features(data, "load", "style", data / "in.parquet", "--no-switch")[0] == 0
    code, found = features(data, "switch", "styles", 1)
    assert (code, "there are style, taste. `" in found) == (2, True), found
    code, found = features(data, "switch", "style", 7)
    assert (code, "style has no such version; there are 1" in found) == (2, True), found


def test_a_row_that_is_right_is_published(data: Path) -> None:
    """As far as the mesh of this test goes: there is no ingest API to publish to."""
    code, found = features(data, "put", "taste", "--key", 1, 0.5, 1)
    assert (code, "roadrunner" in found) == (1, True), found


@pytest.mark.parametrize("data", [{"ids": "text"}], indirect=True)
def test_P21_keys_are_ids_of_text_where_the_mesh_has_them(data: Path) -> None:
    code, found = features(data, "put", "taste", "--key", " u-0651", 0.5, 1)
    assert (code, "key = ' u-0651': an id is 1 to 255 bytes of text" in found) == (2, True), found
    code, found = features(data, "put", "taste", "--key", "u-0651", 0.5, 1)
    assert (code, "roadrunner" in found) == (1, True), found
    pq.write_table(pa.table({"user": ["ana@example.org", "u-0651"], "shine": [0.5, 1.0]}), data / "in.parquet")
    code, found = features(data, "load", "style", data / "in.parquet", "--key", "user", "--no-switch")
    assert (code, "style: version 1, 2 rows of 1 columns" in found) == (0, True), found
