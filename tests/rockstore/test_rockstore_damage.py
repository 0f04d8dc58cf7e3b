"""Datasets when something is wrong: damaged files, kills, full disks, lost folders."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from rockstore import bulk, layout, versions
from rockstore import datasets as datasets_module
from rockstore.client import ServedDataset
from rockstore.keys import datasets_of
from rockstore.store import TOPICS
from services.core.columns import ids
from services.core.errors import Exhausted, NotReady
from services.core.events import Action, events
from services.core.topics import partition_of
from services.log.memory import MemoryLog
from tests.kit import open_shards
from tests.rockstore.world import KEYS, MATRIX, PARTITIONS, T0, Rockstores, load, opened, parquet, put, switch

# --- when something is wrong ------------------------------------------------------------------------------------------


def damage(folder: Path, what: str) -> str:
    """Damage version 2; a part of what is said of it."""
    version = folder / "datasets" / "taste" / "2"
    file = max(version.glob("part-*.sst"))
    data = file.read_bytes()
    if what == "missing":
        shutil.rmtree(version)
        return "manifest.json: there is no such blob"
    if what == "file missing":
        file.unlink()
        return f"{file.name}: there is no such blob"
    if what == "truncated":
        file.write_bytes(data[:-100])
        return f"{file.name}: has {len(data) - 100} bytes, its manifest says {len(data)}"
    if what == "changed":
        file.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
        return f"{file.name}: its checksum is "
    (version / "manifest.json").write_text("{}")
    return "manifest.json: is no manifest"


@pytest.mark.parametrize("what", ["missing", "file missing", "truncated", "changed", "manifest"])
def test_what_is_damaged_or_missing_is_waited_for_and_nothing_is_committed(rockstores: Rockstores, what: str) -> None:
    load(rockstores.folder)
    load(rockstores.folder, matrix=MATRIX + 2)
    rockstores.apply(switch(1))
    intact = shutil.copytree(rockstores.folder / "datasets" / "taste" / "2", rockstores.folder / "intact")
    said = damage(rockstores.folder, what)
    before = [store.shard.applied() for store in rockstores.stores]
    for _ in range(2):
        with pytest.raises(NotReady, match="dataset taste version 2 is waited for: ") as refused:
            rockstores.apply(*([] if _ else [switch(2), put(5, [1, 2, 3], T0 + 1)]))
        assert said in str(refused.value)
    assert [store.shard.applied() for store in rockstores.stores][-1] == before[-1]
    of_last = partition_of(KEYS, PARTITIONS) >= PARTITIONS // 2
    np.testing.assert_array_equal(rockstores.rows(KEYS).values[of_last], MATRIX[of_last])
    shutil.rmtree(rockstores.folder / "datasets" / "taste" / "2", ignore_errors=True)
    intact.rename(rockstores.folder / "datasets" / "taste" / "2")
    rockstores.follow()
    assert rockstores.datasets()[0] == ServedDataset("taste", ["a", "b", "c"], 2, [1, 2], 500, T0, "")
    np.testing.assert_array_equal(rockstores.rows(KEYS).values, MATRIX + 2)
    assert rockstores.rows([5]).found.all()


def test_a_damaged_file_is_read_once_until_it_is_another(two: Rockstores, monkeypatch: pytest.MonkeyPatch) -> None:
    load(two.folder)
    path = max((two.folder / "datasets" / "taste" / "1").glob("part-*.sst"))
    data = path.read_bytes()
    path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    read: list[Path] = []
    checked = versions.checksum

    def counted(path: Path) -> int:
        read.append(path)
        return checked(path)

    monkeypatch.setattr(versions, "checksum", counted)
    with pytest.raises(NotReady):
        two.apply(switch(1))
    many = len(read)
    with pytest.raises(NotReady, match="its checksum is"):
        two.follow()
    assert len(read) == many
    path.unlink()
    path.write_bytes(data)
    two.follow()
    np.testing.assert_array_equal(two.rows(KEYS).values, MATRIX)


def test_a_version_that_was_removed_leaves_the_one_before_and_says_why(two: Rockstores) -> None:
    load(two.folder)
    with pytest.raises(NotReady, match="`feedmesh features remove taste 9` if it will not come"):
        two.apply(switch(1), switch(9))
    versions.remove(datasets_of(two.folder), "taste", 9)
    two.follow()
    assert two.datasets()[0].problem == "version 9 was not taken: it was removed"
    np.testing.assert_array_equal(two.rows(KEYS).values, MATRIX)
    load(two.folder, matrix=MATRIX + 1)
    versions.remove(datasets_of(two.folder), "taste", 1)
    assert (versions.removed(datasets_of(two.folder), "taste"), (two.folder / "datasets/taste/1").exists()) == (
        [1, 9],
        False,
    )
    two.apply(switch(2), switch(1))  # it is kept
    np.testing.assert_array_equal(two.rows(KEYS).values, MATRIX)


def test_a_number_that_was_used_before_is_not_taken_for_other_rows(two: Rockstores) -> None:
    load(two.folder)
    two.apply(switch(1))
    shutil.rmtree(two.folder / "datasets")  # with the number that was given out last
    load(two.folder, matrix=MATRIX + 1)
    two.apply(switch(1))
    assert "other rows were taken under this number before" in two.datasets()[0].problem
    np.testing.assert_array_equal(two.rows(KEYS).values, MATRIX)
    assert load(two.folder, after=7).version == 8


def test_a_load_for_another_number_of_partitions_is_not_taken(two: Rockstores) -> None:
    path = parquet(two.folder / "in.parquet", KEYS, a=MATRIX[:, 0])
    bulk.load(path, datasets_of(two.folder), "taste", 4, T0)
    two.apply(switch(1))
    assert "it was loaded for 4 partitions, there are 8" in two.datasets()[0].problem
    assert two.rows(KEYS).columns == []


def test_killed_between_ingest_and_commit_it_takes_the_version_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, 1) as made:
        load(tmp_path)
        made.apply(switch(1))
        load(tmp_path, matrix=MATRIX + 2)
        log = made.log + made.offsets.append(switch(2), TOPICS)
        shard = made.stores[0].shard

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(shard, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            made.stores[0].apply(shard.fresh(log))
        assert len(list(shard.family("rows").keys())) == 1000  # ingested, and not committed
        np.testing.assert_array_equal(made.rows(KEYS).values, MATRIX)
    monkeypatch.undo()
    with opened(tmp_path, 1) as made, monkeypatch.context() as patch:
        np.testing.assert_array_equal(made.rows(KEYS).values, MATRIX)
        patch.setattr(datasets_module, "_link", killed)  # the rows are there: no file is touched
        made.log = log
        made.follow()
        np.testing.assert_array_equal(made.rows(KEYS).values, MATRIX + 2)
        assert len(list(made.stores[0].shard.family("rows").keys())) == 1000


def test_a_full_disk_is_not_a_problem_of_the_file_and_is_tried_again(
    two: Rockstores, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(two.folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(Exhausted, match="the disk is full"):
            two.apply(switch(1))
    two.follow()
    np.testing.assert_array_equal(two.rows(KEYS).values, MATRIX)


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_lost_shard_is_rebuilt_from_the_log_and_the_files(tmp_path: Path) -> None:
    with opened(tmp_path, 2) as made:
        load(tmp_path)
        made.apply(switch(1), put(int(KEYS[1]), [1, 2, 3], T0 + 1))
        load(tmp_path, matrix=MATRIX + 2)
        made.apply(switch(2), put(77, [4, 5, 6], T0 + 1))
        log, before, listed = made.log, made.rows(np.append(KEYS, ids([77]))), made.datasets()
    shutil.rmtree(tmp_path / "rockstore" / "1of2")
    with opened(tmp_path, 2) as made:
        made.log = log
        made.follow()
        after = made.rows(np.append(KEYS, ids([77])))
        for column, same in zip(before, after, strict=True):
            np.testing.assert_array_equal(column, same)
        assert made.datasets() == listed


def test_a_folder_from_before_there_were_datasets_is_opened(tmp_path: Path) -> None:
    with open_shards(tmp_path / "rockstore", layout.FORMAT, ["objects"], 1, PARTITIONS) as ((shard, _),):
        shard.commit(shard.batch(), MemoryLog(PARTITIONS).append(events(1, action=Action.NAME_USER, user=3), TOPICS))
    with opened(tmp_path, 1) as made:
        assert made.stores[0].shard.applied_events() == 1
        assert made.datasets() == []
