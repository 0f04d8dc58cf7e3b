"""The limits of what one client may send, leave open or hold, by real sockets; and the answers to all others meanwhile."""

import fcntl
import gzip
import json
import re
import select
import socket
import termios
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.web.edge import Edge, serve_edge

HOST = b"Host: localhost\r\n"
CLICK = b'[{"user":1,"action":"click","pin":2}]'


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with serve_edge(
        tmp_path_factory.mktemp("edge"), max_body_mb=1, max_bodies_mb=2, head_timeout_s=20, event_timeout_s=60
    ) as edge:
        yield edge


def connected(edge: Edge) -> socket.socket:
    return socket.create_connection((edge.http.base_url.host, edge.http.base_url.port or 0), 20)


def all_of(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        parts.append(b"(reset)")
    return b"".join(parts)


def exchanged(edge: Edge, *sent: bytes) -> bytes:
    """Everything that comes back until the edge closes."""
    with connected(edge) as connection:
        try:
            for piece in sent:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return all_of(connection)


def problem_of(answer: bytes) -> tuple[int, dict[str, object]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer[:300]
    return int(head.split()[1]), json.loads(body)


ENDLESS = {
    "one header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"x" * 65_536),
    "a name": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"x" * 65_536),
    "many headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"a: b\r\n" * 10_000),
    "a url": (b"GET /", b"x" * 65_536),
    "a query": (b"GET /?", b"x" * 65_536),
    "blank lines": (b"", b"\r\n" * 32_768),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_head_is_ended(edge: Edge, kind: str) -> None:
    begun, more = ENDLESS[kind]
    before = psutil.Process().memory_info().rss
    status, body = problem_of(exchanged(edge, begun, *[more] * 320))  # 20 MB
    assert (status, body["title"]) == (431, "Request Header Fields Too Large")
    assert psutil.Process().memory_info().rss - before < 30 << 20
    assert edge.http.get("/v1/users").status_code == 200


def test_a_head_at_the_limit_is_read(edge: Edge) -> None:
    start = b"GET /v1/users HTTP/1.1\r\n" + HOST + b"Connection: close\r\nX: "
    for size, status in ((65_536, 200), (65_537, 431)):
        assert exchanged(edge, start.ljust(size - 4, b"x") + b"\r\n\r\n").startswith(b"HTTP/1.1 %d" % status)


POST = b"POST /v1/events HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize(
    "more", [b"1;" + b"x" * 65_536, b"0\r\n" + b"X: " + b"x" * 65_536, b"0\r\n" + b"a: b\r\n" * 20_000]
)
def test_endless_extensions_and_trailers_are_ended(edge: Edge, more: bytes) -> None:
    answer = exchanged(edge, POST + b"Transfer-Encoding: chunked\r\n\r\n", more, *[b"x" * 65_536] * 20)
    assert not answer.startswith(b"HTTP/1.1 2")
    assert edge.http.get("/v1/users").status_code == 200


def test_trailers_are_no_headers(edge: Edge) -> None:
    sent = (
        POST
        + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n%x\r\n%s\r\n0\r\nContent-Encoding: br\r\nHost: a.b\r\n\r\n"
    )
    assert exchanged(edge, sent % (len(CLICK), CLICK)).startswith(b"HTTP/1.1 202")


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        POST + b"Content-Length: -3\r\n\r\nabcd",
        POST + b"Transfer-Encoding: xchunked\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    ],
)
def test_what_is_smuggled_or_no_http_is_refused(edge: Edge, sent: bytes) -> None:
    status, body = problem_of(exchanged(edge, sent))
    assert (status, body["status"]) == (400, 400)


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/0.9", b""])
def test_other_versions_of_http_are_refused_by_name(edge: Edge, version: bytes) -> None:
    status, body = problem_of(exchanged(edge, b"GET /v1/users" + version + b"\r\n" + HOST + b"\r\n"))
    assert (status, body["detail"]) == (505, "this server speaks HTTP/1.1 and HTTP/1.0")


def test_an_answer_to_http_1_0_has_no_chunks(edge: Edge) -> None:
    head = (
        b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.%d\r\nConnection: close\r\nAccept-Encoding: gzip\r\n"
        + HOST
        + b"\r\n"
    )
    old, _, whole = exchanged(edge, head % 0).lower().partition(b"\r\n\r\n")
    new, _, _ = exchanged(edge, head % 1).lower().partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in new
    assert b"transfer-encoding" not in old
    assert b"content-encoding" not in old
    assert b"content-length: %d" % len(whole) in old


def test_upgrades_are_answered_as_http_1(edge: Edge) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = exchanged(
        edge, b"GET /v1/users HTTP/1.1\r\n" + HOST + upgrade + b"\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1, "the connection ends with it"
    refused = exchanged(edge, POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(CLICK) + CLICK)
    assert problem_of(refused)[0] == 400, "the parser would lose its body"


LAST = {
    "upgrade": (b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "close": (b"Connection: close\r\n", b"\r\n\x00\x01 no HTTP\r\n\r\n"),
    "close, and a request": (b"Connection: close\r\n", b"GET /v1/users HTTP/1.1\r\n" + HOST + b"\r\n"),
}


@pytest.mark.parametrize("kind", LAST)
@pytest.mark.parametrize("together", [True, False])
def test_what_follows_the_last_request_is_dropped(edge: Edge, kind: str, together: bool) -> None:
    """While it is being answered, in the same packet and in one of its own: the answer arrives all the same."""
    headers, more = LAST[kind]
    asked = b"GET /v1/feeds/home?user=1 HTTP/1.1\r\n" + HOST + headers + b"\r\n"
    before = len(edge.feedgen.asked)
    edge.feedgen.hold.clear()
    try:
        with connected(edge) as connection:
            connection.sendall(asked + more if together else asked)
            if not together:
                until_read(edge, connection)
                connection.sendall(more)
                until_read(edge, connection)
            edge.feedgen.hold.set()
            answer = all_of(connection)
    finally:
        edge.feedgen.hold.set()
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert (answer.count(b"HTTP/1.1 "), len(edge.feedgen.asked)) == (1, before + 1)


def until_read(edge: Edge, connection: socket.socket) -> None:
    """The edge's kernel has what was sent, and a request of another that came later was answered."""
    while pending(connection):
        pass
    edge.http.get("/v1/users")


def pending(connection: socket.socket) -> int:
    """Bytes that the other side has not acknowledged (SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4), "little")


def test_a_bad_request_is_refused_after_the_answers_before_it(edge: Edge) -> None:
    good = b"GET /v1/users HTTP/1.1\r\n" + HOST + b"\r\n"
    for bad in (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"):
        for sent in ([good * 2 + bad + good], [good * 2, bad, good]):
            answer = exchanged(edge, *sent)
            assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"200", b"400"], answer


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
def test_an_early_refusal_reaches_a_client_that_still_sends(edge: Edge, more: bytes) -> None:
    for length in (b"Content-Length: 20971520\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1400000\r\n"):
        with connected(edge) as connection:
            connection.sendall(POST + more + length)
            for _ in range(320):
                connection.sendall(b" " * 65_536)
            assert connection.recv(12) == b"HTTP/1.1 413"


def test_a_target_with_a_host_is_meant_for_that_host(edge: Edge) -> None:
    sent = b"GET http://evil.example/v1/users HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    assert problem_of(exchanged(edge, sent))[0] == 421
    assert exchanged(edge, sent.replace(b"evil.example", b"localhost:80")).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_all_answered_in_order(edge: Edge) -> None:
    asked = b"".join(b"GET /v1/pins/%d HTTP/1.1\r\n" % pin + HOST + b"\r\n" for pin in range(1, 2001))
    answer = exchanged(edge, asked + b"GET /v1/users HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    found = [answer.find(b'"detail":"pin %d:' % pin) for pin in range(1, 2001)]
    assert found == sorted(found)
    assert found[0] > 0
    assert answer.count(b"HTTP/1.1 200") == 1


def test_one_that_leaves_amid_its_body_leaves_nothing(edge: Edge) -> None:
    for _ in range(50):
        with connected(edge) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset
            connection.sendall(POST + b"Content-Length: 1000000\r\n\r\n" + b" " * 500_000)
    accepted = 0
    while accepted < 4:  # their memory is free again as soon as the edge has seen them leave: 2 MB are allowed in sum
        accepted += edge.http.post("/v1/events", content=CLICK.ljust(1 << 20)).status_code == 202


def nearly_sent(edge: Edge) -> socket.socket:
    """A body of nearly 1 MB that never ends."""
    one = connected(edge)
    one.sendall(POST + b"Content-Length: 1048576\r\n\r\n" + b" " * 1_048_000)
    return one


def test_bodies_are_bounded_together(edge: Edge) -> None:
    held, small = [nearly_sent(edge), nearly_sent(edge)], CLICK.ljust(2000)
    while (answer := edge.http.post("/v1/events", content=small)).status_code == 202:  # until both have arrived
        for one in select.select(held, [], [], 0)[0]:  # it was one of them that came last, and was refused
            held.remove(one)
            one.close()
            held.append(nearly_sent(edge))
    assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), answer.text
    assert edge.http.get("/v1/users").status_code == 200
    for one in held:
        one.close()
    while (answer := edge.http.post("/v1/events", content=small)).status_code == 503:
        pass
    assert answer.status_code == 202


def test_a_later_request_has_a_deadline_of_its_own(tmp_path: Path) -> None:
    with (
        serve_edge(tmp_path, event_timeout_s=0.5) as edge,
        httpx.Client(base_url=edge.http.base_url, timeout=20) as one,
    ):
        begun = time.monotonic()
        while time.monotonic() - begun < 1.5:  # longer than the first request's deadline, on one connection
            assert one.post("/v1/events", content=CLICK.ljust(1 << 20)).status_code == 202


def test_slow_heads_and_silent_connections_end(tmp_path: Path) -> None:
    with serve_edge(tmp_path, head_timeout_s=0.3) as edge:
        assert problem_of(exchanged(edge, b"GET / HTTP/1.1\r\nHost: loc"))[0] == 408
        assert exchanged(edge) == b""
        assert exchanged(edge, b"\r\n").startswith(b"HTTP/1.1 408")
        edge.http.get("/v1/users")  # a connection that was of use stays


def test_new_connections_take_the_places_of_idle_ones(tmp_path: Path) -> None:
    with serve_edge(tmp_path, max_connections=20) as edge, ExitStack() as open_ones:
        idle = [open_ones.enter_context(connected(edge)) for _ in range(200)]
        for one in idle[:20]:
            try:
                one.sendall(b"GET / HTTP/1.1\r\nHost: l")
            except OSError:
                pass
        assert edge.http.get("/v1/users").status_code == 200
        assert all_of(idle[0]) in (b"", b"(reset)"), "the oldest went first"


# H06


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(CLICK, mtime=0)),
        ("GZIP", gzip.compress(CLICK[:5], mtime=0) + gzip.compress(CLICK[5:], mtime=0)),
        ("x-gzip", gzip.compress(CLICK, mtime=0)),
        ("deflate", zlib.compress(CLICK)),
        ("identity", CLICK),
        ("", CLICK),
    ],
)
def test_H06_packed_bodies_are_read(edge: Edge, coding: str, packed: bytes) -> None:
    answer = edge.http.post("/v1/events", content=packed, headers={"content-encoding": coding})
    assert (answer.status_code, answer.json().get("accepted")) == (202, 1), answer.text


@pytest.mark.parametrize(
    ("coding", "packed", "status", "said"),
    [
        ("br", b"abc", 415, "content-encoding = br"),
        ("gzip, gzip", gzip.compress(gzip.compress(CLICK, mtime=0), mtime=0), 415, "content-encoding = gzip, gzip"),
        ("gzip", CLICK, 400, "is not gzip"),
        ("gzip", gzip.compress(CLICK, mtime=0)[:-5], 400, "cut short"),
        ("gzip", b"", 400, "cut short"),
        ("gzip", gzip.compress(CLICK, mtime=0) + b"rest", 400, "is not gzip"),
        ("gzip", gzip.compress(b" " * (200 << 20), mtime=0), 413, "over 1048576 bytes"),
    ],
)
def test_H06_what_is_packed_otherwise_is_refused(
    edge: Edge, coding: str, packed: bytes, status: int, said: str
) -> None:
    answer = edge.http.post("/v1/events", content=packed, headers={"content-encoding": coding})
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert (answer.headers.get("accept-encoding") is not None) == (status == 415)


def test_others_are_answered_while_one_sends_an_endless_header(edge: Edge) -> None:
    stop, sent = threading.Event(), []

    def flood() -> None:
        while not stop.is_set():
            sent.append(exchanged(edge, ENDLESS["one header"][0], *[b"x" * 65_536] * 50))

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        answers = {httpx.get(f"{edge.http.base_url}/v1/users").status_code for _ in range(20)}
    finally:
        stop.set()
        flooding.join()
    assert answers == {200}
