"""Datasets over real calls, on one shard and on two: loads, switches, and live rows."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rockstore import bulk, layout
from rockstore import datasets as datasets_module
from rockstore.client import ServedDataset
from rockstore.keys import datasets_of
from rockstore.store import TOPICS, RockstoreStore
from rockstore.versions import remove
from services.core.columns import ids
from services.core.errors import InvalidArgument
from services.core.topics import partition_of
from services.log.memory import MemoryLog
from tests.kit import open_shards
from tests.rockstore.world import KEYS, MATRIX, PARTITIONS, T0, Rockstores, load, parquet, put, switch

# --- bulk loads and switches ------------------------------------------------------------------------------------------


def test_a_load_is_served_once_the_log_says_so_in_the_order_asked(rockstores: Rockstores) -> None:
    manifest = load(rockstores.folder)
    assert (manifest.version, manifest.rows, sum(file.rows for file in manifest.files.values())) == (1, 500, 500)
    assert rockstores.rows(KEYS[:2]).columns == []
    rockstores.apply(switch(1))
    order = np.random.default_rng(1).permutation(np.append(np.arange(500), [3, 3]))
    asked_for = np.append(KEYS[order], ids([17, 18]))
    rows = rockstores.rows(asked_for)
    assert (rows.columns, rows.version) == (["a", "b", "c"], 1)
    np.testing.assert_array_equal(rows.values[:-2], MATRIX[order])
    np.testing.assert_array_equal(rows.values.dtype, np.float32)
    np.testing.assert_array_equal(rows.found, np.arange(504) < 502)
    np.testing.assert_array_equal(rows.at_ms, np.where(rows.found, T0, 0))
    assert np.isnan(rows.values[-2:]).all()
    assert rockstores.datasets() == [ServedDataset("taste", ["a", "b", "c"], 1, [1], 500, T0, "")]


def test_an_unknown_dataset_and_no_keys_find_nothing(rockstores: Rockstores) -> None:
    rows = rockstores.rows([1, 2])
    assert (rows.columns, rows.values.shape, rows.found.tolist(), rows.version) == ([], (2, 0), [False, False], 0)
    load(rockstores.folder)
    rockstores.apply(switch(1))
    rows = rockstores.rows([])
    assert (rows.columns, rows.values.shape, rows.version) == (["a", "b", "c"], (0, 3), 1)


def test_a_read_that_waits_for_a_switch_sees_it(two: Rockstores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version serves before those that wait for its offset go on, and before an answer states that it is shown."""
    load(two.folder)
    store, shown = two.stores[0], list[int]()
    wake = store.shard._moved.notify_all

    def and_read() -> None:
        shown.append(store.datasets.rows("taste", KEYS[:1]).version)
        wake()

    monkeypatch.setattr(store.shard._moved, "notify_all", and_read)
    two.apply(switch(1))
    assert shown == [1]


def test_switching_back_and_forth_is_at_once_and_only_the_kept_versions_stay(rockstores: Rockstores) -> None:
    for version in range(1, 6):
        assert load(rockstores.folder, matrix=MATRIX * version, as_of_ms=T0 + version).version == version
        rockstores.apply(switch(version))
        np.testing.assert_array_equal(rockstores.rows(KEYS).values, MATRIX * version)
    assert rockstores.datasets()[0].versions == [3, 4, 5]
    for store in rockstores.stores:
        assert len(list(store.shard.family("rows").keys())) == 3 * store.datasets.described()[0].rows
    shutil.rmtree(rockstores.folder / "datasets")  # what is kept needs no files
    for version in (3, 5, 4):
        rockstores.apply(switch(version))
        rows = rockstores.rows(KEYS)
        np.testing.assert_array_equal(rows.values, MATRIX * version)
        assert (rows.version, rows.at_ms[0]) == (version, T0 + version)


def test_a_version_that_is_no_longer_kept_is_taken_again_from_its_files(two: Rockstores) -> None:
    for version in range(1, 5):
        load(two.folder, matrix=MATRIX * version)
    two.apply(*map(switch, (1, 2, 3, 4, 1)))  # in one chunk or in five, it ends the same
    np.testing.assert_array_equal(two.rows(KEYS).values, MATRIX)
    assert two.datasets()[0].versions == [1, 2, 3, 4]  # the three last and the one served
    two.apply(switch(4))
    assert two.datasets()[0].versions == [2, 3, 4]


def test_several_datasets_with_the_same_keys_do_not_meet(two: Rockstores) -> None:
    load(two.folder)
    path = parquet(two.folder / "other.parquet", KEYS[:5], z=[1, 2, None, 4, 5])
    bulk.load(path, datasets_of(two.folder), "other", PARTITIONS, T0 + 9)
    two.apply(switch(1), switch(1, "other"))
    other = two.rows(KEYS[:6], "other")
    np.testing.assert_array_equal(other.values[:, 0], [1, 2, np.nan, 4, 5, np.nan])
    assert (other.found.tolist(), other.at_ms[0]) == ([True] * 5 + [False], T0 + 9)
    np.testing.assert_array_equal(two.rows(KEYS).values, MATRIX)
    assert [of.name for of in two.datasets()] == ["other", "taste"]


def test_partitions_of_different_versions_answer_by_the_newest_names(two: Rockstores) -> None:
    load(two.folder)
    load(two.folder, names="cxa", new_columns=True)
    two.apply(switch(1))
    half = [record for record in two.offsets.append(switch(2), TOPICS) if record.partition % 2]
    for store, own in zip(two.stores, two._owns, strict=True):
        store.apply([record for record in half if record.partition in own])
    rows = two.rows(KEYS)
    switched = partition_of(KEYS, PARTITIONS) % 2 == 1
    assert (rows.columns, rows.version, bool(rows.found.all())) == (["c", "x", "a"], 2, True)
    np.testing.assert_array_equal(rows.values[switched], MATRIX[switched])
    np.testing.assert_array_equal(rows.values[~switched][:, [0, 2]], MATRIX[~switched][:, [2, 0]])
    assert np.isnan(rows.values[~switched, 1]).all()


# --- live rows --------------------------------------------------------------------------------------------------------


def test_a_live_row_is_on_top_of_an_older_load_and_under_a_newer_one(rockstores: Rockstores) -> None:
    load(rockstores.folder)
    key, new = int(KEYS[7]), 12345
    rockstores.apply(
        switch(1), put(key, [1, 2, 3], T0 + 5), put(int(KEYS[8]), [9, 9, 9], T0 - 5), put(new, [4, 5, 6], T0 + 6)
    )
    rows = rockstores.rows([key, KEYS[8], new, KEYS[9]])
    np.testing.assert_array_equal(rows.values, [[1, 2, 3], MATRIX[8], [4, 5, 6], MATRIX[9]])
    assert (rows.at_ms.tolist(), bool(rows.found.all())) == ([T0 + 5, T0, T0 + 6, T0], True)
    rockstores.apply(put(key, [7, 7, 7], T0 + 4))  # late: what came before it is newer
    np.testing.assert_array_equal(rockstores.rows([key]).values, [[1, 2, 3]])
    load(rockstores.folder, matrix=MATRIX + 1, as_of_ms=T0 + 5)
    rockstores.apply(switch(2))
    rows = rockstores.rows([key, new])
    np.testing.assert_array_equal(rows.values, [MATRIX[7] + 1, [4, 5, 6]])
    assert rows.at_ms.tolist() == [T0 + 5, T0 + 6]
    rockstores.apply(switch(1))
    np.testing.assert_array_equal(rockstores.rows([key]).values, [[1, 2, 3]])


def test_live_rows_of_another_width_are_passed_over_and_reported(rockstores: Rockstores) -> None:
    load(rockstores.folder)
    rockstores.apply(switch(1), put(int(KEYS[0]), [1, 2], T0 + 5), put(5, [], T0 + 5), put(5, [1, 2, 3, 4], T0 + 5))
    np.testing.assert_array_equal(rockstores.rows([KEYS[0], 5]).found, [True, False])
    problem = rockstores.datasets()[0].problem
    assert sum(int(part.split()[0]) for part in problem.split("; ")) == 3
    assert "live rows of another width than 3 columns were passed over" in problem


def test_live_rows_alone_have_numbered_columns_and_those_of_other_columns_are_not_read(two: Rockstores) -> None:
    two.apply(put(5, [1, 2, np.nan], T0), put(6, [3, 4, 5], T0))
    rows = two.rows([5, 6, 7])
    assert (rows.columns, rows.version, rows.found.tolist()) == (["x0", "x1", "x2"], 0, [True, True, False])
    np.testing.assert_array_equal(rows.values, [[1, 2, np.nan], [3, 4, 5], [np.nan] * 3])
    assert two.datasets()[0].version == 0
    load(two.folder, as_of_ms=T0 - 9)
    two.apply(switch(1))
    assert two.rows([5, 6]).found.tolist() == [False, False]  # no event said that x0 is a
    two.apply(put(5, [7, 8, 9], T0 - 5))
    np.testing.assert_array_equal(two.rows([5]).values, [[7, 8, 9]])


def test_names_that_are_none_are_passed_over_and_refused(two: Rockstores) -> None:
    two.apply(switch(1, "../../etc"), put(5, [1], T0, ""), put(5, [1], T0, "Ä"))
    assert two.datasets() == []
    for name in ("", "../x", "A", "1a", "a" * 65):
        with pytest.raises(InvalidArgument, match="dataset = .*: allowed are a to z, 0 to 9 and _, a letter first"):
            two.rows([1], name)


def test_the_log_can_not_name_datasets_without_end(two: Rockstores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets_module, "MAX_DATASETS", 2)
    two.apply(*(put(5, [1], T0, f"d{i}") for i in range(5)))
    assert [of.name for of in two.datasets()] == ["d0", "d1"]


def test_too_many_keys_are_refused_and_the_most_are_answered(rockstores: Rockstores) -> None:
    load(rockstores.folder)
    rockstores.apply(switch(1))
    many = np.full(20_001, KEYS[3])
    with pytest.raises(InvalidArgument, match="keys: 20001 keys; at most 20000 a call"):
        rockstores.rows(many)
    np.testing.assert_array_equal(rockstores.rows(many[1:]).values[-1], MATRIX[3])


OPERATIONS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 5), st.integers(2, 4), st.integers(0, 30)),
    st.tuples(st.just("switch"), st.integers(1, 4), st.just(0), st.just(0)),
)


LOADS = {1: ("abc", 10), 2: ("abc", 20), 3: ("dbc", 15)}
SIX = ids([1, 2, 3, 4, 5, 6])


@pytest.fixture(scope="module")
def three_loads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions of the first four keys: two of the columns (a, b, c), as of 10 and 20, and one of (d, b, c), as of 15."""
    folder = tmp_path_factory.mktemp("loads")
    for version, (columns, as_of) in LOADS.items():
        load(folder, SIX[:4], MATRIX[:4] + version, columns, as_of_ms=T0 + as_of, new_columns=True)
    remove(datasets_of(folder), "taste", 4)
    return folder


@settings(max_examples=20, deadline=None)
@given(st.lists(OPERATIONS, max_size=20), st.integers(0, 20))
def test_it_answers_as_the_reference_does(
    three_loads: Path, operations: list[tuple[str, int, int, int]], cut: int
) -> None:
    """Version 4 was removed; the process is started again after a part of the log."""
    with (
        TemporaryDirectory() as folder,
        open_shards(Path(folder), layout.FORMAT, layout.FAMILIES, 1, PARTITIONS) as ((shard, own),),
    ):
        offsets, served, live = MemoryLog(PARTITIONS), 1, dict[int, tuple[str, int, list[float]]]()
        log = offsets.append(switch(1), TOPICS)
        for i, (kind, at, width, at_ms) in enumerate(operations):
            if kind == "switch":
                log += offsets.append(switch(at), TOPICS)
                served = at if at in LOADS else served
                continue
            log += offsets.append(put(int(SIX[at]), [float(i)] * width, T0 + at_ms), TOPICS)
            columns = LOADS[served][0]
            before = live.get(at, ("", 0, []))
            if width == 3 and (before[0] != columns or before[1] <= at_ms):
                live[at] = (columns, at_ms, [float(i)] * 3)
        store = RockstoreStore(shard, own, PARTITIONS, datasets_of(three_loads), 3)
        store.apply(log[: len(log) * cut // 20])
        store = RockstoreStore(shard, own, PARTITIONS, datasets_of(three_loads), 3)
        store.apply(shard.fresh(log))
        rows = store.datasets.rows("taste", SIX)
    columns, as_of = LOADS[served]
    for at in range(6):
        named, at_ms, values = live.get(at, ("", 0, []))
        if named == columns and at_ms > as_of:
            assert (rows.values[at].tolist(), rows.at_ms[at]) == (values, T0 + at_ms)
        else:
            assert rows.found[at] == (at < 4)
            if at < 4:
                np.testing.assert_array_equal(rows.values[at], MATRIX[at] + np.float32(served))
