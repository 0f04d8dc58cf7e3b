"""Bodies, paths and crowds of connections that are made to hurt, by real sockets; and what all others see meanwhile."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import psutil
import pytest

from tests.web.edge import Edge, serve_edge

HOST = b"Host: localhost\r\n"
EVENT = b'{"user":1,"action":"click","pin":2}'
MB = 1 << 20


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Reads have time enough: attackers, readers and all services share this one process and its lock."""
    with serve_edge(tmp_path_factory.mktemp("edge"), max_bodies_mb=16, read_timeout_s=60) as edge:
        yield edge


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def posted(edge: Edge, body: bytes) -> httpx.Response:
    return edge.http.post("/v1/events", content=body, headers={"content-type": "application/json"})


def connected(edge: Edge) -> socket.socket:
    return socket.create_connection((edge.http.base_url.host, edge.http.base_url.port or 0), 20)


@contextmanager
def others_are_answered(edge: Edge) -> Iterator[None]:
    """While the block runs, and at least twenty times, a reader with connections of its own gets its answers."""
    over, answers = threading.Event(), list[int]()

    def read() -> None:
        while not over.is_set() or len(answers) < 20:
            answers.append(httpx.get(f"{edge.http.base_url}/v1/users", timeout=60).status_code)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        yield
    finally:
        over.set()
        reading.join()
    assert set(answers) == {200}


DEEP = 100_000
BAD_BODIES = {
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"events":' * DEEP + b"[]" + b"}" * DEEP,
    "deep and open": b"[" * DEEP,
    "deep in a field": b'[{"user":1,"action":"click","pin":' + b"[" * DEEP + b"]" * DEEP + b"}]",
    "deep in an unknown field": b'{"action":"click","x":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "no finite number": b'[{"user":1,"action":"save","pin":2,"board":3,"quality":1e400}]',
    "less than none": b'[{"user":1,"action":"save","pin":2,"board":3,"quality":-1e400}]',
    "a fraction of a pin": b'[{"user":1,"action":"click","pin":2.5}]',
    "a pin as a float": b'[{"user":1,"action":"click","pin":1e30}]',
    "a huge integer": b'[{"user":1,"action":"click","pin":' + b"9" * 100_000 + b"}]",
    "2^64": b'[{"user":1,"action":"click","pin":18446744073709551616}]',
    "digits without end": b'[{"user":1,"action":"click","pin":"' + b"9" * 100_000 + b'"}]',
    "a negative pin": b'[{"user":1,"action":"click","pin":-1}]',
    "not a number": b'[{"user":1,"action":"click","pin":2,"at_ms":NaN}]',
    "no UTF-8": b'[{"user":1,"action":"create_pin","pin":2,"title":"caf\xe9"}]',
    "no UTF-8 in a key": b'[{"us\xffer":1,"action":"click","pin":2}]',
    "half a surrogate": b'[{"user":1,"action":"create_pin","pin":2,"title":"\\ud800"}]',
    "a NUL": b'[{"user":1,"action":"create_pin","pin":2,"title":"a\\u0000b"}]',
    "a raw NUL": b'[{"user":1,"action":"create_pin","pin":2,"title":"a\x00b"}]',
    "UTF-16": "[]".encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf[" + EVENT + b"]",
    "two bodies": b"[" + EVENT + b"][" + EVENT + b"]",
    "no events": b'{"events":[]}',
}


@pytest.mark.parametrize("kind", BAD_BODIES)
def test_bad_json_is_refused_in_words_and_nothing_is_kept(edge: Edge, kind: str) -> None:
    before = edge.events()
    answer = posted(edge, BAD_BODIES[kind])
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), answer.text[:300]
    assert len(answer.content) < 2000, "what is refused is not sent back"
    assert "Traceback" not in answer.text
    assert edge.events() == before


def test_10_000_events_are_taken_and_one_more_is_not(edge: Edge) -> None:
    for form in (b"[%s]", b'{"events":[%s]}'):
        assert posted(edge, form % b",".join([EVENT] * 10_000)).json()["accepted"] == 10_000
        answer = posted(edge, form % b",".join([EVENT] * 10_001))
        assert (answer.status_code, "10000" in answer.json()["detail"]) == (400, True), answer.text


def test_of_a_key_that_comes_twice_none_counts(edge: Edge) -> None:
    """A proxy that judges bodies may see the first, and what is stored would be the last."""
    before = edge.events()
    twice = b'[{"user":7001,"user":7002,"action":"follow_user","target":1}]'
    answer = posted(edge, twice)
    assert (answer.status_code, answer.json()["detail"]) == (400, "events[0].user is stated twice; once is allowed")
    assert edge.events() == before


@pytest.mark.parametrize(
    "bad", ["%ff", "%c3%28", "%00", "1%00", "%ed%a0%80", "%f4%90%80%80", "9" * 60_000, "..%2f..%2fetc%2fpasswd"]
)
def test_bad_paths_and_queries_are_refused_in_words(edge: Edge, bad: str) -> None:
    for target in (f"/v1/pins/{bad}", f"/v1/users/{bad}", f"/v1/feeds/{bad}?user=1", f"/v1/feeds/home?user={bad}"):
        with connected(edge) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split()[1] in (b"400", b"404"), answer[:300]
        assert json.loads(body)["error"]["message"]
        assert len(body) < 2000


def test_1000_connections_that_dawdle_keep_no_reader_out(edge: Edge) -> None:
    begun = (
        b"",
        b"GET / HTT",
        b"GET / HTTP/1.1\r\nHost: loc",
        b"POST /v1/events HTTP/1.1\r\n" + HOST + b"Content-Length: 99\r\n\r\n{",
    )
    before = resident()
    with others_are_answered(edge), ExitStack() as dawdling:
        for i in range(1000):
            dawdling.enter_context(connected(edge)).sendall(begun[i % len(begun)])
        for _ in range(20):
            assert httpx.get(f"{edge.http.base_url}/v1/users", timeout=60).status_code == 200
        assert posted(edge, b"[" + EVENT + b"]").status_code == 202
    assert resident() - before < 100 * MB


def test_60_large_bodies_at_once_are_bounded_together(edge: Edge) -> None:
    """7 MB of each: 420 MB, where 16 MB may be held. Each is taken whole or refused for now."""
    body = (b"[" + EVENT + b"]").ljust(7 * MB)
    posted(edge, body)  # the cost of one is no growth
    before, most, over = resident(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            most[0] = max(most[0], resident())

    def send(_: int) -> int:
        """By a socket, as a client library copies what it sends, in this process too."""
        with connected(edge) as connection:
            try:
                connection.sendall(b"POST /v1/events HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body))
                connection.sendall(body)
                return int(connection.recv(12).split()[1])
            except (OSError, IndexError):
                return 503  # ended while it was still sending

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with others_are_answered(edge), ThreadPoolExecutor(60) as pool:
            answers = list(pool.map(send, range(60)))
    finally:
        over.set()
        watching.join()
    assert set(answers) <= {202, 503}
    assert most[0] - before < 100 * MB, "60 posts of 7 MB took 2.2 GB"
    while posted(edge, body).status_code == 503:
        pass  # until the last of them is gone


def test_50_mb_of_heads_at_once_keep_no_reader_out(edge: Edge) -> None:
    """From 50 connections, 1 MB each."""

    def flood(_: int) -> None:
        with connected(edge) as connection:
            try:
                connection.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"X: ")
                for _ in range(16):
                    connection.sendall(b"x" * 65_536)
                while connection.recv(65_536):
                    pass
            except OSError:
                pass  # ended by the edge, as it should be

    before = resident()
    with others_are_answered(edge), ThreadPoolExecutor(50) as pool:
        list(pool.map(flood, range(50)))
    assert resident() - before < 60 * MB
