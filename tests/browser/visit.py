"""Shared by all browser tests: Debian's Chromium, a mesh with people in it, and a page whose every error counts."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response, expect, sync_playwright

from cli import graph, model
from cli.demo import demo
from cli.load import load
from tests.running import Running, running_mesh
from tests.scorpion.making import written

T = TypeVar("T")
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000  # the machines are shared
SHARED = Path(os.environ.get("FEEDMESH_SHARED", Path(__file__).resolve().parents[3] / "shared" / "data"))
DESK = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


def aside(work: Callable[[], T]) -> T:
    """Do it on another thread: Playwright keeps an event loop on this one, and `asyncio.run` refuses to start there."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, for as long as a module of tests needs it."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def bare_mesh(folder: Path) -> Iterator[Running]:
    """An empty mesh."""
    with ExitStack() as stack:
        running = aside(lambda: stack.enter_context(running_mesh(folder)))
        yield running


@contextmanager
def peopled_mesh(folder: Path) -> Iterator[Running]:
    """A mesh with Last.fm's people in it, or, where that set is not at hand, a made-up world's; with a graph to walk, and
    a model that ranks somehow.
    """
    with bare_mesh(folder) as running:
        name, files = "lastfm", SHARED / "lastfm"
        if not files.is_dir():
            name, files = "parquet", folder / "world"
            aside(lambda: demo(files, users=400, pins=4_000, boards=1_200, saves=30_000))
        aside(lambda: load(name, files, data=folder, batch=1000))
        aside(running.until_caught_up)
        aside(lambda: graph.build(data=folder))
        written(folder / "draft")
        aside(lambda: model.push(folder / "draft", promoting=True, data=folder))
        yield running


@contextmanager
def away(running: Running, service: str) -> Iterator[None]:
    """kill -9 one process, and it stays down until the end of this; then all are ready."""
    with running.without(service):
        yield
    aside(running.until_ready)


@dataclass
class Api:
    """The HTTP API, asked beside the page."""

    url: str

    def get(self, path: str, **query: object) -> Any:
        """The answer. Raises unless it is a success."""
        answer = httpx.get(self.url + path, params={k: str(v) for k, v in query.items()}, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def pins(self, user: str, token: str = "", feed: str = "following") -> list[str]:
        """Every pin of a feed from its top to its end."""
        pins: list[str] = []
        cursor = ""
        while True:
            page = self.get(f"/v1/feeds/{feed}", user=user, limit=100, cursor=cursor, token=token, explain="true")
            assert not page["degraded"], page["degraded"]
            pins += [item["pin"] for item in page["items"]]
            cursor = page["cursor"] or ""
            if not cursor:
                return pins

    def until_writable(self) -> None:
        """A ingest API that was restarted is ready before the edge has found it again."""
        event = {"user": "1", "action": "closeup", "pin": "1"}
        end = time.monotonic() + PATIENCE_MS / 1000
        while httpx.post(self.url + "/v1/events", json=event, timeout=30).status_code != 202:
            assert time.monotonic() < end, "the edge has not found the ingest API again"
            time.sleep(0.05)

    def readers(self, at_least: int = 300) -> Iterator[str]:
        """People whose following feed has so many pins, each once."""
        after = "0"
        while after:
            listed = self.get("/v1/users", limit=100, after=after)
            for row in listed["users"]:
                page = self.get("/v1/feeds/following", user=row["user"], limit=1, explain="true")
                slate = next((stage for stage in page["xray"]["stages"] if stage["stage"] == "slate"), None)
                if slate is not None and slate["kept"] + slate["dropped"] >= at_least:
                    yield row["user"]
            after = listed["next"]


@dataclass
class Visit:
    """One tab. Whatever goes wrong in it is kept in `faults`, but for the failed requests that a test expects."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"thrown: {error}"))
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type != "error":
            return
        where = message.location.get("url", "")
        failed = message.text.startswith("Failed to load resource")
        if not (failed and any(re.search(pattern, where) for pattern in self.expected)):
            self.faults.append(f"console: {message.text} ({where})")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.faults.append(f"asked another server: {request.url}")

    def expects(self, pattern: str) -> None:
        """From now on a request whose URL has this may fail."""
        self.expected.append(pattern)

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def feed(self, user: str, feed: str = "following") -> None:
        """A feed, with its first cards."""
        self.open(f"/?user={user}&feed={feed}")
        self.cards.first.wait_for()

    def id(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    @property
    def cards(self) -> Locator:
        return self.page.locator(".card:not(.skeleton):not(.leaving)")

    def card(self, pin: str) -> Locator:
        return self.page.locator(f'.card[data-pin="{pin}"]')

    def pins(self) -> list[str]:
        """Of the cards, in feed order."""
        pins: list[str] = self.cards.evaluate_all("cards => cards.map((card) => card.dataset.pin)")
        return pins

    def focused(self) -> str:
        """The data-pin of the card that has the focus or holds it; else the test id or tag in focus."""
        found: str = self.page.evaluate(
            "() => { const a = document.activeElement; return a.closest('.card')?.dataset.pin"
            " ?? a.dataset.testid ?? a.tagName.toLowerCase(); }"
        )
        return found

    def to_the_end(self) -> None:
        """Scroll down by as much as there is."""
        self.page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")

    def further(self) -> None:
        """Scroll to the end until cards are added there."""
        before = self.cards.count()
        self.to_the_end()
        expect(self.cards.nth(before)).to_be_attached()

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        wider: int = self.page.evaluate(
            "() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth"
        )
        return wider


def silent(visit: Visit) -> None:
    """Nothing that is done in this tab arrives, so a page that is asked for again to be explained is the same page."""
    visit.page.route(
        "**/v1/events", lambda route: route.fulfill(status=202, json={"accepted": 1, "duplicates": 0, "token": ""})
    )


def wrote(action: str) -> Any:
    """Whether a response is that of events of which one is this action."""
    return lambda answer: (
        answer.url.endswith("/v1/events") and f'"action":"{action}"' in (answer.request.post_data or "")
    )


def events(request: Request) -> list[dict[str, Any]]:
    """The events that a request writes."""
    found: list[dict[str, Any]] = json.loads(request.post_data or "{}")["events"]
    return found


def is_feed(answer: Response) -> bool:
    return "/v1/feeds/" in answer.url and "explain" not in answer.url
