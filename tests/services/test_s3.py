"""What blobs in a bucket do beyond the contract of all stores: URLs, a store that is away, and what is left of killed writers."""

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.blob import s3_bucket
from services.blob.opening import NOTE, open_blobs, settle
from services.blob.protocol import Blobs
from services.blob.s3 import S3Blobs
from services.blob.s3_url import location_of
from services.core.errors import Conflict, Damaged, InvalidArgument, NotFound, Unavailable
from tests.seaweed import BUCKET, SECRET, Seaweed

TOPS = ("models", "graphs")


@pytest.fixture
def prefix() -> str:
    return f"s3/{secrets.token_hex(8)}"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Seaweed]:
    """A server that the test may stop."""
    server = Seaweed(tmp_path / "seaweed")
    try:
        server.start()
        yield server
    finally:
        server.stop()


def opened(server: Seaweed, prefix: str, folder: Path) -> S3Blobs:
    return S3Blobs(location_of(server.url(prefix)), folder)


def published(blobs: Blobs, prefix: str, files: dict[str, bytes]) -> None:
    with blobs.draft(prefix.rpartition("/")[0]) as draft:
        for name, content in files.items():
            (draft / name).write_bytes(content)
        blobs.publish(draft, prefix)


# --- URLs -------------------------------------------------------------------------------------------------------------


def test_a_url_says_where_and_by_which_file_of_keys(tmp_path: Path) -> None:
    at = location_of("s3://a-bucket/a/b?endpoint=https://s3.example.org&region=eu-1&credentials=/etc/keys")
    assert (at.bucket, at.prefix, at.endpoint, at.region, at.credentials) == (
        "a-bucket", "a/b", "https://s3.example.org", "eu-1", "/etc/keys",
    )  # fmt: skip
    assert at.address == "s3://a-bucket/a/b"
    assert (location_of("s3://a-bucket").prefix, location_of("s3://a-bucket/").address) == ("", "s3://a-bucket")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "no name of one"),
        ("s3://B/x", "no name of one"),
        ("s3://bucket/../x", "prefix"),
        ("s3://bucket/.x", "prefix"),
        ("s3://bucket//x", "expected s3://bucket/prefix"),
        ("s3://key:secret@bucket/x", "expected s3://bucket/prefix"),
        ("s3://bucket/x#y", "expected s3://bucket/prefix"),
        ("s3://bucket/x?secret=1", "allowed are endpoint, region, credentials"),
        ("s3://bucket/x?endpoint=", "endpoint is empty"),
        ("s3://bucket/x?endpoint=example.org", "begins with https"),
        ("s3://bucket/x?credentials=keys", "absolute path"),
        ("s3://bucket/x?region=a&region=b", "twice"),
    ],
)
def test_a_url_that_is_none_is_refused_saying_why(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"\[mesh\] blobs = .* is not allowed: .*{said}"):
        settle(tmp_path, url, TOPS)


def test_a_file_of_keys_that_holds_none_is_refused_without_its_content(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = my-secret\n")
    url = f"s3://{BUCKET}/x?credentials={keys}"
    with pytest.raises(InvalidArgument, match="expected a section") as refused:
        S3Blobs(location_of(url), tmp_path / "cache")
    assert "my-secret" not in str(refused.value)
    keys.unlink()
    with pytest.raises(Unavailable, match="keys: the credentials of the store of blobs can't be read: No such file"):
        S3Blobs(location_of(url), tmp_path / "cache")


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_data_folder_remembers_its_bucket(seaweed: Seaweed, prefix: str, tmp_path: Path) -> None:
    url = seaweed.url(prefix)
    settle(tmp_path, url, TOPS)
    settle(tmp_path, url, TOPS)
    open_blobs(tmp_path).put("models/a", b"1")
    assert opened(seaweed, prefix, tmp_path / "other").get("models/a") == b"1"
    assert (tmp_path / NOTE).read_text().strip() == url
    for other in ("", f"file://{tmp_path}/x", seaweed.url("elsewhere")):
        with pytest.raises(InvalidArgument, match=f"the blobs of .* lie in s3://{BUCKET}/{prefix}.*; to move them"):
            settle(tmp_path, other, TOPS)
    settle(tmp_path, url.replace("us-east-1", "eu-west-1"), TOPS)
    assert "eu-west-1" in (tmp_path / NOTE).read_text(), "the same blobs, reached in another way"


def test_a_bucket_that_is_not_there_is_noticed_as_it_is_named(seaweed: Seaweed, tmp_path: Path) -> None:
    url = seaweed.url("x").replace(BUCKET, "no-such-bucket-here")
    try:
        settle(tmp_path, url, TOPS)
    except Unavailable:
        assert not (tmp_path / NOTE).exists()
        return
    with pytest.raises((NotFound, Unavailable)):  # SeaweedFS answers an empty list for a bucket that it has not
        open_blobs(tmp_path).get("models/a")


# --- a store that is away ---------------------------------------------------------------------------------------------


def test_a_store_that_is_away_is_unavailable_in_time_and_then_answers_again(
    own: Seaweed, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(s3_bucket, "RETRIES", 1)
    blobs = opened(own, prefix, tmp_path / "cache")
    blobs.put("a/b", b"1")
    published(blobs, "a/v", {"f": b"file"})
    own.stop()
    calls = (lambda: blobs.get("a/b"), lambda: blobs.put("a/c", b"2"), lambda: blobs.swap("a/b", b"1", b"2"),
             blobs.keys, lambda: blobs.local("a/v/f"), lambda: blobs.delete("a/b"))  # fmt: skip
    for call in calls:
        began = time.monotonic()
        with pytest.raises(Unavailable, match=f"s3://{BUCKET}/{prefix} can't be asked") as said:
            call()
        assert time.monotonic() - began < 60
        assert SECRET not in str(said.value)
    own.start()
    assert (blobs.get("a/b"), blobs.get("a/v/f"), blobs.keys()) == (b"1", b"file", ["a/b", "a/v/f"])
    assert SECRET not in caplog.text


def test_a_store_that_is_silent_is_given_up_at_the_deadline(
    own: Seaweed, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_bucket, "RETRIES", 0)
    monkeypatch.setattr(s3_bucket, "CALL_S", 1.0)
    blobs = opened(own, prefix, tmp_path / "cache")
    blobs.put("a", b"1")
    own.freeze()
    try:
        for call in (
            lambda: blobs.get("a"),
            lambda: blobs.swap("a", b"1", b"2"),
            lambda: blobs.fetch("a", tmp_path / "f"),
        ):
            began = time.monotonic()
            with pytest.raises(Unavailable):
                call()
            assert time.monotonic() - began < 10
    finally:
        own.thaw()
    assert not (tmp_path / "f").exists()
    assert blobs.get("a") == b"1"


def test_wrong_keys_are_refused_plainly(seaweed: Seaweed, prefix: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = nobody\naws_secret_access_key = wrong-secret-of-nobody\n")
    url = f"s3://{BUCKET}/{prefix}?endpoint={seaweed.endpoint}&region=us-east-1&credentials={keys}"
    with pytest.raises(Unavailable, match="does not let these credentials do that") as said:
        S3Blobs(location_of(url), tmp_path / "cache").put("a", b"1")
    assert "wrong-secret-of-nobody" not in str(said.value)


# --- what was published -----------------------------------------------------------------------------------------------


def test_two_processes_see_what_the_other_published_and_removed(seaweed: Seaweed, prefix: str, tmp_path: Path) -> None:
    one, other = (opened(seaweed, prefix, tmp_path / name) for name in ("one", "other"))
    published(one, "g/1", {"a": b"1", "b": b"2"})
    assert (other.get("g/1/a"), other.keys("g")) == (b"1", ["g/1/a", "g/1/b"])
    one.delete("g/1/a")
    with pytest.raises(NotFound):
        other.get("g/1/a")
    assert other.get("g/1/b") == b"2"
    one.delete_all("g/1")
    assert (other.exists("g/1/b"), other.keys("g")) == (False, [])
    published(other, "g/1", {"a": b"3"})
    assert one.get("g/1/a") == b"3"
    with pytest.raises(Conflict):
        one.put("g/1/c", b"4")


def test_nothing_of_what_a_killed_writer_left_is_seen_and_it_is_removed_once_it_is_old(
    seaweed: Seaweed, prefix: str, tmp_path: Path
) -> None:
    blobs = opened(seaweed, prefix, tmp_path / "cache")
    published(blobs, "m/1", {"a": b"1"})
    bucket = blobs._bucket
    bucket.put(f"{prefix}/m/2/.files-0123456789abcdef/a", b"half")
    assert (blobs.keys("m"), blobs.names("m")) == (["m/1/a"], ["1"])
    with blobs.draft("m", 3_600):
        pass
    assert len(list(bucket.below(f"{prefix}/m/2"))) == 1, "it may still be written"
    time.sleep(1.1)  # the store's dates are whole seconds
    with blobs.draft("m", 1.0):
        pass
    assert list(bucket.below(f"{prefix}/m/2")) == []
    assert blobs.get("m/1/a") == b"1"
    published(blobs, "m/2", {"a": b"2"})
    assert blobs.get("m/2/a") == b"2"


def test_a_damaged_note_of_what_was_published_is_said(seaweed: Seaweed, prefix: str, tmp_path: Path) -> None:
    blobs = opened(seaweed, prefix, tmp_path / "cache")
    published(blobs, "m/1", {"a": b"1"})
    blobs._bucket.put(f"{prefix}/m/1/.published", b"{")
    with pytest.raises(Damaged, match=r"m/1/.published: is damaged"):
        opened(seaweed, prefix, tmp_path / "other").get("m/1/a")


def test_a_local_file_of_another_content_is_damage(seaweed: Seaweed, prefix: str, tmp_path: Path) -> None:
    blobs = opened(seaweed, prefix, tmp_path / "cache")
    published(blobs, "m/1", {"a": b"1" * 1_000})
    (file,) = (one.key for one in blobs._bucket.below(f"{prefix}/m/1") if one.key.endswith("/a"))
    blobs._bucket.put(file, b"2" * 1_000)
    with pytest.raises(Damaged, match="fetched .*, expected"):
        blobs.local("m/1/a")


def test_of_many_processes_that_publish_one_version_one_does(seaweed: Seaweed, prefix: str, tmp_path: Path) -> None:
    won: list[int] = []

    def publish(n: int) -> None:
        blobs = opened(seaweed, prefix, tmp_path / str(n))
        try:
            published(blobs, "m/1", {"a": b"%d" % n})
        except Conflict:
            return
        won.append(n)

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    blobs = opened(seaweed, prefix, tmp_path / "reader")
    assert blobs.get("m/1/a") == b"%d" % won[0]
    assert len(list(blobs._bucket.below(prefix))) == 2, "the others left nothing: one file, and the note of it"
