"""A layout is filled from the snapshots of another: every partition moves whole, and only where all of them are there."""

import logging
from pathlib import Path

import pytest

from services.blob.protocol import Blobs
from services.core.topics import Topic
from services.log.history import Epoch, LogHistory
from services.state.resharding import reshard
from services.state.restore import origins, restore
from services.state.shard import Shard
from tests.services.snapshots import (
    HISTORY,
    PARTITIONS,
    SERVICE,
    Clock,
    counting,
    key,
    opened,
    own_of,
    past,
    row_of,
    store,
    taker,
    wanted,
)

LAYOUTS = [(1, 2), (1, 3), (2, 3), (3, 5), (3, 2), (5, 1), (2, 6), (6, 4)]


def snapshots(folder: Path, shards: int, records: int, clock: Clock | None = None, less: int = -1) -> Blobs:
    """Snapshots of every shard of a layout but one, each with so many records and one more than the shard before."""
    blobs = store(folder)
    for shard in range(shards):
        if shard != less:
            with counting(folder / f"{shard}of{shards}", records + shard, shard, shards) as view:
                batch = view.shard.batch()
                batch.put(b"newest", (10 + shard).to_bytes(8, "little"))
                view.shard.write(batch)
                taker(view, blobs, shard, shards, clock).take()
    return blobs


@pytest.mark.parametrize(("before", "after"), LAYOUTS)
def test_every_shard_of_a_new_layout_has_its_partitions_and_no_others(tmp_path: Path, before: int, after: int) -> None:
    blobs = snapshots(tmp_path, before, 20)
    log = past(30)
    for shard in range(after):
        folder, want = tmp_path / "new" / f"{shard}of{after}", wanted(shard, after)
        assert restore(want, folder, blobs, log) == ""
        assert reshard(want, folder, blobs, log) == f"{before} shards"
        view = opened(folder, log, shard, after)
        parts = [old for old in range(before) if set(own_of(old, before)) & set(view.own)]
        came = {partition: 20 + old for old in parts for partition in own_of(old, before)}
        assert {int.from_bytes(k[:2], "big") for k, _ in view.answers()} == set(view.own)
        for partition in view.own:
            assert view.counted(partition) == 3 * came[partition]
        assert view.shard.positions(view.shard.applied()) == {(int(Topic.USERS), p): came[p] for p in view.own}
        assert view.shard.note(b"newest") == (10 + max(parts)).to_bytes(8, "little"), "the latest date stands"
        assert {name for name, _ in origins(folder)} == {f"{SERVICE}/{old}of{before}" for old in parts}
        for offset in range(20, 30):
            view.apply(offset)
        assert [view.counted(partition) for partition in view.own] == [90] * len(view.own)
        expected = {key(p, "n"): (90).to_bytes(8, "big") for p in view.own}
        rows = {key(p, f"row {o:06}"): row_of(o) for p in view.own for o in range(30)}
        assert dict(view.answers()) == expected | rows
        view.close()


def test_a_layout_that_lacks_a_shard_is_none_to_begin_with(tmp_path: Path) -> None:
    blobs = snapshots(tmp_path, 3, 10, less=1)
    assert reshard(wanted(0, 6), tmp_path / "a", blobs, past(20)) == "3 shards", "all that it needs is there"
    assert reshard(wanted(2, 6), tmp_path / "b", blobs, past(20)) == ""
    assert reshard(wanted(0, 1), tmp_path / "c", blobs, past(20)) == ""
    assert not (tmp_path / "c").exists()


def test_of_several_layouts_the_one_of_the_newest_snapshots_is_taken(tmp_path: Path) -> None:
    clock = Clock()
    blobs = snapshots(tmp_path, 2, 10, clock)
    snapshots(tmp_path, 3, 15, clock)
    assert reshard(wanted(0, 1), tmp_path / "a", blobs, past(20)) == "3 shards"


def test_a_file_that_is_damaged_is_found_and_another_layout_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    blobs = snapshots(tmp_path, 2, 10, clock)
    snapshots(tmp_path, 3, 15, clock)
    for file in (tmp_path / "blobs" / "snapshots" / SERVICE / "1of3" / "files").iterdir():
        file.write_bytes(b"damaged")
    assert reshard(wanted(0, 1), tmp_path / "a", blobs, past(20)) == "2 shards"
    assert "can't be made of" in caplog.text
    view = opened(tmp_path / "a", past(20))
    assert [view.counted(p) for p in range(PARTITIONS)] == [30, 30, 30, 33, 33, 33]
    view.close()


def test_shards_that_were_read_in_other_epochs_of_the_log_stand_on_the_one_that_is_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    blobs = snapshots(tmp_path, 2, 10)
    began = {(int(Topic.USERS), partition): 12 for partition in range(PARTITIONS)}
    later = LogHistory(HISTORY.identity, [Epoch(7, {}), Epoch(9, began)])
    assert reshard(wanted(0, 1), tmp_path / "a", blobs, past(20, history=later)) == "2 shards"
    shard = Shard(tmp_path / "a", wanted().form, wanted().families, 1, 1)
    assert (shard.log, shard.epoch) == (HISTORY.identity, 9)
    shard.connect(later, past(20).ends, [(int(Topic.USERS), partition) for partition in range(PARTITIONS)])
    shard.close()
    lost = LogHistory(HISTORY.identity, [Epoch(7, {}), Epoch(9, dict.fromkeys(began, 10))])
    assert reshard(wanted(0, 1), tmp_path / "b", blobs, past(20, history=lost)) == "", "one of them was ahead of it"


def test_what_is_cut_off_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.state import resharding

    blobs, copy = snapshots(tmp_path, 3, 10), resharding._copy

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(resharding, "_copy", dies)
    with pytest.raises(KeyboardInterrupt):
        reshard(wanted(0, 1), tmp_path / "a", blobs, past(20))
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(resharding, "_copy", copy)
    assert reshard(wanted(0, 1), tmp_path / "a", blobs, past(20)) == "3 shards"
    assert not (tmp_path / "a.part").exists()
