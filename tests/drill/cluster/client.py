"""The client of the drill: feeds and events at a steady rate through every web, each answer checked.

The rate is open-loop: a request is due at its time whatever became of those before, and its time is counted from there. As a
balancer does, the client asks every web for its icon each half second, leaves out those that do not answer, and turns to
another where one breaks or gives no answer in time.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

FEEDS = ("home", "following", "interest", "picked")
ACTIONS = ("impression", "impression", "impression", "closeup", "click", "save", "hide", "follow_user", "unfollow_user")
LIMIT, PAGES = 10, 3  # pins of a page, pages of one reader's scrolling
TRY_S, WRITE_S, CONNECT_S, TOTAL_S = 2.0, 6.0, 0.5, 10.0  # of one web, and of all
LOOK_S, LOOK_WITHIN_S = 0.5, 1.0
AGAIN_S, GIVE_UP_S = 0.2, 180.0
WORKERS = 24

Scroll = tuple[int, str, str, tuple[str, ...]]  # user, feed, cursor, pins that were shown


@dataclass(frozen=True, slots=True)
class Page:
    """One feed request: when it was due and answered, on the monotonic clock; status 0: no web answered. wrong: what is not as
    it must be with a page that was answered.
    """

    due: float
    ended: float
    status: int
    degraded: tuple[str, ...] = ()
    wrong: str = ""

    @property
    def took_s(self) -> float:
        return self.ended - self.due

    @property
    def good(self) -> bool:
        """Whether it was answered 200 with a full page, in which nothing repeats."""
        return self.status == 200 and not self.wrong

    @property
    def is_fallback(self) -> bool:
        return "fallback" in self.degraded


@dataclass(frozen=True, slots=True)
class Written:
    """A publish that was acknowledged: when it was due, and when that was known."""

    due: float
    ended: float
    refusals: tuple[int, ...] = ()


def wrong_with(pins: Sequence[str], shown: Sequence[str], limit: int = LIMIT) -> str:
    """What is wrong with the pins of a page, of a reader who was shown others before; empty when nothing is."""
    if len(pins) < limit:
        return f"{len(pins)} pins, not {limit}"
    if len(set(pins)) < len(pins):
        return "a pin comes twice on the page"
    again = set(pins) & set(shown)
    return f"{len(again)} pins were on an earlier page" if again else ""


class Balancer:
    """The webs, the well ones first and in turn."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = list(urls)
        self.client = httpx.Client(
            timeout=httpx.Timeout(TRY_S, connect=CONNECT_S), limits=httpx.Limits(max_connections=None)
        )
        self._away: set[str] = set()
        self._turn = count()
        self._stop = threading.Event()
        self._looking = [threading.Thread(target=self._look, args=(url,), daemon=True) for url in urls]
        for thread in self._looking:
            thread.start()

    def order(self) -> list[str]:
        """Those that are away are the last resort."""
        first = next(self._turn) % len(self.urls)
        turned = self.urls[first:] + self.urls[:first]
        return sorted(turned, key=self._away.__contains__)

    def ask(self, method: str, path: str, try_s: float = TRY_S, **request: Any) -> httpx.Response | None:
        """The first answer of a web, each of which has so many seconds; None when none gave one."""
        end, refused = time.monotonic() + TOTAL_S, None
        for url in self.order():
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                answer = self.client.request(
                    method, url + path, timeout=httpx.Timeout(min(try_s, left), connect=CONNECT_S), **request
                )
            except httpx.HTTPError:
                self._away.add(url)
                continue
            if answer.status_code not in (502, 503, 504):
                return answer
            refused = answer
        return refused

    def _look(self, url: str) -> None:
        with httpx.Client(timeout=LOOK_WITHIN_S) as client:
            while not self._stop.wait(LOOK_S):
                try:
                    well = client.get(f"{url}/favicon.ico").status_code == 200
                except httpx.HTTPError:
                    well = False
                (self._away.discard if well else self._away.add)(url)

    def close(self) -> None:
        self._stop.set()
        for thread in self._looking:
            thread.join(5)
        self.client.close()


@dataclass
class Client:
    """Reads and writes until it is stopped. readers: users and feeds with enough pins; writers: users who act, and read nothing;
    pins: what they act on.
    """

    urls: Sequence[str]
    readers: Sequence[tuple[int, str]]
    writers: Sequence[int]
    pins: Sequence[int]
    pages_per_s: float = 5.0
    events_per_s: float = 20.0
    seed: int = 1
    pages: list[Page] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    batch: int = 10

    def __post_init__(self) -> None:
        self._balancer = Balancer(self.urls)
        self._choose = random.Random(self.seed)
        self._stop = threading.Event()
        self._reading, self._writing = ThreadPoolExecutor(WORKERS), ThreadPoolExecutor(WORKERS)
        self._scrolls: list[Scroll] = [(user, feed, "", ()) for user, feed in self.readers]
        self._clocks = [
            threading.Thread(target=self._at_a_rate, args=(1 / self.pages_per_s, self._read), daemon=True),
            threading.Thread(target=self._at_a_rate, args=(self.batch / self.events_per_s, self._write), daemon=True),
        ]

    def start(self) -> None:
        for clock in self._clocks:
            clock.start()

    def stop(self) -> None:
        """Returns once every request has its answer."""
        self._stop.set()
        for clock in self._clocks:
            clock.join(TOTAL_S)
        self._reading.shutdown(wait=True)
        self._writing.shutdown(wait=True)
        self._balancer.close()

    def _at_a_rate(self, every_s: float, begin: Callable[[float], None]) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            begin(due)
            due += every_s

    def _read(self, due: float) -> None:
        """The next page of a reader; where all wait for one, of another reader of the same user and feed."""
        if self._scrolls:
            user, feed, cursor, shown = self._scrolls.pop(self._choose.randrange(len(self._scrolls)))
        else:
            user, feed, cursor, shown = (*self._choose.choice(self.readers), "", ())
        self._reading.submit(self._page, due, user, feed, cursor, shown)

    def _page(self, due: float, user: int, feed: str, cursor: str, shown: tuple[str, ...]) -> None:
        query = {"user": str(user), "limit": str(LIMIT), "cursor": cursor}
        answer = self._balancer.ask("GET", f"/v1/feeds/{feed}", params=query)
        status, found = (answer.status_code, answer.json()) if answer is not None else (0, {})
        pins = tuple(str(item["pin"]) for item in found.get("items", ()))
        wrong = wrong_with(pins, shown) if status == 200 else ""
        degraded = tuple(str(stage) for stage in found.get("degraded", ()))
        self.pages.append(Page(due, time.monotonic(), status, degraded, wrong))
        goes_on = status == 200 and not wrong and len(shown) < LIMIT * (PAGES - 1)
        self._scrolls.append((user, feed, found.get("cursor", ""), shown + pins) if goes_on else (user, feed, "", ()))

    def _write(self, due: float) -> None:
        self._writing.submit(self._publish, due, [self._event() for _ in range(self.batch)])

    def _event(self) -> dict[str, Any]:
        choose = self._choose
        action, user = choose.choice(ACTIONS), choose.choice(self.writers)
        event = {"action": action, "user": user, "surface": choose.choice(FEEDS), "id": choose.getrandbits(63) | 1}
        if action.endswith("follow_user"):
            return event | {"target": choose.choice(self.writers)}
        return event | {"pin": choose.choice(self.pins)} | ({"board": user} if action == "save" else {})

    def _publish(self, due: float, events: list[dict[str, Any]]) -> None:
        """Again with the same ids while it is not known whether they were accepted."""
        refusals: list[int] = []
        while time.monotonic() < due + GIVE_UP_S:
            answer = self._balancer.ask("POST", "/v1/events", WRITE_S, json={"events": events})
            status = answer.status_code if answer is not None else 0
            if status == 202:
                self.written.append(Written(due, time.monotonic(), tuple(refusals)))
                self.acknowledged += [event["id"] for event in events]
                return
            refusals.append(status)
            if status == 400 and answer is not None:
                self.given_up.append(answer.text[:300])
                return
            if self._stop.wait(AGAIN_S):
                return  # it is not known whether it was accepted, and it counts as neither
        self.given_up.append(f"not accepted within {GIVE_UP_S:g} s: {refusals[-5:]}")


def fit(urls: Sequence[str], users: Sequence[int], enough: int) -> list[tuple[int, str]]:
    """The first users and feeds that have full pages as long as a reader scrolls, on a mesh where all is well."""
    found: list[tuple[int, str]] = []
    balancer = Balancer(urls)
    try:
        with ThreadPoolExecutor(len(FEEDS)) as pool:
            for user in users:
                scrolls = [pool.submit(_scrolled, balancer, user, feed) for feed in FEEDS]
                found += [(user, feed) for feed, said in zip(FEEDS, scrolls, strict=True) if not any(said.result())]
                if len(found) >= enough:
                    break
    finally:
        balancer.close()
    return found


def _scrolled(balancer: Balancer, user: int, feed: str) -> list[str]:
    """What is wrong with each page of a scroll."""
    found: list[str] = []
    cursor, shown = "", tuple[str, ...]()
    for _ in range(PAGES):
        query = {"user": str(user), "limit": str(LIMIT), "cursor": cursor}
        answer = balancer.ask("GET", f"/v1/feeds/{feed}", params=query)
        if answer is None or answer.status_code != 200:
            return [*found, "no page"]
        page = answer.json()
        pins = tuple(str(item["pin"]) for item in page["items"])
        found.append(wrong_with(pins, shown))
        cursor, shown = page["cursor"], shown + pins
    return found


@contextmanager
def going(client: Client) -> Iterator[Client]:
    """The client at work, until the block ends."""
    client.start()
    try:
        yield client
    finally:
        client.stop()
