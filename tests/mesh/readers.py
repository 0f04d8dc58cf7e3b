"""Readers that ask for pages without a pause, through any of several edges as a load balancer would choose them."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np

FEEDS = ("following", "interest", "picked", "home")
TIMEOUT_S = 10.0


@dataclass
class Page:
    """One request: when it began and ended, on the monotonic clock, and what came of it."""

    began: float
    ended: float
    status: int
    degraded: list[str]
    pins: int

    @property
    def took(self) -> float:
        return self.ended - self.began


@dataclass
class Readers:
    """Threads that read until they are stopped. urls: of the edges."""

    urls: list[str]
    users: list[int]
    threads: int = 4
    pages: list[Page] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(i,), daemon=True) for i in range(self.threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _read(self, number: int) -> None:
        choose = random.Random(number)
        with httpx.Client(timeout=TIMEOUT_S) as client:
            while not self._stop.is_set():
                path = f"/v1/feeds/{choose.choice(FEEDS)}"
                self._page(client, path, choose.choice(self.users), choose.sample(self.urls, len(self.urls)))

    def _page(self, client: httpx.Client, path: str, user: int, urls: list[str]) -> None:
        """A balancer sends a request on to the next edge where one does not take it; nothing else is tried again."""
        began = time.monotonic()
        for url in urls:
            try:
                answer = client.get(f"{url}{path}", params={"user": user, "limit": 25})
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                continue
            page = answer.json() if answer.status_code == 200 else {}
            found = Page(
                began, time.monotonic(), answer.status_code, page.get("degraded", []), len(page.get("items", []))
            )
            self.pages.append(found)
            return
        self.pages.append(Page(began, time.monotonic(), 0, [], 0))

    def failed(self) -> list[Page]:
        return [page for page in self.pages if page.status != 200]

    def degraded(self) -> list[Page]:
        return [page for page in self.pages if page.degraded]

    def percentiles(self) -> str:
        """P50, P99 and the longest, in milliseconds."""
        took = [page.took * 1000 for page in self.pages]
        p50, p99 = np.percentile(took, (50, 99))
        return f"{len(took)} pages, P50 {p50:.0f} ms, P99 {p99:.0f} ms, longest {max(took):.0f} ms"


@contextmanager
def reading(urls: list[str], users: list[int], threads: int = 4) -> Iterator[Readers]:
    """Readers, from the beginning of a block to its end, that have had some pages before it begins."""
    readers = Readers(urls, users, threads)
    readers.start()
    try:
        end = time.monotonic() + 60
        while len(readers.pages) < 100 * threads:
            assert time.monotonic() < end, "no pages come"
            time.sleep(0.05)
        readers.pages.clear()
        yield readers
    finally:
        readers.stop()
