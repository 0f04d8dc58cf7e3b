"""The surroundings of the API: limits, headers, pages, health, metrics, and the answers when services go."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.web.edge import Edge, serve_edge

SERVICES = ["roadrunner", "prober", "apiary", "rockstore", "smartfeed", "counters", "feedgen", "scorpion", "web"]
SAVE = {"user": 1, "action": "save", "pin": 2, "board": 3}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with serve_edge(tmp_path_factory.mktemp("edge"), max_body_mb=1) as edge:
        yield edge


def connected(edge: Edge) -> socket.socket:
    return socket.create_connection((edge.http.base_url.host, edge.http.base_url.port or 0), 10)


def chunks(n: int) -> Iterator[bytes]:
    for _ in range(n):
        yield b" " * 65_536


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_not_read(edge: Edge, chunked: bool) -> None:
    body = chunks(1600)
    headers = {} if chunked else {"content-length": str(1600 * 65_536)}
    before = psutil.Process(os.getpid()).memory_info().rss
    answer = edge.http.post("/v1/events", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["status"]) == (413, "INVALID_ARGUMENT")
    assert edge.http.get("/v1/users").status_code == 200
    assert psutil.Process(os.getpid()).memory_info().rss - before < 30 << 20


def test_a_body_at_the_limit_is_read(edge: Edge) -> None:
    events = b'[{"user":1,"action":"click","pin":2}]'
    assert edge.http.post("/v1/events", content=events.ljust(1 << 20)).status_code == 202
    assert edge.http.post("/v1/events", content=events.ljust((1 << 20) + 1)).status_code == 413


def test_a_body_that_never_comes_is_not_waited_for(tmp_path: Path) -> None:
    with serve_edge(tmp_path, event_timeout_s=0.2) as edge, connected(edge) as slow:
        slow.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n[")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_no_failure_shows_its_inside(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("web.events.parse", lambda *_: 1 // 0)
    answer = edge.post([SAVE])
    assert answer.status_code == 500
    assert "division" not in answer.text
    [request_id] = re.findall(r"internal error; the log has it as request ([0-9a-f]{32})", answer.json()["detail"])
    assert answer.json()["instance"].replace("-", "") == f"urn:uuid:{request_id}"
    assert f"POST /v1/events failed (request {request_id})" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_pages_and_headers(edge: Edge) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/health", "text/html"),
        ("/models", "text/html"),
        ("/docs", "text/html"),
        ("/docs/start.js", "text/javascript"),
        ("/docs/assets/swagger-ui-bundle.js", "text/javascript"),
        ("/static/feed.js", "text/javascript"),
        ("/favicon.ico", "image/svg"),
        ("/openapi.json", "application/json"),
        ("/nothing", "application/problem+json"),
    ):
        answer = edge.http.get(path)
        assert answer.status_code == (404 if path == "/nothing" else 200), path
        assert answer.headers["content-type"].startswith(kind), path
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    page = edge.http.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert edge.http.get("/", headers={"if-none-match": page.headers["etag"]}).status_code == 304
    assert edge.http.get("/openapi.json").headers["content-encoding"] == "gzip"
    assert "content-encoding" not in edge.http.get("/v1/users").headers


def test_pages_load_nothing_from_elsewhere(edge: Edge) -> None:
    for path in ("/", "/health", "/models", "/docs"):
        assert "//" not in edge.http.get(path).text.replace("http://www.w3.org", "")


def test_health_names_every_process(edge: Edge) -> None:
    answer = edge.http.get("/healthz")
    for _ in range(20):  # on a machine that stalls, a probe of a second and a half can be too short
        if answer.status_code == 200:
            break
        answer = edge.http.get("/healthz")
    report = answer.json()
    assert {p["service"]: p["why"] for p in report["processes"] if not p["ready"]} == {}
    assert (answer.status_code, report["ready"], report["freshness"]) == (200, True, [])
    assert [p["service"] for p in report["processes"]] == SERVICES
    assert {(p["restarts"], p["effect"], *p["exits"]) for p in report["processes"]} == {(0, "")}
    own = report["processes"][-1]
    assert own["pid"] == os.getpid()
    assert own["calls"] == sum(m["calls"] for m in own["methods"])


def test_requests_are_counted_by_route(edge: Edge) -> None:
    edge.http.get("/v1/users/5")
    edge.http.get("/v1/users/6")
    edge.http.request("BREW", "/v1/users/6")
    edge.http.get("/some/where")
    edge.http.get("/v1/users")  # an answer is counted just after it was sent: by now the one before was
    windows = edge.metrics.windows()
    assert windows["GET /v1/users/{user}"].calls == 2
    assert windows["(no such route)"].calls >= 2
    assert not any("BREW" in name or "where" in name for name in windows)


def test_metrics_are_valid_and_of_all(edge: Edge) -> None:
    families = {f.name: f for f in text_string_to_metric_families(edge.http.get("/metrics").text)}
    ups = {s.labels["service"]: s.value for s in families["feedmesh_up"].samples}
    assert ups == dict.fromkeys(SERVICES, 1.0)
    counted = {s.labels["service"] for s in families["feedmesh_requests"].samples}
    assert {"roadrunner", "web"} <= counted


def test_too_many_at_once_are_shed(tmp_path: Path) -> None:
    with serve_edge(tmp_path, max_requests=1, feed_timeout_s=20) as edge:
        edge.feedgen.hold.clear()

        def ask() -> None:  # until it is let in
            while httpx.get(f"{edge.http.base_url}/v1/feeds/home?user=1", timeout=20).status_code == 429:
                pass

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            answer = edge.http.get("/v1/users/1")
            while answer.status_code == 200:  # until the feed is being made
                answer = edge.http.get("/v1/users/1")
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert "frame-ancestors" in answer.headers["content-security-policy"]
            assert edge.http.get("/healthz").status_code == 200
        finally:
            edge.feedgen.hold.set()
            asking.join(20)


def test_slow_bodies_take_no_place(tmp_path: Path) -> None:
    with serve_edge(tmp_path, max_requests=1) as edge, connected(edge) as slow, connected(edge) as slower:
        for one in (slow, slower):
            one.sendall(
                b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n"
            )
            assert one.recv(100).startswith(b"HTTP/1.1 100"), "its body is being read"
        assert edge.http.get("/v1/users/1").status_code == 200


def test_services_that_are_away(tmp_path: Path) -> None:
    with serve_edge(tmp_path) as edge:
        edge.kill("rockstore")
        assert edge.post([SAVE]).status_code == 202, "a save needs no other service"
        user = edge.http.get("/v1/users/1")
        assert (user.status_code, user.json()["degraded"]) == (200, ["names"])
        named = edge.post([{"user": 1, "action": "follow_user", "target": 2}]).json()["token"]
        assert edge.http.get("/v1/users/1", params={"token": named}).json()["follows"]["users"] == [
            {"id": "2", "name": ""}
        ]
        assert edge.http.get("/v1/pins/1").status_code == 503
        edge.kill("roadrunner")
        assert edge.post([SAVE]).status_code == 503
        answer = edge.http.get("/healthz")
        down = {p["service"]: p["why"] for p in answer.json()["processes"] if not p["ready"]}
        assert (answer.status_code, set(down)) == (503, {"rockstore", "roadrunner"})
        assert [p["service"] in down for p in answer.json()["processes"]][:3] == [True, True, False], "they come first"
        assert all(bool(p["effect"]) == (p["service"] in down) for p in answer.json()["processes"])
        assert edge.metrics.windows()["GET /healthz"].errors == 0, "others being down is no error of the edge"
        assert all(down.values())
        ups = [line for line in edge.http.get("/metrics").text.splitlines() if line.startswith("feedmesh_up{")]
        assert sum(line.endswith(" 0.0") for line in ups) == 2


def test_requests_under_way_are_finished_at_the_end(tmp_path: Path) -> None:
    answers: list[int] = []
    with serve_edge(tmp_path) as edge:
        host, port = edge.http.base_url.host, edge.http.base_url.port or 0
        slow = connected(edge)
        body = b'[{"user":1,"action":"click","pin":2}]'
        slow.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        edge.http.get("/v1/users/1")  # so that the slow one's headers have been read

        def finish() -> None:
            with contextlib.suppress(httpx.TransportError):
                while httpx.get(f"http://{host}:{port}/v1/users/1"):  # until it accepts no connection any more
                    pass
            slow.sendall(body)
            answers.append(int(slow.recv(12).split()[1]))
            slow.close()

        finishing = threading.Thread(target=finish)
        finishing.start()
    finishing.join(10)
    assert answers == [202]


EDGE_ALONE = """
import sys
import numpy as np
import web.app, web.serving, web.wiring
from feedgen.client import Unanswered
from feedgen.last_resort.page import NO_IDS, LastResort
from feedgen.last_resort.popular import Popular
from feedgen.shown import NOTHING
from services.core.events import Surface

ids, shares = np.arange(1, 5, dtype=np.uint64), np.ones(4, np.float32)
asked = Unanswered(user=3, surface=Surface.HOME, limit=25, now_ms=1, shown=NOTHING)
found = LastResort(None, None, None, 1.0)._unmet(asked, NO_IDS, Popular(ids, shares, shares, ids, ids))
assert found.tolist() == [1, 2, 4], found
sys.exit("numba" in sys.modules)
"""


def test_the_edge_has_no_compiler_in_its_memory() -> None:
    """Neither when it starts nor when it makes a page of popular pins in place of feedgen."""
    done = subprocess.run([sys.executable, "-c", EDGE_ALONE], timeout=60, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
