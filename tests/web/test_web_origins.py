"""Hosts, origins, preflights, prefixes, methods and q-values. H01, H02, H07 and H08 are cases that once failed."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from services.core.errors import InvalidArgument
from tests.web.edge import Edge, serve_edge
from web.negotiation import coding_for, qualities
from web.origins import Origins

APP = "https://app.example.org"
CLICK = b'[{"user":1,"action":"click","pin":2}]'
SETTINGS: dict[str, Any] = {
    "allowed_origins": (APP, "http://localhost:3000"),
    "allowed_hosts": ("feeds.example.org", "*.example.net"),
    "path_prefix": "/feedmesh",
}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with serve_edge(tmp_path_factory.mktemp("edge"), **SETTINGS) as edge:
        yield edge


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with serve_edge(tmp_path_factory.mktemp("plain")) as edge:
        yield edge


def write(edge: Edge, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return edge.http.post("/v1/events", content=CLICK, headers={"content-type": "application/json", **named})


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "a.localhost",
        "127.0.0.1:1",
        "[::1]",
        "[0:0::1]:80",
        "10.2.3.4:8080",
        "feeds.example.org",
        "FEEDS.example.org.:443",
        "a.example.net",
        "a.b.example.net",
    ],
)
def test_hosts_of_this_server(edge: Edge, host: str) -> None:
    assert edge.http.get("/v1/users", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "localhost.evil.example",
            "feeds.example.org.evil.example",
            "example.net",
            "xexample.net",
            "",
        ),
        *("feeds.example.org:80:80", "feeds.example.org@evil.example", "localhost/", "[::1", "::1", "local host"),
    ],
)
def test_other_hosts_are_refused(edge: Edge, host: str) -> None:
    answer = edge.http.get("/healthz", headers={"host": host})
    assert (answer.status_code, "allowed_hosts" in answer.json()["detail"]) == (421, True)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("10.2.3.4:8080", "http://10.2.3.4:8080", 202),
        ("feeds.example.org", "https://feeds.example.org", 202),  # a proxy ends TLS
        ("feeds.example.org", "https://FEEDS.example.org:443", 202),
        ("feeds.example.org", APP, 202),
        ("feeds.example.org", "http://app.example.org", 403),
        ("feeds.example.org", "https://app.example.org:8443", 403),
        ("feeds.example.org", "https://app.example.org.evil.example", 403),
        ("feeds.example.org", "null", 403),
        ("feeds.example.org", "https://", 403),
        ("feeds.example.org", "file://", 403),
        ("10.2.3.4:8080", "http://10.2.3.4:8081", 403),
        ("10.2.3.4:8080", "http://10.2.3.5:8080", 403),
        ("10.2.3.4:8080", "http://evil.example", 403),
        ("localhost:8080", "http://localhost:3000", 202),
        ("localhost:8080", "http://localhost:3001", 403),
        ("localhost:8080", "http://user@localhost:8080", 403),
    ],
)
def test_H02_pages_that_may_write(edge: Edge, host: str, origin: str, status: int) -> None:
    """Without Sec-Fetch-*, as browsers send it to addresses that are not trustworthy; with it, it changes nothing."""
    assert write(edge, host=host, origin=origin).status_code == status
    assert write(edge, host=host, origin=origin, sec_fetch_site="same-site").status_code == status
    deleted = edge.http.delete("/v1/pins/9", headers={"host": host, "origin": origin})
    assert deleted.status_code == status
    if status == 403:
        assert "allowed_origins" in deleted.json()["detail"]


def test_by_default_no_other_site_writes(plain: Edge) -> None:
    assert write(plain, origin="http://localhost:3000").status_code == 403
    assert write(plain, sec_fetch_site="same-site").status_code == 403
    assert write(plain, sec_fetch_site="none").status_code == 202
    assert write(plain, origin=str(plain.http.base_url).rstrip("/")).status_code == 202
    assert write(plain).status_code == 202
    assert "access-control-allow-origin" not in plain.http.get("/v1/users", headers={"origin": APP}).headers


@pytest.mark.parametrize(
    ("media", "origin", "status"),
    [
        ("application/json; charset=utf-8", APP, 202),
        ("text/plain;charset=UTF-8", "http://feeds.example.org", 202),  # a beacon of the page itself
        ("text/plain", APP, 415),
        ("application/x-www-form-urlencoded", "http://feeds.example.org", 415),
        ("multipart/form-data; boundary=a", "http://feeds.example.org", 415),
        ("", "http://feeds.example.org", 415),
        ("application/x-www-form-urlencoded", "", 202),  # curl -d
    ],
)
def test_what_browsers_may_send(edge: Edge, media: str, origin: str, status: int) -> None:
    more = {"origin": origin} if origin else {}
    assert write(edge, host="feeds.example.org", content_type=media, **more).status_code == status


def test_H01_preflights(edge: Edge) -> None:
    asked = {"origin": APP, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    answer = edge.http.options("/v1/events", headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == APP
    assert {"POST", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    assert "Content-Type" in answer.headers["access-control-allow-headers"]
    assert int(answer.headers["access-control-max-age"]) > 0
    assert "Origin" in ", ".join(answer.headers.get_list("vary"))
    assert "access-control-allow-credentials" not in answer.headers
    refused = edge.http.options("/v1/events", headers=asked | {"origin": "https://evil.example"})
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)


def test_H01_answers_and_errors_can_be_read(edge: Edge) -> None:
    for path, status in (("/v1/users", 200), ("/v1/users?limit=0", 400), ("/nothing", 404)):
        answer = edge.http.get(path, headers={"origin": APP})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, APP)
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
        assert "Origin" in ", ".join(answer.headers.get_list("vary"))
        other = edge.http.get(path, headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        assert "Origin" in ", ".join(other.headers.get_list("vary")), "caches keep them apart"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/pins/1", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/events", "OPTIONS, POST"),
        ("/v1/users", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS"),
        ("/static/feed.js", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
def test_H07_methods_of_a_path(plain: Edge, path: str, methods: str) -> None:
    for method in ("PATCH", "PROPFIND", "TRACE"):
        refused = plain.http.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, methods)
    answer = plain.http.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (204, methods)
    if "GET" in methods and not path.startswith("/v1/pins"):
        got, head = plain.http.get(path), plain.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == got.headers["content-type"]


class Links(HTMLParser):
    """The addresses that a page loads and links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value and "#" not in value]


@pytest.mark.parametrize("page", ["/", "/health", "/models", "/docs"])
def test_H08_pages_work_behind_a_prefix(edge: Edge, page: str) -> None:
    for prefix in ("/feedmesh", ""):  # a proxy that leaves it, and one that takes it off
        links = Links()
        links.feed(edge.http.get(prefix + page).text)
        assert links.found
        for link in links.found:
            path = urljoin(f"http://x/feedmesh{page}", link).removeprefix("http://x")
            assert path.startswith("/feedmesh/"), f"{link} of {page} leaves the prefix"
            assert edge.http.get(path).status_code == 200, path
    scripts = [path.read_text() for path in (Path("web/static").resolve()).glob("*.js")]
    assert not any('"/v1' in script or "`/v1" in script or '"/healthz' in script for script in scripts)
    assert edge.http.get("/feedmeshx/").status_code == 404


@pytest.mark.parametrize(
    ("stated", "coding"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip", "gzip"),
        ("br, GZIP;q=0.5", "gzip"),
        ("gzip;q=0", "identity"),
        ("gzip; q=0.000", "identity"),
        ("*", "gzip"),
        ("*;q=0", None),
        ("*;q=0, identity", "identity"),
        ("gzip;q=0, *", "identity"),
        ("gzip;q=0.2, identity;q=0.8", "identity"),
        ("identity;q=0, gzip", "gzip only"),
        ("identity;q=0", None),
        ("br;q=1.0, notgzip", "identity"),
    ],
)
def test_codings_by_quality(stated: str | None, coding: str | None) -> None:
    headers = [] if stated is None else [(b"accept-encoding", stated.encode())]
    assert coding_for({"headers": headers}) == coding


def test_qualities() -> None:
    assert qualities("a;q=0.5, b;x=1;Q=0 ,, c;q=7, D") == {"a": 0.5, "b": 0.0, "c": 1.0, "d": 1.0}


def test_refused_codings(plain: Edge) -> None:
    assert (
        plain.http.get("/v1/users", headers={"accept-encoding": "identity;q=0, gzip"}).headers["content-encoding"]
        == "gzip"
    )
    assert plain.http.get("/v1/users", headers={"accept-encoding": "*;q=0"}).status_code == 406


@pytest.mark.parametrize(
    ("hosts", "origins"),
    [
        (("a b",), ()),
        (("a:80",), ()),
        (("https://a",), ()),
        ((), ("app.example.org",)),
        ((), ("https://a/path",)),
        ((), ("null",)),
    ],
)
def test_settings_that_are_no_hosts_or_origins(hosts: tuple[str, ...], origins: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"\[web\] allowed_(hosts|origins)"):
        Origins(hosts, origins)
