"""Makes the pictures in docs/images: `python -m tests.browser.screenshots`. Starts a mesh of its own on Last.fm's people."""

import math
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, expect

from cli import model
from tests.browser.visit import PHONE, Api, Visit, aside, chromium, peopled_mesh

OUT = Path(__file__).resolve().parents[2] / "docs" / "images"
WINDOW = {"width": 1280, "height": 860}
TALL = {"width": 1280, "height": 1130}
CHARTED_S = 62.0  # as much time as a chart shows at first
MOST = 400 * 1024  # bytes of a picture


@contextmanager
def tab(browser: Browser, url: str, **wishes: Any) -> Iterator[Visit]:
    """A tab that reports no impressions, so that "why this" explains the page as it is shown."""
    context = browser.new_context(**({"viewport": WINDOW, "reduced_motion": "reduce", "locale": "en-GB"} | wishes))
    visit = Visit(context.new_page(), url)
    visit.page.route(
        "**/v1/events", lambda route: route.fulfill(status=202, json={"accepted": 1, "duplicates": 0, "token": ""})
    )
    yield visit
    assert not visit.faults, visit.faults
    context.close()


def shoot(visit: Visit, name: str) -> None:
    visit.page.evaluate("async () => { await document.fonts.ready; }")
    path = OUT / f"{name}.png"
    visit.page.screenshot(path=path)
    size = path.stat().st_size
    assert size < MOST, f"{path.name} has {size:,} bytes"
    print(f"{path.name:16} {size / 1024:4.0f} KB")


@contextmanager
def traffic(url: str, users: list[str]) -> Iterator[None]:
    """Readers that come and go: feeds, saves, looks, in waves of 20 seconds."""
    stop = threading.Event()

    def read(worker: int) -> None:
        mine = cycle(users[worker::4])
        with httpx.Client(base_url=url, timeout=30) as client:
            while not stop.is_set():
                user = next(mine)
                page = client.get("/v1/feeds/home", params={"user": user}).json()
                seen = [{"user": user, "action": "impression", "pin": item["pin"]} for item in page["items"][:5]]
                if seen:
                    client.post("/v1/events", json=seen)
                wave = 1.2 + math.sin(time.monotonic() * math.tau / 20 + worker / 3)
                stop.wait(0.3 / max(wave, 0.1))

    with ThreadPoolExecutor(4) as pool:
        for worker in range(4):
            pool.submit(read, worker)
        try:
            yield
        finally:
            stop.set()


def feeds(browser: Browser, url: str, first: str, second: str, third: str) -> None:
    with tab(browser, url) as visit:
        visit.feed(first, "home")
        expect(visit.id("user-summary")).to_contain_text("follows")
        shoot(visit, "feed-light")
        visit.cards.nth(2).get_by_test_id("card-closeup").click()
        expect(visit.id("closeup-dialog").locator(".facts")).to_be_visible()
        shoot(visit, "closeup")
    with tab(browser, url, viewport=TALL) as visit:
        visit.feed(first, "picked")
        visit.cards.first.get_by_test_id("card-why").click()
        expect(visit.id("why-stages")).to_be_visible()
        shoot(visit, "why-panel")
    with tab(browser, url, color_scheme="dark") as visit:
        visit.feed(second, "home")
        expect(visit.id("user-summary")).to_contain_text("follows")
        shoot(visit, "feed-dark")
    with tab(browser, url, viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2) as visit:
        visit.feed(third, "home")
        shoot(visit, "feed-phone")


def health(browser: Browser, url: str, users: list[str]) -> None:
    with tab(browser, url, viewport=TALL) as visit, traffic(url, users):
        visit.open("/health")
        expect(visit.id("health-banner")).to_contain_text("All ready")
        until = time.monotonic() + CHARTED_S
        while time.monotonic() < until:
            said = visit.id("health-clock").inner_text()
            expect(visit.id("health-clock")).not_to_have_text(said)
        shoot(visit, "health")


def models(browser: Browser, url: str) -> None:
    with tab(browser, url) as visit:
        visit.open("/models")
        expect(visit.id("models-banner")).to_contain_text("ranks the feeds")
        expect(visit.id("model-shard").first).to_be_visible()
        shoot(visit, "models")


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, peopled_mesh(Path(folder)) as mesh, chromium() as browser:
        aside(lambda: model.train(samples=600, moments=16, promoting=True, force=True, data=mesh.mesh.data))
        users = list(islice(Api(mesh.url).readers(), 24))
        feeds(browser, mesh.url, users[0], users[9], users[4])
        health(browser, mesh.url, users)
        models(browser, mesh.url)


if __name__ == "__main__":
    main()
