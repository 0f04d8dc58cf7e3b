"""Pages of another site in a real browser, at an address of this machine that is no loopback: there browsers send no
`Sec-Fetch-*`, so only `Origin` and `Host` show whose page writes.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page
from prometheus_client.parser import text_string_to_metric_families

from tests.browser.visit import PATIENCE_MS
from tests.services.children import until
from tests.web.edge import Edge, serve_edge

EVENT = '{"action":"follow_user","user":"7001","target":"7002"}'
#: Requests that a page may send without asking first, by itself or by a form; each ends when it is answered or has failed.
SIMPLE = {
    "fetch of text": "fetch(url, {method: 'POST', headers: {'content-type': 'text/plain'}, body}).catch(() => 0)",
    "fetch no-cors": "fetch(url, {method: 'POST', mode: 'no-cors', body}).catch(() => 0)",
    "fetch no-cors, keepalive": "fetch(url, {method: 'POST', mode: 'no-cors', keepalive: true, body}).catch(() => 0)",
    "fetch of JSON": "fetch(url, {method: 'POST', headers: {'content-type': 'application/json'}, body}).catch(() => 0)",
    "fetch of a form": "fetch(url, {method: 'POST', body: new URLSearchParams({a: body})}).catch(() => 0)",
    "beacon of text": "navigator.sendBeacon(url, body)",
    "beacon of a blob": "navigator.sendBeacon(url, new Blob([body], {type: 'text/plain'}))",
    "request of old": "new Promise((done) => { const x = new XMLHttpRequest(); x.onloadend = done;"
    "x.open('POST', url); x.send(body); })",
    "delete": "fetch(url.replace('events', 'pins/7003'), {method: 'DELETE'}).catch(() => 0)",
    **{
        f"form of {media or 'the default type'}": "new Promise((done) => { const form = document.createElement('form');"
        f"form.method = 'post'; form.action = url; form.enctype = '{media}'; form.target = 'into';"
        "const frame = document.createElement('iframe'); frame.name = 'into'; document.body.append(frame, form);"
        "const field = document.createElement('input'); field.name = body.slice(0, -1) + ',\"title\":\"'; field.value = '\"}';"
        "form.append(field); frame.onload = done; form.submit(); })"
        for media in ("text/plain", "multipart/form-data", "")
    },
}


def outer_address() -> str | None:
    """An IPv4 address of this machine that is no loopback."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return str(one.address)
    return None


ADDRESS = outer_address()
pytestmark = pytest.mark.skipif(
    ADDRESS is None, reason="NOT TESTED: writes of another origin: this machine has no address but the loopback"
)


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """A page of another site, on another port of the same address."""
    (folder / "index.html").write_text("<!doctype html><title>elsewhere</title><body></body>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((ADDRESS or "", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{ADDRESS}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with site(tmp_path_factory.mktemp("elsewhere")) as url:
        yield url


@contextmanager
def edge_outside(folder: Path, **settings: Any) -> Iterator[Edge]:
    with serve_edge(folder, listen_on=ADDRESS or "", event_timeout_s=30, read_timeout_s=30, **settings) as edge:
        yield edge


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """It knows no other origin."""
    with edge_outside(tmp_path_factory.mktemp("strict")) as edge:
        yield edge


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield page
    context.close()


def refusals(edge: Edge) -> float:
    """Requests that the edge has refused because of whose page sent them."""
    families = text_string_to_metric_families(edge.http.get("/metrics").text)
    samples = [s for family in families for s in family.samples if s.labels.get("code") == "PERMISSION_DENIED"]
    return sum(s.value for s in samples if s.name.endswith("_total") and s.labels["service"] == "web")


def url_of(edge: Edge) -> str:
    return f"{str(edge.http.base_url).rstrip('/')}/v1/events"


@pytest.mark.parametrize("how", SIMPLE)
def test_a_page_of_another_site_changes_nothing(strict: Edge, elsewhere: str, page: Page, how: str) -> None:
    page.goto(elsewhere)
    before, refused = strict.events(), refusals(strict)
    page.evaluate(f"async ([url, body]) => {{ await ({SIMPLE[how]}); }}", [url_of(strict), EVENT])
    until(lambda: refusals(strict) > refused, 60)  # browsers do not report beacons to the page, nor to its driver
    assert strict.http.get("/v1/users/7001").json()["follows"]["users"] == []
    assert strict.events() == before


def test_the_edges_own_page_writes(strict: Edge, page: Page) -> None:
    page.goto(str(strict.http.base_url))
    body = EVENT.replace("7001", "7005")
    status = page.evaluate(
        "([url, body]) => fetch(url, {method: 'POST', headers: {'content-type': 'application/json'}, body})"
        ".then((a) => a.status)",
        [url_of(strict), body],
    )
    assert status == 202


def test_H02_a_page_of_an_allowed_origin_reads_and_writes(elsewhere: str, page: Page, tmp_path: Path) -> None:
    with edge_outside(tmp_path, allowed_origins=(elsewhere,)) as edge:
        page.goto(elsewhere)
        answer = page.evaluate(
            """async ([url, body]) => {
              const wrote = await fetch(url, {method: "POST", headers: {"content-type": "application/json"}, body});
              const {token} = await wrote.json();
              const user = await fetch(url.replace("events", `users/7001?token=${token}`));
              const refused = await fetch(url.replace("events", "users?limit=0"));
              const gone = await fetch(url.replace("events", "pins/7003"), {method: "DELETE"});
              const plain = await fetch(url, {method: "POST", headers: {"content-type": "text/plain"}, body});
              return [wrote.status, await user.json(), await refused.json(), gone.status, plain.status];
            }""",
            [url_of(edge), EVENT],
        )
        wrote, user, refused, gone, plain = answer
        assert (wrote, gone, plain) == (202, 202, 415)
        assert [one["id"] for one in user["follows"]["users"]] == ["7002"]
        assert "limit" in refused["detail"], "errors can be read too"
