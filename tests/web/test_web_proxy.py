"""The edge behind nginx as Debian has it, with its default buffers: a reader's answers through a real proxy."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from feedgen.cursor import Cursors
from feedgen.shown import NOTHING
from protos import feedgen_pb2 as pb
from services.core.events import Surface
from tests.web.edge import Edge, serve_edge
from tests.web.proxying import MISSING, NGINX, Proxy, nginx

pytestmark = pytest.mark.skipif(NGINX is None, reason=MISSING)
CLICK = b'[{"user":1,"action":"click","pin":2}]'
SERVED = """
    upstream kept {{ server {edge}; keepalive 4; }}
    server {{
        listen unix:{at}/socket;
        client_max_body_size 0;
        location / {{ proxy_pass http://{edge}; }}                  # HTTP/1.0, as nginx has it by default
        location /feedmesh/ {{ proxy_pass http://{edge}/; proxy_set_header Host $http_host; }}
        location /kept/ {{
            proxy_pass http://kept/;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
        }}
        location /upgrading/ {{
            proxy_pass http://{edge}/;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
        }}
        location /unbuffered/ {{
            proxy_pass http://{edge}/;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
        }}
    }}
"""


def served(at: Path, edge: Edge) -> str:
    """The edge behind several paths, each with other settings of nginx."""
    return SERVED.format(at=at, edge=edge.http.base_url.netloc.decode())


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with serve_edge(tmp_path_factory.mktemp("edge"), max_body_mb=1, event_timeout_s=20) as edge:
        yield edge


@pytest.fixture(scope="module")
def proxy(edge: Edge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    at = tmp_path_factory.mktemp("nginx")
    with nginx(at, served(at, edge)) as proxy:
        yield proxy


def test_R19_a_cursor_of_2000_shown_pins_passes_default_buffers(edge: Edge, proxy: Proxy) -> None:
    cursors, shown = Cursors(b"secret"), NOTHING
    pins = np.random.default_rng(1).integers(1, 2**64, 2000, np.uint64)
    for start in range(0, 2000, 25):
        cursor = cursors.make(7, Surface.HOME, shown.adding(pins[start : start + 25]))
        shown = cursors.read(cursor, 7, Surface.HOME)
    assert shown.count == 2000
    edge.feedgen.reply = pb.FeedReply(items=[pb.Item(pin=1)], cursor=cursor)
    for path in ("/v1", "/feedmesh/v1", "/kept/v1"):
        asked = {"user": "7", "cursor": cursor}
        answer = proxy.http.get(f"{path}/feeds/home", params=asked, headers={"cookie": "x" * 2000})
        assert (answer.status_code, answer.json()["cursor"]) == (200, cursor)
        assert edge.feedgen.asked[-1][0].cursor == cursor
    too_long = proxy.http.get("/v1/feeds/home", params={"user": "7", "cursor": cursor * 8})
    assert too_long.status_code == 414, "the buffers are nginx's own"


def test_H08_the_pages_work_behind_a_prefix_that_the_proxy_takes_off(proxy: Proxy) -> None:
    for path, kind in (("/", "text/html"), ("/docs", "text/html"), ("/static/feed.js", "text/javascript")):
        answer = proxy.http.get(f"/feedmesh{path}")
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind)
    document = proxy.http.get("/feedmesh/openapi.json")
    assert document.json()["servers"][0]["url"] == "."
    assert proxy.http.get("/feedmesh/v1/users").status_code == 200
    assert proxy.http.get("/feedmesh/static/..%2f..%2fapp.py").status_code in (400, 404)


@pytest.mark.parametrize("path", ["", "/feedmesh", "/kept", "/unbuffered", "/upgrading"])
def test_large_answers_and_refusals_arrive_whole(proxy: Proxy, path: str) -> None:
    for takes in ("gzip", "identity"):
        answer = proxy.http.get(f"{path}/docs/assets/swagger-ui-bundle.js", headers={"accept-encoding": takes})
        assert (answer.status_code, len(answer.content) > 500_000) == (200, True)
    for body in (CLICK.ljust(20 << 20), CLICK.ljust((1 << 20) + 1)):
        answer = proxy.http.post(f"{path}/v1/events", content=body)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json"), answer.text[
            :200
        ]
        assert "max_body_mb" in answer.json()["detail"]
    assert proxy.http.post(f"{path}/v1/events", content=CLICK).status_code == 202


def test_writes_of_the_page_itself_need_the_readers_host(proxy: Proxy) -> None:
    own = {"origin": "http://feeds.localhost", "host": "feeds.localhost", "content-type": "application/json"}
    assert proxy.http.post("/kept/v1/events", content=CLICK, headers=own).status_code == 202
    other = {**own, "origin": "http://evil.example"}
    assert proxy.http.post("/kept/v1/events", content=CLICK, headers=other).status_code == 403
    assert proxy.http.post("/v1/events", content=CLICK, headers=own).status_code == 403, (
        "Host is the edge's own address"
    )


def test_upgrades_are_answered_as_http_1_behind_a_proxy_too(proxy: Proxy) -> None:
    asked = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "a" * 22,
    }
    for headers in ({}, asked, {"upgrade": "h2c", "connection": "Upgrade"}):
        for _ in range(10):
            assert proxy.http.get("/upgrading/v1/users", headers=headers).status_code == 200
    assert proxy.http.post("/upgrading/v1/events", content=CLICK).status_code == 202, "Connection: upgrade, to nothing"


def test_connections_to_the_edge_are_used_again(edge: Edge, proxy: Proxy) -> None:
    assert proxy.http.get("/kept/v1/users").status_code == 200
    ports = proxy.upstream()
    for n in range(60):
        assert proxy.http.get(f"/kept/v1/users/{n + 1}").status_code == 200
        assert proxy.http.post("/kept/v1/events", content=CLICK).status_code == 202
        assert proxy.http.get("/kept/v1/users?limit=0").status_code == 400
    assert proxy.upstream() <= ports, "no connection was made anew"
    assert ports


def test_slow_clients_of_a_proxy_keep_no_others_out(tmp_path: Path) -> None:
    """Those whose bodies the proxy waits for never come to the edge; those that it passes on take no place there."""
    with (
        serve_edge(tmp_path, max_requests=2, max_connections=64, event_timeout_s=1, read_timeout_s=20) as edge,
        nginx(tmp_path, served(tmp_path, edge)) as proxy,
        ExitStack() as slow,
    ):
        head = "POST {}/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n["
        dawdling = []
        for path in ("", "/kept", "/unbuffered", "/unbuffered") * 10:
            one = slow.enter_context(proxy.connected())
            one.sendall(head.format(path).encode())
            dawdling.append((path, one))
        for _ in range(20):
            assert proxy.http.get("/v1/users").status_code == 200
        for path, one in dawdling:
            if path == "/unbuffered":
                answer = one.recv(65_536)
                assert answer.startswith(b"HTTP/1.1 408"), "the edge's own, through the proxy"
        taking = slow.enter_context(proxy.connected())  # one that takes its answer bit by bit
        taking.sendall(b"GET /unbuffered/docs/assets/swagger-ui-bundle.js HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert taking.recv(100).startswith(b"HTTP/1.1 200")
        for _ in range(20):
            assert proxy.http.get("/v1/users").status_code == 200
        parts = list(iter(lambda: taking.recv(65_536), b""))
        assert sum(map(len, parts)) > 500_000


@pytest.mark.parametrize(
    "smuggled",
    [
        b"POST /kept/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /kept/v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"POST /unbuffered/v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\nG\r\n\r\n",
        b"GET /kept/v1/users HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /kept/v1/users HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
    ],
)
def test_what_two_readers_of_http_could_read_differently_is_refused(edge: Edge, proxy: Proxy, smuggled: bytes) -> None:
    with proxy.connected() as connection:
        connection.sendall(smuggled + b"GET /kept/v1/pins/666 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        parts = list(iter(lambda: connection.recv(65_536), b""))
    assert b"".join(parts)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 501"), parts
    answer = proxy.http.get("/kept/v1/users?limit=0")
    assert "limit" in json.loads(answer.content)["detail"], "the next answer is of the next request"
