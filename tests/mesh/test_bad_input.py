"""Bad input, through the edge and through the gRPC ingest API: a clear refusal each, nothing lost, nothing hung."""

import base64
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest

from polaris import layout as polaris_layout
from protos import events_pb2, feedgen_pb2, roadrunner_pb2
from roadrunner.retention import Retention
from roadrunner.store import EventLog
from services.core.clock import wall_clock
from services.ops.supervisor import FORMAT
from services.state.database import WrongFormat
from services.state.shard import Shard
from tests.mesh.command import feedmesh, left_running, refused
from tests.mesh.conftest import EDGE_S, Loaded, pins, refusal, sections
from tests.running import Running, get, running_mesh
from tests.services.children import small_disk

MB = 1 << 20
Code = grpc.StatusCode
NOW_MS = 1_750_000_000_000
_ids = itertools.count(77_000_001)


@pytest.fixture(autouse=True)
def still_well(loaded: Loaded) -> Iterator[None]:
    """Whatever was sent, the mesh answers afterwards, and no process died of it."""
    before = [health.status.pid for health in loaded.running.health() if health.status]
    yield
    started = time.monotonic()
    assert loaded.page(2)["degraded"] == []
    assert time.monotonic() - started < EDGE_S
    after = [health.status.pid for health in loaded.running.health() if health.status]
    assert after == before


# The edge.


def post(loaded: Loaded, body: Any) -> httpx.Response:
    return httpx.post(f"{loaded.running.url}/v1/events", json=body, timeout=20)


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"action": "like", "user": 2, "pin": 3}, ("action", '"like"', "save")),
        ({"action": "served", "user": 2, "pin": 3}, ("action", '"served"')),
        ({"action": "hide", "user": 0, "pin": 3}, ("user", "0")),
        ({"action": "hide", "user": 2, "pin": 0}, ("pin", "0")),
        ({"action": "hide", "user": 2, "pin": -1}, ("pin", "-1")),
        ({"action": "hide", "user": 2, "pin": 2**64}, ("pin", str(2**64))),
        ({"action": "hide", "user": 2, "pin": 2**64 - 1}, ("pin", "the mesh's own")),
        ({"action": "hide", "user": 2, "pin": 3, "id": 0}, ("id = 0",)),
        (
            {"action": "hide", "user": 2, "pin": 3, "at_ms": 33_000_000_000_000},
            ("at_ms", "33000000000000", "3015-09-24"),
        ),
        ({"action": "hide", "user": 2, "pin": 3, "at_ms": -86_400_000}, ("at_ms", "1969-12-31", "1970-01-01")),
        ({"action": "save", "user": 2, "pin": 3}, ("board",)),
        ({"action": "save", "user": 2, "pin": 3, "board": 4, "quality": 7}, ("quality", "0 to 1")),
        ({"action": "create_pin", "pin": 3, "title": "x" * 3_000}, ("title", "2048")),
    ],
)
def test_the_edge_refuses_an_event_and_what_came_with_it(loaded: Loaded, event: dict[str, Any], says: Any) -> None:
    """All of a request or nothing: the good event beside the bad one is not accepted either."""
    follower = next(_ids)
    good = {"action": "follow_user", "user": follower, "target": 2}
    refusal(post(loaded, {"events": [good, event]}), 400, "INVALID_ARGUMENT", *says)
    assert get(loaded.running, f"/v1/users/{follower}").json()["counts"]["users"] == 0


@pytest.mark.parametrize("body", [b"", b"{", b'{"events": [{"action": "hide", "us', b"\xff\xfe", b"[]", b"7"])
def test_the_edge_refuses_what_is_no_events(loaded: Loaded, body: bytes) -> None:
    answer = httpx.post(f"{loaded.running.url}/v1/events", content=body, timeout=20)
    refusal(answer, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("stated", [True, False])
def test_a_hundred_megabytes_are_not_swallowed(loaded: Loaded, stated: bool) -> None:
    """Whether the body says how long it is or not, the edge answers early and keeps none of it."""
    edge = loaded.running.child("web").process
    assert edge is not None
    process = psutil.Process(edge.pid)
    before = most = process.memory_info().rss
    chunk = b" " * MB

    def body() -> Iterator[bytes]:
        nonlocal most
        for _ in range(100):
            yield chunk
            most = max(most, process.memory_info().rss)

    headers = {"content-length": str(100 * MB)} if stated else {}
    answer = httpx.post(f"{loaded.running.url}/v1/events", content=body(), headers=headers, timeout=60)
    refusal(answer, 413, "INVALID_ARGUMENT", "max_body_mb")
    print(f"the edge grew by {(most - before) / MB:.1f} MB")
    assert most - before < 40 * MB


@pytest.mark.parametrize(
    ("path", "query", "http", "status", "says"),
    [
        ("nowhere", {}, 404, "NOT_FOUND", ("nowhere", "following")),
        ("following", {"limit": 0}, 400, "INVALID_ARGUMENT", ("limit", "1 to 100")),
        ("following", {"limit": 10**9}, 400, "INVALID_ARGUMENT", ("limit", "1 to 100")),
        ("following", {"limit": "abc"}, 400, "INVALID_ARGUMENT", ("limit", "abc")),
        ("following", {"user": 0}, 400, "INVALID_ARGUMENT", ("user", "0")),
        ("following", {"user": "me"}, 400, "INVALID_ARGUMENT", ("user", "me")),
        ("following", {"cursor": "AAAA"}, 400, "INVALID_ARGUMENT", ("cursor",)),
        ("following", {"cursor": "é" * 40}, 400, "INVALID_ARGUMENT", ("cursor",)),
        ("following", {"cursor": "A" * 60_000}, 400, "INVALID_ARGUMENT", ("cursor",)),
        ("following", {"token": "AAAA"}, 400, "INVALID_ARGUMENT", ("token",)),
        ("following", {"token": "?"}, 400, "INVALID_ARGUMENT", ("token",)),
        ("following", {"usr": 3}, 400, "INVALID_ARGUMENT", ("usr",)),
    ],
)
def test_the_edge_refuses_a_question(
    loaded: Loaded, path: str, query: dict[str, Any], http: int, status: str, says: tuple[str, ...]
) -> None:
    answer = get(loaded.running, f"/v1/feeds/{path}", **({"user": 2} | query))
    refusal(answer, http, status, *says)


def test_cursors_of_others_changed_and_cut(loaded: Loaded) -> None:
    user = next(u for u in range(2, 60) if loaded.page(u)["cursor"])
    cursor: str = loaded.page(user)["cursor"]
    data = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    for at in (0, 5, 11, len(data) // 2, len(data) - 1):
        changed = bytes(data[:at]) + bytes([data[at] ^ 1]) + bytes(data[at + 1 :])
        text = base64.urlsafe_b64encode(changed).decode().rstrip("=")
        refusal(
            get(loaded.running, "/v1/feeds/following", user=user, cursor=text),
            400,
            "INVALID_ARGUMENT",
            "cursor: was changed, or made by another mesh",
        )
    for cut in (1, 4, len(cursor) // 2, len(cursor) - 4):
        refusal(
            get(loaded.running, "/v1/feeds/following", user=user, cursor=cursor[:cut]),
            400,
            "INVALID_ARGUMENT",
            "cursor",
        )
    foreign = get(loaded.running, "/v1/feeds/following", user=user + 1, cursor=cursor)
    refusal(foreign, 400, "INVALID_ARGUMENT", f"belongs to user {user}'s following feed")


def test_a_cursor_of_two_thousand_random_ids_is_taken_back(loaded: Loaded) -> None:
    """As many pins as a cursor goes on for: it stays short, no page repeats a pin, and none is left out at the end."""
    friend, reader, board = next(_ids), next(_ids), next(_ids)
    found = [pin * 0x9E3779B97F4A7C15 % 2**63 + 1 for pin in range(1, 1_951)]
    long_ago = {"at_ms": NOW_MS}  # or they would be what is popular this week, for every reader of this mesh
    saves = [{"action": "save", "user": friend, "pin": pin, "board": board, **long_ago} for pin in found]
    saves += [{"action": "create_pin", "pin": pin, **long_ago} for pin in found]
    made = {"action": "create_board", "user": friend, "board": board}
    token = loaded.publish(made, *saves, {"action": "follow_user", "user": reader, "target": friend})["token"]
    seen: list[int] = []
    cursor = ""
    while len(seen) < len(found):
        page = loaded.page(reader, limit=100, cursor=cursor, token=token)
        assert page["items"], f"after {len(seen)} pins, with a cursor of {len(cursor)} characters"
        seen += pins(page)
        cursor = page["cursor"] or ""
        assert len(cursor) <= 1_500
    assert len(seen) == len(set(seen))
    assert set(seen) == set(found)


def test_nobody_has_an_empty_feed(loaded: Loaded) -> None:
    found = loaded.page(123_456_789_012)
    assert (found["items"], found["cursor"], found["degraded"]) == ([], None, [])
    assert get(loaded.running, "/v1/users/123456789012").json()["follows"]["users"] == []


# The ingest API, and feedgen's own.


@contextmanager
def calling(running: Running, service: str, method: str, reply: Any) -> Iterator[Callable[[bytes], Any]]:
    """One method, called with bytes, by a client that keeps to no limit."""
    with grpc.insecure_channel(running.mesh.of(service)[0].address, [("grpc.max_send_message_length", -1)]) as channel:
        call: Any = channel.unary_unary(
            f"/feedmesh.{service.capitalize()}/{method}", response_deserializer=reply.FromString
        )
        yield lambda data: call(data, timeout=20)


def refused_call(call: Callable[[bytes], Any], data: bytes, code: Code, *says: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(data)
    error: Any = caught.value
    assert error.code() == code, error.details()
    for words in says:
        assert words in error.details()


def batch(**columns: Any) -> bytes:
    """A hide of pin 3 by user 2 as a publish request, with other columns in place of its own."""
    good: dict[str, Any] = {
        "n": 1,
        "user": _u8(2),
        "action": b"\x18",
        "pin": _u8(3),
        "at_ms": _u8(NOW_MS),
        "id": _u8(next(_ids)),
    }
    return roadrunner_pb2.PublishRequest(batch=events_pb2.Batch(**(good | columns))).SerializeToString()


def _u8(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"action": b"\x63"}, ("action[0] = 99", "known actions")),
        ({"user": _u8(0)}, ("user[0] = 0",)),
        ({"pin": b""}, ("pin[0] = 0",)),
        ({"id": _u8(0)}, ("id[0] = 0",)),
        ({"at_ms": _u8(33_000_000_000_000)}, ("at_ms[0] = 33000000000000",)),
        ({"at_ms": _u8(0)}, ("at_ms[0] = 0 (no date)", "1970-01-01")),
        ({"user": _u8(2, 2)}, ("batch.user", "expected 1")),
        ({"pin": b"\x03\x00"}, ("batch.pin",)),
        ({"n": 2}, ("batch.action: 1 values, expected 2",)),
        ({"n": 4_000_000_000}, ("batch.n = 4000000000", "at most")),
        ({"n": 0}, ("batch.action",)),
        ({"title": events_pb2.Strings(ends=b"\xff\xff\xff\xff", data=b"x")}, ("title",)),
        ({"interests": events_pb2.Lists(ids=_u8(1))}, ("interests",)),
        ({"quality": b"\x00\x00\x80\x7f"}, ("quality",)),
    ],
)
def test_the_ingest_api_refuses_a_batch(loaded: Loaded, columns: dict[str, Any], says: tuple[str, ...]) -> None:
    with calling(loaded.running, "roadrunner", "Publish", roadrunner_pb2.PublishReply) as publish:
        assert publish(batch()).accepted == 1
        refused_call(publish, batch(**columns), Code.INVALID_ARGUMENT, *says)


def test_the_ingest_api_refuses_a_message_cut_short(loaded: Loaded) -> None:
    whole = batch()
    with calling(loaded.running, "roadrunner", "Publish", roadrunner_pb2.PublishReply) as publish:
        for cut in (1, 5, len(whole) // 2, len(whole) - 1):
            refused_call(publish, whole[:cut], Code.INVALID_ARGUMENT, f"the {cut} bytes are no request of Publish")
        refused_call(publish, b"\xff" * 50, Code.INVALID_ARGUMENT, "no request")
        refused_call(publish, bytes(100 * MB), Code.RESOURCE_EXHAUSTED, str(16 * MB))
        assert publish(batch()).accepted == 1


@pytest.mark.parametrize(
    ("question", "code", "says"),
    [
        ({"feed": "nowhere"}, Code.INVALID_ARGUMENT, "nowhere"),
        ({"limit": 0}, Code.INVALID_ARGUMENT, "limit = 0"),
        ({"limit": 10**9}, Code.INVALID_ARGUMENT, "limit = 1000000000"),
        ({"user": 0}, Code.INVALID_ARGUMENT, "user = 0"),
        ({"cursor": "x" * 40_000}, Code.INVALID_ARGUMENT, "cursor: 40000 characters"),
    ],
)
def test_feedgen_refuses_a_question(loaded: Loaded, question: dict[str, Any], code: Code, says: str) -> None:
    good: dict[str, Any] = {"user": 2, "feed": "following", "limit": 5}
    request = feedgen_pb2.FeedRequest(**(good | question))
    with calling(loaded.running, "feedgen", "Feed", feedgen_pb2.FeedReply) as ask:
        refused_call(ask, request.SerializeToString(), code, says)
        refused_call(ask, request.SerializeToString()[:-1] + b"\xff\xff", Code.INVALID_ARGUMENT, "")


# The machine.


def post_follow(running: Running) -> None:
    body = {"action": "follow_user", "user": 2, "target": 3}
    token = httpx.post(f"{running.url}/v1/events", json=body, timeout=20).raise_for_status().json()["token"]
    assert get(running, "/v1/users/2", token=token).json()["counts"]["users"] == 1


def test_a_full_disk(tmp_path: Path) -> None:
    """A disk that is really full: refused, read on, and with space again everything comes back by itself."""
    with small_disk(tmp_path / "disk", 64) as disk:
        settings = sections(1, mesh={"min_free_mb": 2}, prober={"every_s": 0})
        with running_mesh(disk.path / "data", settings) as running:
            post_follow(running)
            disk.fill(disk.path / "filler")
            body = {"action": "follow_user", "user": 2, "target": 4, "id": next(_ids)}
            answer = httpx.post(f"{running.url}/v1/events", json=body, timeout=20)
            refusal(answer, 429, "RESOURCE_EXHAUSTED", "disk nearly full: 0 MB free at", "2 MB are kept")
            assert str(disk.path) not in answer.text  # the folders of the machine are nothing to a caller of the edge
            assert get(running, "/v1/feeds/following", user=2).json()["degraded"] == []
            assert get(running, "/v1/users/2").json()["counts"]["users"] == 1
            (disk.path / "filler").unlink()
            running.until_caught_up()
            answer = httpx.post(f"{running.url}/v1/events", json=body, timeout=20)
            assert (answer.status_code, answer.json()["accepted"]) == (202, 1), answer.text
            token = answer.json()["token"]
            assert get(running, "/v1/users/2", token=token).json()["counts"]["users"] == 2


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = feedmesh("up", "--data", tmp_path / "data", "--port", port)
        refused(ran, 1, "[web] http_port", f"127.0.0.1:{port}", "Address already in use", "choose another")
        (tmp_path / "mesh.toml").write_text(f"[polaris]\nshards = 2\nport = {port - 1}\n")
        ran = feedmesh("up", "--data", tmp_path / "data", "--config", tmp_path / "mesh.toml", "--port", 0)
        refused(ran, 1, "[polaris] port: cannot listen on 127.0.0.1:")  # shard 1's is taken, shard 0's may be as well
    assert not left_running(tmp_path)


def test_a_data_folder_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "FORMAT").write_text("feedmesh data 99\n")
    refused(feedmesh("up", "--data", tmp_path / "data", "--port", 0), 2, "'feedmesh data 99'", repr(FORMAT), "another")
    assert not left_running(tmp_path)


def test_a_data_folder_held_by_another_mesh(loaded: Loaded) -> None:
    data = loaded.running.mesh.data
    refused(feedmesh("up", "--data", data, "--port", 0), 1, str(data), "a mesh is running on this data folder already")


def test_a_data_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(feedmesh("up", "--data", tmp_path / "file", "--port", 0), 2, str(tmp_path / "file"), "Not a directory")


def test_a_shard_of_another_partition_count(tmp_path: Path) -> None:
    """Written with 16 partitions, started with 8: named, with what to do, and nothing of it is touched."""
    folder = tmp_path / "data" / "polaris" / "0of1"
    Shard(folder, f"{polaris_layout.FORMAT}, 16 partitions", polaris_layout.FAMILIES, 1, 1).close()
    (tmp_path / "mesh.toml").write_text("[mesh]\npartitions = 8\n")
    started = time.monotonic()
    ran = feedmesh("up", "--data", tmp_path / "data", "--port", 0, "--config", tmp_path / "mesh.toml", within_s=300)
    print(f"said after {time.monotonic() - started:.1f} s")
    refused(ran, 1, "polaris-0 does not start", str(folder), "16 partitions", "8 partitions", "rebuilt from the log")
    assert not left_running(tmp_path)
    Shard(folder, f"{polaris_layout.FORMAT}, 16 partitions", polaris_layout.FAMILIES, 1, 1).close()


def test_a_log_of_another_partition_count(tmp_path: Path) -> None:
    EventLog(tmp_path, 16, Retention(), wall_clock).close()
    with pytest.raises(WrongFormat, match=r"16 partitions.* 8 partitions.*run the version and settings that wrote it"):
        EventLog(tmp_path, 8, Retention(), wall_clock)


def test_what_is_refused_is_said_in_json(loaded: Loaded) -> None:
    for path in ("/v1/nowhere", "/v1/pins/0", "/v1/pins/abc", "/v1/users/-1"):
        answer = get(loaded.running, path)
        assert answer.status_code in (400, 404)
        assert json.loads(answer.text)["error"]["message"]
