"""Snapshots of a shard: taken while it goes on, incremental, restored whole or not at all, and refused where they do not fit."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from services.blob.folder import FolderBlobs
from services.blob.memory import MemoryBlobs
from services.blob.protocol import Blobs
from services.core.errors import Damaged, Exhausted, MeshError, NotFound, NotReady, Unavailable
from services.core.topics import Topic
from services.log.history import Epoch, LogHistory
from services.state.manifest import Snapshots, all_of
from services.state.restore import DRAFT, ORIGIN, Past, restore, tried
from services.state.shard import DAMAGED, open_or_rebuild, set_aside
from services.state.snapshot import ASIDE
from tests.damaging import cut, flip
from tests.seaweed import Seaweed
from tests.services.children import small_disk
from tests.services.snapshots import (
    FAMILIES,
    FORM,
    HISTORY,
    NOW,
    PARTITIONS,
    SERVICE,
    Clock,
    Counting,
    counting,
    files_of,
    opened,
    past,
    problems,
    store,
    taker,
    wanted,
)

STORES = ("folder", "memory", "s3")


@pytest.fixture(params=STORES)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "folder":
        return FolderBlobs(tmp_path / "blobs")
    if request.param == "memory":
        return MemoryBlobs(tmp_path / "cache")
    from services.blob.s3 import S3Blobs
    from services.blob.s3_url import location_of

    seaweed: Seaweed = request.getfixturevalue("seaweed")
    return S3Blobs(location_of(seaweed.url(f"snapshots/{tmp_path.name}")), tmp_path / "cache")


def of(blobs: Blobs) -> Snapshots:
    return Snapshots(blobs, SERVICE, 0, 1)


# --- taking -----------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_what_the_view_was_and_the_view_goes_on(blobs: Blobs, tmp_path: Path) -> None:
    with counting(tmp_path / "0of1", 20) as view:
        id_, manifest = taker(view, blobs).take()
        expected = view.answers()
        view.apply(20)
    assert manifest.form == FORM
    assert manifest.log == HISTORY.identity.hex()
    assert manifest.next == {(int(Topic.USERS), partition): 20 for partition in range(PARTITIONS)}
    assert (manifest.events, of(blobs).ids()) == (20 * 3 * PARTITIONS, [id_])
    assert [one.name for one in all_of(blobs)] == [f"{SERVICE}/0of1"]
    assert not (tmp_path / f"0of1{ASIDE}").exists()
    assert restore(wanted(), tmp_path / "again", blobs, past(21)) == id_
    again = opened(tmp_path / "again", past(21))
    assert again.answers() == expected
    again.apply(20)
    assert again.counted(3) == 21 * 3
    again.close()


def test_a_file_that_did_not_change_is_written_once(blobs: Blobs, tmp_path: Path) -> None:
    with counting(tmp_path / "0of1", 60) as view:  # few, so that nothing is compacted meanwhile
        takes = taker(view, blobs)
        _, first = takes.take()
        whole = takes.bytes_written
        assert whole == first.size
        view.apply(60)
        _, second = takes.take()
        assert 0 < takes.bytes_written < whole / 4
        assert set(first.files.values()) & set(second.files.values())
        anew = taker(view, blobs)  # as after the process was started again
        anew.take()
        assert anew.bytes_written < whole / 4
    for id_ in of(blobs).ids():
        assert problems(of(blobs), id_, tmp_path) == []


def test_a_view_that_never_saw_the_log_has_nothing_to_keep(blobs: Blobs, tmp_path: Path) -> None:
    view = Counting(open_or_rebuild(tmp_path / "0of1", FORM, FAMILIES, 1, 1), range(PARTITIONS))
    with pytest.raises(NotReady, match="has not reached the log yet"):
        taker(view, blobs).take()
    view.close()
    assert of(blobs).ids() == []


def test_what_is_applied_meanwhile_is_in_the_snapshot_whole_or_not_at_all(tmp_path: Path) -> None:
    blobs, stop = store(tmp_path), threading.Event()
    with counting(tmp_path / "0of1", 5) as view:
        offset = [5]

        def apply() -> None:
            while not stop.is_set():
                view.apply(offset[0])
                offset[0] += 1

        thread = threading.Thread(target=apply)
        thread.start()
        takes = taker(view, blobs)
        try:
            manifests = [takes.take() for _ in range(5)]
        finally:
            stop.set()
            thread.join()
    for n, (id_, manifest) in enumerate(manifests):
        folder = tmp_path / str(n)
        keep = [other for other in of(blobs).ids() if other > id_]
        for other in keep:
            of(blobs).blobs.delete(f"manifests/{other}")
        assert restore(wanted(), folder, blobs, past(offset[0])) == id_
        again = opened(folder, past(offset[0]))
        for (_, partition), next_ in manifest.next.items():
            assert again.counted(partition) == 3 * next_
        again.close()
        for other in keep:  # as they were
            other_manifest = dict(manifests)[other]
            from services.core import summed

            of(blobs).blobs.put(f"manifests/{other}", summed.encoded(other_manifest))


# --- restoring --------------------------------------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit flipped": lambda path: flip(path, path.stat().st_size // 2),
    "cut": lambda path: cut(path, path.stat().st_size // 2),
    "emptied": lambda path: cut(path, 0),
    "deleted": lambda path: path.unlink(),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A store with two snapshots that share a file, the ids of both, the newest first."""
    folder = tmp_path_factory.mktemp("two")
    with counting(folder / "0of1", 100) as view:
        takes = taker(view, store(folder), clock=Clock())
        takes.take()
        for offset in range(100, 140):
            view.apply(offset)
        takes.take()
    return folder, of(store(folder)).ids()


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_file_that_is_damaged_is_found_and_the_older_snapshot_is_taken_or_the_log(
    two: tuple[Path, list[str]], tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every file of the newest snapshot in turn; of one that both share nothing is left, and the log is applied."""
    made, (newest, older) = two
    files = of(store(made)).manifest(newest).files
    shared = {file.at for file in of(store(made)).manifest(older).files.values()}
    assert {file.at for file in files.values()} & shared
    for n, (name, file) in enumerate(files.items()):
        if not file.size:
            continue
        folder = tmp_path / str(n)
        shutil.copytree(made / "blobs", folder / "blobs")
        DAMAGES[damage](folder / "blobs" / "snapshots" / SERVICE / "0of1" / "files" / file.at)
        caplog.clear()
        found = restore(wanted(), folder / "0of1", store(folder), past(140))
        assert found == ("" if file.at in shared else older)
        assert f"snapshot {newest} can't be used" in caplog.text
        assert ("is damaged: its digest is" if damage != "deleted" else "there is no such blob") in caplog.text
        assert damage == "deleted" or name in caplog.text
        assert not (folder / f"0of1{DRAFT}").exists()
        view = opened(folder / "0of1", past(140))
        for offset in range(140):
            view.apply(offset)
        assert view.counted(5) == 420
        view.close()
        assert len(problems(of(store(folder)), newest, folder)) == 1


def test_a_manifest_that_is_damaged_is_passed_over(
    two: tuple[Path, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, (newest, older) = two
    shutil.copytree(made / "blobs", tmp_path / "blobs")
    flip(tmp_path / "blobs" / "snapshots" / SERVICE / "0of1" / "manifests" / newest, 40)
    with pytest.raises(Damaged, match=f"snapshot {newest}: its manifest is damaged"):
        of(store(tmp_path)).manifest(newest)
    assert restore(wanted(), tmp_path / "0of1", store(tmp_path), past(140)) == older
    assert "an older one is looked for" in caplog.text


OTHER = LogHistory(b"another log's id", [Epoch(7, {})])
LOST = LogHistory(HISTORY.identity, [Epoch(7, {}), Epoch(9, {(int(Topic.USERS), p): 50 for p in range(PARTITIONS)})])


@pytest.mark.parametrize(
    ("form", "log", "said"),
    [
        (
            "counting 2, 6 partitions",
            past(140),
            "was written as 'counting 1, 6 partitions', this process reads 'counting 2, 6",
        ),
        ("counting 1, 8 partitions", past(140), "this process reads 'counting 1, 8 partitions'"),
        (FORM, past(140, history=OTHER), "is of the log 3031.*, and this one is 616e"),
        (FORM, past(60, history=LOST), "which ended at 50: the log has lost what followed"),
        (FORM, past(30), "which ended at 30: the log has lost what followed"),
        (
            FORM,
            past(400, first=200),
            "ends at 1.0 of topic 0 partition 0, and the log begins at 200: what is between is lost",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(
    two: tuple[Path, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str, log: Past, said: str
) -> None:
    import re

    made, _ = two
    assert restore(wanted(form=form), tmp_path / "0of1", store(made), log) == ""
    assert not (tmp_path / "0of1").exists()
    assert len(re.findall(f"is passed over: it .*{said}", caplog.text)) == 2, "both"


def test_another_layouts_snapshots_are_none_of_this_one(two: tuple[Path, list[str]], tmp_path: Path) -> None:
    made, _ = two
    assert restore(wanted(0, 2), tmp_path / "0of2", store(made), past(140)) == ""


def test_a_restore_that_is_cut_off_begins_again_and_leaves_no_folder_that_opens(
    two: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, (newest, _) = two
    count = len(of(store(made)).manifest(newest).files)
    for stop in range(count + 1):
        folder, left = tmp_path / str(stop) / "0of1", [stop]
        fetch = FolderBlobs.fetch

        def dies(self: FolderBlobs, key: str, into: Path, left: list[int] = left, fetch=fetch) -> None:  # type: ignore[no-untyped-def]
            if not left[0]:
                into.write_bytes(b"half")
                raise KeyboardInterrupt
            left[0] -= 1
            fetch(self, key, into)

        with monkeypatch.context() as patched:
            patched.setattr(FolderBlobs, "fetch", dies)
            if stop < count:
                with pytest.raises(KeyboardInterrupt):
                    restore(wanted(), folder, store(made), past(140))
                assert not folder.exists()
                assert folder.with_name(f"0of1{DRAFT}").is_dir(), "as after kill -9"
        assert restore(wanted(), folder, store(made), past(140)) == newest
        assert (folder / ORIGIN).read_text() == f"{SERVICE}/0of1 {newest}\n"
        view = opened(folder, past(140))
        assert view.counted(0) == 420
        view.close()


def test_a_folder_that_came_of_a_snapshot_and_is_damaged_is_filled_from_an_older_one_then_from_the_log(
    two: tuple[Path, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else what is wrong in a snapshot would be restored for ever."""
    made, (newest, older) = two
    folder, filled = tmp_path / "0of1", list[str]()

    def fill(empty: Path) -> None:
        filled.append(restore(wanted(), empty, store(made), past(140)))

    for _ in range(3):
        view = open_or_rebuild(folder, FORM, FAMILIES, 1, 1, fill)
        view.close()
        (folder / DAMAGED).write_text("a value can't be right\n")
    assert filled == [newest, older, ""]
    assert f"is passed over: a folder that came of {newest} was damaged" in caplog.text
    assert len(set_aside(folder)) == 1


def test_a_full_disk_ends_a_restore_and_leaves_nothing_that_opens(two: tuple[Path, list[str]], tmp_path: Path) -> None:
    made, (newest, _) = two
    with small_disk(tmp_path / "disk", 1) as disk:
        disk.fill(disk.path / "other")
        with pytest.raises(Exhausted):
            restore(wanted(), disk.path / "0of1", store(made), past(140))
        assert not (disk.path / "0of1").exists()
        disk.resize(32)
        assert restore(wanted(), disk.path / "0of1", store(made), past(140)) == newest


def test_a_store_that_is_full_or_away_leaves_no_snapshot_that_is_seen_and_the_next_one_is_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk, counting(tmp_path / "0of1", 500) as view:
        blobs = FolderBlobs(disk.path / "blobs")
        takes = taker(view, blobs)
        with pytest.raises((Exhausted, Unavailable)):
            takes.take()
        assert of(blobs).ids() == []
        assert not view.shard.dead
        view.apply(500)
        disk.resize(64)
        id_, _ = takes.take()
        assert restore(wanted(), tmp_path / "again", blobs, past(501)) == id_


def test_stores_that_are_away_are_asked_again_and_then_the_log_is_applied_if_it_holds_everything() -> None:
    asked: list[int] = []

    def away() -> str:
        asked.append(1)
        raise Unavailable("away")

    assert tried(away, "a view", past(5)) == ""
    assert len(asked) == 3
    with pytest.raises(Unavailable, match="away; the log no longer holds everything, so a view waits for it"):
        tried(away, "a view", past(5, first=2))


def test_an_id_that_is_none_is_refused(tmp_path: Path) -> None:
    for id_ in ("", "../x", "1-2", f"{NOW}-0123456g"):
        with pytest.raises(NotFound, match="there is no snapshot"):
            of(store(tmp_path)).manifest(id_)


def test_a_name_in_a_manifest_that_leads_elsewhere_is_refused(two: tuple[Path, list[str]], tmp_path: Path) -> None:
    from services.core import summed

    made, (newest, older) = two
    shutil.copytree(made / "blobs", tmp_path / "blobs")
    good = of(store(tmp_path)).manifest(newest)
    for name in ("../evil", "/etc/evil", ".hidden", "a/b", ""):
        files = good.files | {name: next(iter(good.files.values()))}
        evil = type(good)(**{n: getattr(good, n) for n in good.__struct_fields__} | {"files": files})
        of(store(tmp_path)).blobs.put(f"manifests/{newest}", summed.encoded(evil))
        shutil.rmtree(tmp_path / "0of1", ignore_errors=True)
        assert restore(wanted(), tmp_path / "0of1", store(tmp_path), past(140)) == older
        assert not (tmp_path / "evil").exists()


def test_files_are_for_their_owner_alone(two: tuple[Path, list[str]], tmp_path: Path) -> None:
    made, _ = two
    restore(wanted(), tmp_path / "0of1", store(made), past(140))
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "0of1").iterdir()} == {0o600}
    assert files_of(store(made))
    assert issubclass(Damaged, MeshError)
