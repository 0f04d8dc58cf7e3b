"""A snapshot that is not as it was written is refused, with the file and the reason; and a start survives it."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pixie import keys, layout, snapshot
from pixie.build import Edges, build
from pixie.kernel import options, visited
from pixie.layout import FILES
from pixie.snapshot import CHUNK, SAMPLE, SAMPLES, _parts, checksum, open_snapshot
from pixie.store import PixieStore, Question
from services.blob.memory import MemoryBlobs
from services.core.columns import ids
from services.core.errors import InvalidArgument, NotFound, NotReady
from tests.pixie.reference import built

NOW_MS = 1_760_000_360_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good snapshot of 3 pins and 2 boards."""
    pairs = {(10, 1), (10, 2), (20, 1), (30, 2)}
    return tmp_path / built(tmp_path, pairs, {10: [5], 20: [4]}).manifest.version


def change(folder: Path, name: str, edit: Callable[[bytearray], None], honest: bool) -> None:
    """Change a file; `honest`: as if it had been built so, with its checksum in the manifest."""
    path = folder / name
    data = bytearray(path.read_bytes())
    edit(data)
    path.write_bytes(bytes(data))
    if honest:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["files"][name]["blake2b"] = checksum(path)
        del manifest["checksum"]
        (folder / "manifest.json").write_bytes(json.dumps(manifest).encode())


def put(row: int, value: int, dtype: str) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        np.frombuffer(data, dtype)[row] = value

    return edit


@pytest.mark.parametrize("name", list(FILES))
def test_a_changed_byte_of_any_file_is_seen(folder: Path, name: str) -> None:
    def flip(data: bytearray) -> None:
        data[len(data) // 2] ^= 1

    change(folder, name, flip, honest=False)
    with pytest.raises(InvalidArgument, match=f"{folder / name}: corrupt: its checksum is"):
        open_snapshot(folder)


@pytest.mark.parametrize("name", list(FILES))
def test_a_truncated_or_missing_file_is_seen_even_without_checksums(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1])
    with pytest.raises(InvalidArgument, match=f"{folder / name}: truncated: {len(data) - 1} bytes"):
        open_snapshot(folder, verify=False)
    (folder / name).write_bytes(data + b"x")
    with pytest.raises(InvalidArgument, match=f"{folder / name}: too long: {len(data) + 1} bytes"):
        open_snapshot(folder, verify=False)
    (folder / name).unlink()
    with pytest.raises(InvalidArgument, match=f"{folder / name}: No such file"):
        open_snapshot(folder, verify=False)


def edge(start: int, degree: int) -> int:
    return start << 28 | degree


#: The runs of the fixture: pins 10 (boards 1, 2), 20 (1), 30 (2) at 0, 3, 5 of 7 words; boards at 0, 3 of 6.
@pytest.mark.parametrize(
    ("name", "edit", "says"),
    [
        ("pins.ids", put(1, 10, "<u8"), "ids must ascend, and 10 at row 1 comes after 10"),
        ("boards.ids", put(1, 0, "<u8"), "ids must ascend, and 0 at row 1 comes after 1"),
        ("pins.starts", put(0, 1, "<u8"), "runs go from 1 to 7, expected 0 to 7"),
        ("pins.starts", put(3, 8, "<u8"), "runs go from 0 to 8, expected 0 to 7"),
        ("pins.starts", put(1, 4, "<u8"), "a run is a header and an edge at least, and start 5 at row 2 comes after 4"),
        ("pins.starts", put(1, 2**63, "<u8"), ".* start 5 at row 2 comes after 9223372036854775808"),
        ("pins.runs", put(3, 2 << 32 | 1, "<u8"), "word 3 is 8589934593, where the header of row 1 belongs"),
        ("pins.runs", put(0, 2 << 32 | 7, "<u8"), "word 0 is 8589934599, where the header of row 0 belongs"),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_graph_that_leads_nowhere_is_refused(
    folder: Path, name: str, edit: Callable[[bytearray], None], says: str, verify: bool
) -> None:
    change(folder, name, edit, honest=True)
    with pytest.raises(InvalidArgument, match=f"{folder / name}: {says}"):
        open_snapshot(folder, verify)


@pytest.mark.parametrize(
    ("name", "edit", "says"),
    [
        (
            "boards.runs",
            put(1, edge(7, 1), "<u8"),
            "word 1 leads to 7 of 7, where no pin begins: an edge to an unknown pin",
        ),
        ("boards.runs", put(1, edge(4, 1), "<u8"), "word 1 leads to 4 of 7, where no pin begins"),
        ("boards.runs", put(1, edge(0, 3), "<u8"), "word 1 leads to 0 of 7, where no pin begins"),
        ("pins.runs", put(1, 2**64 - 1, "<u8"), "word 1 leads to 68719476735 of 6, .* an edge to an unknown board"),
        ("boards.runs", put(0, 2**64 - 1, "<u8"), "a run is a header and an edge at least"),
        ("boards.runs", put(3, 9 << 32 | 1, "<u8"), "word 2 leads to 3 of 6, where no board begins"),
    ],
)
def test_an_edge_that_leads_nowhere_is_refused_when_all_is_checked(
    folder: Path, name: str, edit: Callable[[bytearray], None], says: str
) -> None:
    """And without that, a walk over it answers something or fails, and never reads beyond the graph."""
    change(folder, name, edit, honest=True)
    with pytest.raises(InvalidArgument, match=f"{folder}/.*.runs: {says}"):
        open_snapshot(folder)
    graph = open_snapshot(folder, verify=False).graph
    for bias in (0.0, 0.5):
        chosen = options(boards=True, pins=True, restart=0.1, bias=bias, interest=5)
        boards, pins = visited(graph, np.array([0, 1, 2]), np.full(3, 5_000), chosen)
        assert boards.steps.tolist() == pins.steps.tolist() == [5_000] * 3


def test_opening_looks_at_little_of_a_large_snapshot(tmp_path: Path) -> None:
    """Samples reach from the first item to the last, and are as many for any size."""
    for n in (1, 2, 500, 512, 513, 40_000, 10_000_000):
        parts = _parts(n, verify=False)
        assert len(parts) <= SAMPLES + 1
        assert parts[-1] + SAMPLE >= n
        whole = _parts(n, verify=True)
        assert whole[-1] + CHUNK // 8 >= n


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"format": "feedmesh graph, 9"}, "format = 'feedmesh graph, 9', this version reads 'feedmesh graph, 2'"),
        ({"pins": 4}, "pins.ids: the manifest states 24 bytes where its counts need 32"),
        ({"edges": 0}, "3 pins, 2 boards, 0 edges: empty"),
        ({"version": "other"}, "version = 'other', in the folder of"),
        ({"pins": "many"}, 'pins = "many" is not allowed: a whole number'),
        ({"files": {}}, "names no pins.ids"),
    ],
)
def test_a_manifest_of_something_else_is_refused(folder: Path, edit: dict[str, object], says: str) -> None:
    path = folder / "manifest.json"
    stated = json.loads(path.read_bytes()) | edit
    del stated["checksum"]
    path.write_text(json.dumps(stated))
    with pytest.raises(InvalidArgument, match=says):
        open_snapshot(folder)


def test_a_manifest_that_is_none_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": "feed')
    with pytest.raises(InvalidArgument, match="manifest.json: not JSON"):
        open_snapshot(folder)
    (folder / "manifest.json").write_text("[1]")
    with pytest.raises(InvalidArgument, match=r"manifest.json: format = None"):
        open_snapshot(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(InvalidArgument, match="manifest.json: No such file"):
        open_snapshot(folder)


def asking(k: int = 10) -> Question:
    return Question(ids([10]), np.ones(1, np.float32), options(boards=True), k, 100, 0.0, 1)


def test_a_refused_snapshot_leaves_the_one_before(folder: Path) -> None:
    store = PixieStore(folder.parent, lambda: NOW_MS)
    with pytest.raises(NotReady, match="no graph snapshot is loaded"):
        store.recommend(asking())
    store.load(folder.name)
    bad = folder.parent / "bad"
    shutil.copytree(folder, bad)
    with pytest.raises(InvalidArgument, match="in the folder of 'bad'"):
        store.load("bad")
    with pytest.raises(NotFound, match="no such snapshot; there are"):
        store.load("20200101T000000-1")
    for version in ("", "..", "../x", "a/b", "x" * 65):
        with pytest.raises(InvalidArgument, match="version = "):
            store.load(version)
    assert store.recommend(asking()).version == folder.name


def test_a_start_opens_what_was_pushed_last_and_survives_a_bad_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = PixieStore(folder.parent, lambda: NOW_MS)
    store.load_current()
    assert store.snapshot is None
    names = ("graph_pins", "graph_boards", "graph_edges", "graph_age_seconds", "graph_refused")

    def gauges(of: PixieStore) -> list[float]:
        return [of.gauges()[name]() for name in names]

    assert gauges(store) == [0, 0, 0, 0, 0]
    (folder.parent / keys.CURRENT).write_text(layout.pack_current([folder.name, "older"]))
    store.load_current()
    assert gauges(store) == [3, 2, 4, 360, 0]
    (folder / "pins.runs").write_bytes(b"")
    again = PixieStore(folder.parent, lambda: NOW_MS)
    with caplog.at_level(logging.ERROR):
        again.load_current()
    assert again.snapshot is None
    assert gauges(again) == [0, 0, 0, 0, 1]
    assert "pins.runs: truncated: 0 bytes" in caplog.text
    with pytest.raises(NotReady, match="truncated: 0 bytes, .*; `feedmesh graph build` makes another"):
        again.recommend(asking())


def test_a_bit_that_flips_while_it_serves_is_noticed_and_what_is_removed_is_none(folder: Path) -> None:
    store = PixieStore(folder.parent, lambda: NOW_MS)
    store.load(folder.name)
    store.verify()
    assert store.recommend(asking()).version == folder.name
    data = bytearray((folder / "boards.interest").read_bytes())
    data[0] ^= 1
    with (folder / "boards.interest").open("r+b") as file:  # in place, as a disk does it
        file.write(data)
    store.verify()
    with pytest.raises(NotReady, match="is served no longer: .*boards.interest: corrupt"):
        store.recommend(asking())
    store.verify()


def test_an_older_graph_takes_the_place_of_a_damaged_one(folder: Path) -> None:
    (folder.parent / keys.CURRENT).write_text(layout.pack_current(["gone", folder.name]))
    store = PixieStore(folder.parent, lambda: NOW_MS)
    store.load_current()
    assert store.recommend(asking()).version == folder.name
    assert "gone: no such snapshot" in store.problem


def test_a_snapshot_is_served_after_its_folder_is_removed(folder: Path) -> None:
    store = PixieStore(folder.parent, lambda: NOW_MS)
    store.load(folder.name)
    before = store.recommend(asking())
    shutil.rmtree(folder)
    store.verify()
    assert store.recommend(asking()).ids.tolist() == before.ids.tolist()


def test_graphs_need_no_folder(tmp_path: Path) -> None:
    """A store elsewhere has blobs by key, and local copies of them to map."""
    graphs = keys.graphs_of(MemoryBlobs(tmp_path / "cache"))
    made = [build(graphs, Edges(ids([10, 11]), ids([20, 20])), built_ms=NOW_MS) for _ in range(2)]
    assert snapshot.versions(graphs) == made[::-1]
    graphs.put(keys.CURRENT, layout.pack_current(made[::-1]).encode())
    store = PixieStore(graphs, lambda: NOW_MS)
    store.load_current()
    store.verify()
    assert store.recommend(asking()).version == made[1]
    assert snapshot.manifest_of(graphs, made[0]).version == made[0]
    graphs.delete_all(made[1])
    store.load_current()
    assert (store.recommend(asking()).version, f"{made[1]}: no such snapshot" in store.problem) == (made[0], True)
