"""The contract of every store of blobs behind `services.blob.protocol.Blobs`.

A backend is one more class and one name in LOCAL or IN_A_BUCKET. Two stores of one place are as two processes.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.blob.folder import FolderBlobs
from services.blob.memory import MemoryBlobs
from services.blob.protocol import Blobs
from services.blob.s3 import S3Blobs
from services.blob.s3_url import location_of
from services.core.errors import Conflict, Damaged, InvalidArgument, MeshError, NotFound
from tests.seaweed import Seaweed

LOCAL: dict[str, Callable[[Path], Blobs]] = {
    "folder": lambda folder: FolderBlobs(folder / "data"),
    "folder, a part of it": lambda folder: FolderBlobs(folder / "data").below("part/of/it"),
    "memory": lambda folder: MemoryBlobs(folder / "cache"),
    "memory, a part of it": lambda folder: MemoryBlobs(folder / "cache").below("part/of/it"),
}


def bucket(seaweed: Seaweed, folder: Path) -> Blobs:
    return S3Blobs(location_of(seaweed.url(f"contract/{secrets.token_hex(8)}")), folder / "cache")


#: In a real store that is started once; each test has a prefix of its own there.
IN_A_BUCKET: dict[str, Callable[[Seaweed, Path], Blobs]] = {
    "s3": bucket,
    "s3, a part of it": lambda seaweed, folder: bucket(seaweed, folder).below("part/of/it"),
}
BACKENDS = [*LOCAL, *IN_A_BUCKET]
HOSTILE = (
    "", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", ".", "a/./b", "a//b", "a/", "/a", ".draft-1", "a/.hidden", "a\\b",
    "a b", "a\0b", "a\nb", "é", "\ud800", "C:", "~", "~root/x", "%2e%2e/x", "a/" * 300 + "a", "a" * 129, "file://x", "s3://b/k",
)  # fmt: skip


@pytest.fixture(params=BACKENDS)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param in LOCAL:
        return LOCAL[request.param](tmp_path)
    return IN_A_BUCKET[request.param](request.getfixturevalue("seaweed"), tmp_path)


def published(blobs: Blobs, prefix: str, files: dict[str, bytes]) -> None:
    with blobs.draft(prefix.rpartition("/")[0]) as draft:
        for name, content in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        blobs.publish(draft, prefix)


def test_an_empty_store_has_nothing(blobs: Blobs, tmp_path: Path) -> None:
    assert (blobs.keys(), blobs.names(), blobs.keys("a/b"), blobs.names("a")) == ([], [], [], [])
    assert not blobs.exists("a")
    for read in (blobs.get, blobs.local, blobs.folder, blobs.stat, blobs.digest):
        with pytest.raises(NotFound, match="a/b"):
            read("a/b")
    with pytest.raises(NotFound, match="a/b"):
        blobs.fetch("a/b", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    blobs.delete("a/b")
    blobs.delete_all("a")


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(3_000_000)], ids=["empty", "one", "big"])
def test_what_is_put_is_read(blobs: Blobs, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source").write_bytes(content)
    blobs.put("a/bytes.bin", content)
    blobs.put("a/file.bin", tmp_path / "source")
    for key in ("a/bytes.bin", "a/file.bin"):
        assert blobs.get(key) == blobs.local(key).read_bytes() == content
        assert blobs.exists(key)
        assert blobs.stat(key).size == len(content)
        blobs.fetch(key, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == content
        (tmp_path / "fetched").unlink()
    assert blobs.digest("a/bytes.bin") == blobs.digest("a/file.bin")
    assert (tmp_path / "source").read_bytes() == content, "the source stays"


def test_a_blob_is_replaced_and_readers_of_the_one_before_read_on(blobs: Blobs) -> None:
    blobs.put("a", b"one" * 1000)
    mark, digest, mapped = blobs.stat("a").mark, blobs.digest("a"), np.memmap(blobs.local("a"), np.uint8, mode="r")
    assert blobs.stat("a").mark == mark
    blobs.put("a", b"two" * 1000)
    assert blobs.get("a") == blobs.local("a").read_bytes() == b"two" * 1000
    assert mapped.tobytes() == b"one" * 1000
    assert blobs.stat("a").mark != mark
    assert blobs.digest("a") != digest
    blobs.put("a", b"one" * 1000)
    assert blobs.digest("a") == digest


def test_keys_and_names_are_told_by_prefix_in_order(blobs: Blobs) -> None:
    for key in ("b/2/x", "b/10/x", "b/10/deep/y", "ba/z", "b-file", "a"):
        blobs.put(key, b"")
    assert blobs.keys() == ["a", "b-file", "b/10/deep/y", "b/10/x", "b/2/x", "ba/z"]
    assert blobs.keys("b") == ["b/10/deep/y", "b/10/x", "b/2/x"], "a prefix is whole names: ba is another"
    assert (blobs.names(), blobs.names("b"), blobs.names("b/10")) == (
        ["a", "b", "b-file", "ba"],
        ["10", "2"],
        ["deep", "x"],
    )
    assert (blobs.keys("a"), blobs.names("none/such")) == ([], [])


def test_what_is_deleted_is_gone(blobs: Blobs) -> None:
    for key in ("a/b/c", "a/b/d", "a/e"):
        blobs.put(key, b"x")
    blobs.delete("a/e")
    assert (blobs.keys(), blobs.exists("a/e")) == (["a/b/c", "a/b/d"], False)
    blobs.delete("a/b")
    assert blobs.keys() == ["a/b/c", "a/b/d"], "of a prefix nothing is deleted"
    blobs.delete_all("a/b")
    assert (blobs.keys(), blobs.names()) == ([], [])
    with pytest.raises(NotFound):
        blobs.folder("a/b")
    blobs.put("a/b/c", b"again")
    assert blobs.get("a/b/c") == b"again"


def test_a_key_is_no_beginning_of_another(blobs: Blobs) -> None:
    blobs.put("a/b", b"x")
    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(Conflict, match=key):
            blobs.put(key, b"y")
        assert not blobs.exists(key)
    with pytest.raises((NotFound, Damaged)):
        blobs.get("a")
    assert blobs.keys() == ["a/b"]


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_refused_by_name_and_touches_nothing(blobs: Blobs, tmp_path: Path, key: str) -> None:
    blobs.put("a/b", b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "draft").mkdir()
    before = sorted(tmp_path.rglob("*"))
    calls: list[Callable[[], object]] = [
        lambda: blobs.put(key, b""), lambda: blobs.swap(key, None, b""), lambda: blobs.get(key), lambda: blobs.local(key),
        lambda: blobs.folder(key), lambda: blobs.stat(key), lambda: blobs.digest(key), lambda: blobs.exists(key),
        lambda: blobs.delete(key), lambda: blobs.delete_all(key), lambda: blobs.publish(tmp_path / "draft", key),
        lambda: blobs.below(key), lambda: blobs.fetch(key, tmp_path / "fetched"),
    ]  # fmt: skip
    if key:
        calls += [lambda: blobs.keys(key), lambda: blobs.names(key), lambda: blobs.draft(key).__enter__()]
    for call in calls:
        with pytest.raises(InvalidArgument, match="key = .* is not allowed: at most 512 characters"):
            call()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_pointer_moves_only_from_what_it_was(blobs: Blobs) -> None:
    with pytest.raises(Conflict, match="current: was changed meanwhile"):
        blobs.swap("current", b"1", b"2")
    assert not blobs.exists("current")
    blobs.swap("current", None, b"1")
    for old in (None, b"", b"2"):
        with pytest.raises(Conflict):
            blobs.swap("current", old, b"3")
    blobs.swap("current", b"1", b"2")
    assert blobs.get("current") == b"2"


def test_of_many_that_move_a_pointer_at_once_each_counts(blobs: Blobs) -> None:
    """Lost updates would leave a smaller number."""
    blobs.put("n", b"0")

    def count() -> None:
        left = 20
        while left:
            was = blobs.get("n")
            try:
                blobs.swap("n", was, b"%d" % (int(was) + 1))
            except Conflict:
                continue
            left -= 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.get("n") == b"80"


def test_a_read_while_another_writes_reads_something_whole(blobs: Blobs) -> None:
    contents = [bytes([n]) * 100_000 for n in (1, 2)]
    blobs.put("a", contents[0])
    stop, seen = threading.Event(), set[int]()

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                blobs.put("a", content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(seen) < 2:
            found = blobs.get("a")
            assert found in contents
            seen.add(found[0])
    finally:
        stop.set()
        writer.join()
    assert blobs.keys() == ["a"]


FILES = {"manifest.json": b"{}", "part-0.sst": os.urandom(70_000), "deep/er.bin": b"x", "empty": b""}


def test_a_draft_is_published_whole(blobs: Blobs) -> None:
    with blobs.draft("models/ranker") as draft:
        for name, content in FILES.items():
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_bytes(content)
        assert (blobs.keys(), blobs.names("models")) == ([], []), "no reader sees a draft"
        blobs.publish(draft, "models/ranker/1")
    assert blobs.keys() == sorted(f"models/ranker/1/{name}" for name in FILES)
    there = blobs.folder("models/ranker/1")
    for name, content in FILES.items():
        assert blobs.get(f"models/ranker/1/{name}") == (there / name).read_bytes() == content
    assert not draft.exists()


def test_what_is_published_takes_no_others_place(blobs: Blobs) -> None:
    published(blobs, "g/1", {"a": b"first"})
    blobs.put("g/pointer", b"1")
    for taken in ("g/1", "g", "g/pointer", "g/pointer/2"):
        with blobs.draft("g") as draft:
            (draft / "a").write_bytes(b"second")
            with pytest.raises(Conflict, match=taken):
                blobs.publish(draft, taken)
            assert (draft / "a").read_bytes() == b"second", "and may be published elsewhere"
            blobs.publish(draft, f"h/{taken.replace('/', '-')}", durable=False)
    assert blobs.get("g/1/a") == b"first"
    assert blobs.keys("g") == ["g/1/a", "g/pointer"]
    assert blobs.names("h") == ["g", "g-1", "g-pointer", "g-pointer-2"]


def test_of_many_that_publish_at_once_each_gets_a_place_of_its_own(blobs: Blobs) -> None:
    def publish(own: bytes) -> None:
        with blobs.draft("m") as draft:
            (draft / "a").write_bytes(own)
            n = 1
            while True:
                try:
                    blobs.publish(draft, f"m/{n}")
                except Conflict:
                    n += 1
                else:
                    return

    threads = [threading.Thread(target=publish, args=(b"%d" % n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.names("m") == list("123456")
    assert {blobs.get(f"m/{n}/a") for n in range(1, 7)} == {b"%d" % n for n in range(6)}


def test_a_draft_that_is_not_published_leaves_nothing(blobs: Blobs) -> None:
    with pytest.raises(ZeroDivisionError), blobs.draft("m") as draft:
        (draft / "a").write_bytes(b"x")
        _ = 1 / 0
    assert not draft.exists()
    assert blobs.keys() == []


def test_drafts_of_others_that_go_on_stay(blobs: Blobs) -> None:
    with blobs.draft("m") as one, blobs.draft("m") as other:
        assert one != other
        (one / "a").write_bytes(b"x")
        blobs.publish(one, "m/1")
        assert other.is_dir()


def test_a_part_of_a_store_is_one(blobs: Blobs) -> None:
    part = blobs.below("models/ranker")
    part.put("1/manifest.json", b"{}")
    blobs.put("models/other/1/x", b"")
    assert part.keys() == ["1/manifest.json"]
    assert part.names() == ["1"]
    assert blobs.get("models/ranker/1/manifest.json") == part.get("1/manifest.json") == b"{}"
    published(part, "2", {"manifest.json": b"[]"})
    assert blobs.names("models/ranker") == part.names() == ["1", "2"]
    assert part.below("2").get("manifest.json") == b"[]"


def test_an_error_is_one_of_the_mesh_and_names_the_key(blobs: Blobs, tmp_path: Path) -> None:
    for call in (lambda: blobs.get("a/b"), lambda: blobs.swap("a/b", b"1", b"2")):
        with pytest.raises(MeshError, match="^a/b: "):
            call()


# --- the folder alone: files from before there were keys --------------------------------------------------------------


def test_files_of_before_are_blobs_and_odd_names_are_none(tmp_path: Path) -> None:
    version = tmp_path / "models" / "ranker" / "1"
    version.mkdir(parents=True)
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    for name in ("manifest.json", ".manifest.json.7.draft", "with space"):
        (version / name).write_bytes(b"{}")
    blobs = FolderBlobs(tmp_path)
    assert blobs.keys() == ["models/ranker/1/manifest.json"]
    assert blobs.names() == ["models"], "a folder of no files holds no blobs"
    assert blobs.local("models/ranker/1/manifest.json") == version / "manifest.json", "and none is copied"
    assert blobs.folder("models/ranker/1") == version


def test_a_blob_is_for_its_owner_alone_and_no_draft_of_it_stays(tmp_path: Path) -> None:
    FolderBlobs(tmp_path).put("a/b", b"x")
    assert [(p.name, p.stat().st_mode & 0o777) for p in (tmp_path / "a").iterdir()] == [("b", 0o600)]


def test_a_link_leads_out_of_no_top_folder_and_that_may_be_one(tmp_path: Path) -> None:
    (tmp_path / "disk" / "ranker").mkdir(parents=True)
    (tmp_path / "disk" / "ranker" / "report.html").write_bytes(b"report")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "disk" / "ranker" / "stolen").symlink_to(tmp_path / "secret")
    data = tmp_path / "data"
    data.mkdir()
    (data / "models").symlink_to(tmp_path / "disk")
    (data / "stolen").symlink_to(tmp_path / "secret")
    blobs = FolderBlobs(data)
    for store, start in (
        (blobs, "models/ranker/"),
        (blobs.below("models"), "ranker/"),
        (blobs.below("models/ranker"), ""),
    ):
        assert store.get(f"{start}report.html") == b"report"
        for read in (store.get, store.local, store.stat, store.digest):
            with pytest.raises(NotFound, match="stolen: is a link that leads out of the store"):
                read(f"{start}stolen")
    with pytest.raises(NotFound):
        blobs.get("stolen")


def test_a_folder_in_the_place_of_a_blob_is_damage(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    with pytest.raises(Damaged, match="current: is a folder, where a file is expected"):
        FolderBlobs(tmp_path).get("current")


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    for name, age_s in ((".draft-old", 7_200), (".draft-new", 10)):
        (tmp_path / "m" / name).mkdir(parents=True)
        os.utime(tmp_path / "m" / name, (time.time() - age_s,) * 2)
    with FolderBlobs(tmp_path).draft("m", 3_600):
        pass
    assert [path.name for path in (tmp_path / "m").iterdir()] == [".draft-new"]
