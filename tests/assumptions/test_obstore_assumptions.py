"""Beliefs of Feedmesh about obstore and an S3-compatible store, one test a fact: which error says what, and when it comes."""

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, PermissionDeniedError, PreconditionError
from obstore.store import S3Store

from tests.seaweed import ACCESS, BUCKET, SECRET, Seaweed

NO_RETRY: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}


def opened(
    endpoint: str, bucket: str = BUCKET, secret: str = SECRET, timeout_s: float = 5.0, retry: Any = None
) -> S3Store:
    config: Any = {"endpoint": endpoint, "region": "us-east-1", "access_key_id": ACCESS, "secret_access_key": secret}
    client: Any = {"allow_http": True, "timeout": timedelta(seconds=timeout_s), "connect_timeout": timedelta(seconds=2)}
    return S3Store(bucket, config=config, client_options=client, retry_config=retry or NO_RETRY)


@pytest.fixture
def store(seaweed: Seaweed) -> S3Store:
    return opened(seaweed.endpoint)


@pytest.fixture
def prefix() -> str:
    return f"assumptions/{secrets.token_hex(8)}"


def test_what_is_missing_is_a_file_not_found(store: S3Store, prefix: str) -> None:
    for ask in (obstore.get, obstore.head):
        with pytest.raises(FileNotFoundError):
            ask(store, f"{prefix}/none")
    assert list(obstore.list(store, prefix)) == []
    obstore.delete(store, f"{prefix}/none")


def test_a_conditional_write_says_which_condition_failed(store: S3Store, prefix: str) -> None:
    key = f"{prefix}/a"
    first = obstore.put(store, key, b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, key, b"2", mode="create")
    assert first["version"] is None
    with pytest.raises(TypeError, match="'None' is not an instance of 'str'"):
        obstore.put(store, key, b"2", mode={"e_tag": first["e_tag"], "version": None})
    update: Any = {"e_tag": first["e_tag"]}
    obstore.put(store, key, b"2", mode=update)
    with pytest.raises(PreconditionError):
        obstore.put(store, key, b"3", mode=update)
    assert bytes(obstore.get(store, key).bytes()) == b"2"
    gone: Any = {"e_tag": first["e_tag"]}
    with pytest.raises((PreconditionError, FileNotFoundError)):
        obstore.put(store, f"{prefix}/none", b"3", mode=gone)


def test_the_mark_of_an_object_is_the_same_however_it_is_asked_for(store: S3Store, prefix: str) -> None:
    key = f"{prefix}/a"
    put = obstore.put(store, key, b"content")
    (listed,) = next(iter(obstore.list(store, prefix)))
    assert put["e_tag"] == obstore.head(store, key)["e_tag"] == obstore.get(store, key).meta["e_tag"] == listed["e_tag"]
    assert listed["path"] == key
    assert listed["size"] == 7
    assert listed["last_modified"].tzinfo is not None


def test_a_prefix_is_whole_names_and_not_the_object_of_that_name(store: S3Store, prefix: str) -> None:
    for key in ("a/b", "a/.c/d", "ab", "a.x"):
        obstore.put(store, f"{prefix}/{key}", b"")
    found = [one["path"] for some in obstore.list(store, f"{prefix}/a") for one in some]
    assert sorted(found) == [f"{prefix}/a/.c/d", f"{prefix}/a/b"]


def test_a_long_list_comes_in_pieces_and_is_whole(store: S3Store, prefix: str) -> None:
    for n in range(1_050):
        obstore.put(store, f"{prefix}/{n:04}", b"")
    pieces = list(obstore.list(store, prefix, chunk_size=1_000))
    assert [len(piece) for piece in pieces] == [1_000, 50]
    assert len({one["path"] for piece in pieces for one in piece}) == 1_050


def test_a_file_is_written_in_parts_and_read_in_pieces(store: S3Store, prefix: str, tmp_path: Path) -> None:
    content = secrets.token_bytes(11 << 20)
    (tmp_path / "file").write_bytes(content)
    obstore.put(store, f"{prefix}/file", tmp_path / "file", chunk_size=5 << 20, max_concurrency=2)
    assert b"".join(bytes(piece) for piece in obstore.get(store, f"{prefix}/file").stream(1 << 20)) == content
    (tmp_path / "empty").write_bytes(b"")
    obstore.put(store, f"{prefix}/empty", (tmp_path / "empty").read_bytes(), use_multipart=False)
    assert list(obstore.get(store, f"{prefix}/empty").stream(1 << 20)) in ([], [b""])


def test_wrong_credentials_are_refused_as_such_and_the_secret_is_in_no_message(seaweed: Seaweed, prefix: str) -> None:
    wrong = "a-secret-that-is-wrong"
    store = opened(seaweed.endpoint, secret=wrong)
    with pytest.raises(PermissionDeniedError) as put:
        obstore.put(store, f"{prefix}/a", b"")
    with pytest.raises(BaseError) as listed:
        list(obstore.list(store, prefix))
    for error in (put, listed):
        assert wrong not in str(error.value)
        assert "403" in str(error.value)


def test_a_bucket_that_is_not_there_is_a_file_not_found_or_empty(seaweed: Seaweed) -> None:
    store = opened(seaweed.endpoint, bucket="no-such-bucket-here")
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "a")
    try:
        found = list(obstore.list(store))
    except (FileNotFoundError, BaseError):
        return
    assert found == []


def test_a_store_that_is_away_is_a_generic_error(prefix: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(GenericError):
        obstore.get(opened(f"http://127.0.0.1:{port}"), f"{prefix}/a")


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_store_that_is_silent_is_given_up_at_the_deadline_and_holds_no_other_thread_up(prefix: str) -> None:
    with silent_server() as port:
        store, ticks, stop = opened(f"http://127.0.0.1:{port}", timeout_s=1.0), [time.monotonic()], threading.Event()

        def tick() -> None:
            while not stop.wait(0.005):
                ticks.append(time.monotonic())

        thread = threading.Thread(target=tick)
        thread.start()
        began = time.monotonic()
        with pytest.raises(GenericError):
            obstore.get(store, f"{prefix}/a")
        took = time.monotonic() - began
        stop.set()
        thread.join()
    assert 0.9 < took < 5
    assert len(ticks) > 20, "the GIL is released meanwhile"
