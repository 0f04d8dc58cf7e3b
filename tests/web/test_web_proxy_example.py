"""The proxy that docs/operations.md shows, run as it is written there: a reader gets a feed of their own and nothing else."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from protos import feedgen_pb2 as pb
from services.core.events import Action
from tests.web.edge import Edge, serve_edge
from tests.web.proxying import MISSING, NGINX, PATIENCE_S, Proxy, nginx
from web.questions import ACTIONS

PAGE = Path(__file__).parents[2] / "docs/operations.md"
COOKIE = {"cookie": "session=of-42"}
with_nginx = pytest.mark.skipif(NGINX is None, reason=MISSING)


def documented() -> str:
    """The configuration on the page."""
    [block] = re.findall(r"^    map \$arg_limit.*?^    }\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dedent(block)


class Session(BaseHTTPRequestHandler):
    """A backend that knows one session, which is of the user 42."""

    def do_GET(self) -> None:
        known = self.path == "/session" and self.headers.get("cookie") == COOKIE["cookie"]
        self.send_response(200 if known else 401)
        if known:
            self.send_header("X-User", "42")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@contextmanager
def backend() -> Iterator[str]:
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Session)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with serve_edge(tmp_path_factory.mktemp("edge")) as edge:
        edge.feedgen.reply = pb.FeedReply(items=[pb.Item(pin=7301)])
        yield edge


@pytest.fixture(scope="module")
def behind(edge: Edge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, str]]:
    """The proxy for readers, at its socket, and the address from which operators ask."""
    at, port = tmp_path_factory.mktemp("nginx"), free_port()
    with backend() as session:
        served = documented()
        for written, here in (
            ("listen 443 ssl;", f"listen unix:{at}/socket; listen 127.0.0.1:{port};"),
            ("ssl_certificate /etc/ssl/feeds.pem;  ssl_certificate_key /etc/ssl/feeds.key;", ""),
            ("127.0.0.1:3000", session),
            ("127.0.0.1:8080", edge.http.base_url.netloc.decode()),
            ("10.0.0.0/8", "127.0.0.0/8"),
        ):
            assert written in served
            served = served.replace(written, here)
        with nginx(at, served) as proxy:
            yield proxy, f"http://127.0.0.1:{port}"


@pytest.fixture
def reader(behind: tuple[Proxy, str]) -> httpx.Client:
    return behind[0].http


@with_nginx
@pytest.mark.parametrize("feed", ["home", "following", "interest", "picked"])
def test_a_reader_gets_a_feed_as_the_user_of_the_session_whatever_the_request_states(
    edge: Edge, reader: httpx.Client, feed: str
) -> None:
    for asked in (
        "",
        "?limit=5",
        "?user=7&limit=5",
        "?limit=5&user=7&explain=true",
        "?limit=5%26user%3D7%26explain%3Dtrue",
        "?cursor=&explain=1&EXPLAIN=true&token=",
    ):
        answer = reader.get(f"/feedmesh/v1/feeds/{feed}{asked}", headers=COOKIE)
        if "%26" in asked:
            assert answer.status_code == 400, "a value stays one value"
            continue
        assert (answer.status_code, answer.json()["items"][0]["pin"]) == (200, "7301")
        request, _ = edge.feedgen.asked[-1]
        assert (request.user, request.feed, request.explain) == (42, feed, False)
        assert request.limit == (5 if "limit" in asked else 25)


@with_nginx
def test_the_next_page_and_the_token_pass(edge: Edge, reader: httpx.Client) -> None:
    token = edge.post({"user": 42, "action": "click", "pin": 2}).json()["token"]
    asked = {"cursor": "bm90aGluZw", "token": token}
    assert reader.get("/feedmesh/v1/feeds/home", params=asked, headers=COOKIE).status_code == 200
    request, passed = edge.feedgen.asked[-1]
    assert (request.cursor, bool(passed)) == ("bm90aGluZw", True)


@with_nginx
@pytest.mark.parametrize("headers", [{}, {"cookie": "session=of-43"}, {"x-user": "42"}])
def test_without_a_session_there_is_no_feed(edge: Edge, reader: httpx.Client, headers: dict[str, str]) -> None:
    before = len(edge.feedgen.asked)
    assert reader.get("/feedmesh/v1/feeds/home?user=42", headers=headers).status_code == 401
    assert len(edge.feedgen.asked) == before


@with_nginx
@pytest.mark.parametrize("action", ACTIONS)
def test_no_event_of_a_reader_comes_into_the_log(edge: Edge, reader: httpx.Client, action: str) -> None:
    before, event = edge.events(), {"action": action, "user": 42, "pin": 7301, "board": 5, "target": 6, "title": "a"}
    for path in (
        "/feedmesh/v1/events",
        "/feedmesh//v1//events",
        "/feedmesh/v1%2fevents",
        "/feedmesh/v1/feeds/home%2f..%2f..%2fevents",
        "/feedmesh/v1/feeds/home",
        "/feedmesh/v1/feeds/home?x=/../../events",
        "/v1/events",
        "/session",
    ):
        answer = reader.post(path, json=event, headers=COOKIE | {"x-http-method-override": "GET"})
        assert answer.status_code in (400, 403, 404, 405), path
    assert edge.events() == before


@with_nginx
@pytest.mark.parametrize(
    "path", ["/feedmesh/v1/feeds/../events", "/feedmesh/v1/feeds/home/../../events", "/feedmesh/./v1/events"]
)
def test_nor_by_a_path_with_dots_as_they_are(edge: Edge, behind: tuple[Proxy, str], path: str) -> None:
    """Clients of HTTP take dots out of a path before they send it; an attacker does not."""
    body, before = b'{"action":"takedown","pin":7301}', edge.events()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {COOKIE['cookie']}\r\nContent-Length: {len(body)}\r\n"
    with behind[0].connected() as connection:
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 403"), answer[:100]
    assert edge.events() == before


@with_nginx
@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "PATCH", "GET", "HEAD", "OPTIONS"])
def test_a_reader_reaches_no_other_route_by_any_method(edge: Edge, reader: httpx.Client, method: str) -> None:
    before = edge.events()
    for path in (
        "/v1/pins/7301",
        "/v1/feeds/home/",
        "/v1/feeds/other",
        "/v1/users",
        "/v1/users/42",
        "/v1/models",
        "/v1/models/ranker/1/promotion",
        "/v1/models/rollback",
        "/models",
        "/metrics",
        "/healthz",
        "/docs",
        "/openapi.json",
        "/",
    ):
        answer = reader.request(method, f"/feedmesh{path}", headers=COOKIE)
        assert answer.status_code in (403, 404, 405), f"{method} {path}: {answer.status_code}"
    assert edge.events() == before


@with_nginx
def test_the_backend_posts_actions_and_takes_pins_down(edge: Edge, behind: tuple[Proxy, str]) -> None:
    with httpx.Client(base_url=behind[1], timeout=PATIENCE_S) as operator:
        before = edge.events()
        saved = {"user": "42", "action": "save", "pin": "7301", "board": "5"}
        assert operator.post("/feedmesh/v1/events", json=saved).status_code == 202
        assert operator.delete("/feedmesh/v1/pins/7301").status_code == 202
        assert operator.get("/feedmesh/v1/users").status_code == 200
        assert operator.get("/feedmesh/docs").status_code == 200
        assert edge.events() > before


def test_the_page_names_the_actions_that_the_edge_refuses_from_everyone() -> None:
    [stated] = re.findall(r"that is all actions but\s(.*?)\. nginx", PAGE.read_text(), re.DOTALL)
    assert set(re.findall(r"`(\w+)`", stated)) == {action.name.lower() for action in Action} - set(ACTIONS)
