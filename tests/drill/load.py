"""The load of a drill: readers that scroll feeds and writers that act on what they see, through the edge."""

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

ACTIONS = ("impression", "impression", "impression", "closeup", "click", "save", "hide", "follow_user", "unfollow_user")
FEEDS = ("following", "interest", "picked", "home")
TIMEOUT_S = 10.0


@dataclass
class Load:
    """Threads that ask and act until stopped. acknowledged: ids of events that were answered 202."""

    url: str
    users: list[int]
    seed: int
    threads: int = 4
    acknowledged: list[int] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(self.threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, number: int) -> None:
        choose = random.Random(f"{self.seed}.{number}")
        with httpx.Client(base_url=self.url, timeout=TIMEOUT_S) as client:
            while not self._stop.is_set():
                self._scroll(client, choose)

    def _scroll(self, client: httpx.Client, choose: random.Random) -> None:
        """One reader: two pages of a feed, acting on what they show."""
        user, cursor, feed = choose.choice(self.users), "", choose.choice(FEEDS)
        for _ in range(2):
            query = {"user": str(user), "limit": "25", "cursor": cursor}
            try:
                answer = client.get(f"/v1/feeds/{feed}", params=query)
            except httpx.HTTPError as error:
                self.failed.append(repr(error))  # the edge itself was away
                return
            page = self._counted(answer)
            self._act(client, choose, user, feed, [int(item["pin"]) for item in page.get("items", [])])
            cursor = page.get("cursor") or ""
            if not cursor:
                return

    def _counted(self, answer: httpx.Response) -> dict[str, Any]:
        with self._lock:
            self.answers[answer.status_code] += 1
            if answer.status_code != 200:
                self.failed.append(f"{answer.status_code}: {answer.text[:200]}")
                return {}
            page: dict[str, Any] = answer.json()
            self.degraded.update(str(stage) for stage in page["degraded"])
        return page

    def _act(self, client: httpx.Client, choose: random.Random, user: int, feed: str, pins: list[int]) -> None:
        happened = []
        for _ in range(choose.randint(1, 8)):
            action = choose.choice(ACTIONS)
            event = {"action": action, "user": user, "surface": feed, "id": choose.getrandbits(63) | 1}
            if action.endswith("follow_user"):
                event["target"] = choose.choice(self.users)
            elif pins:
                event |= {"pin": choose.choice(pins), "board": user if action == "save" else 0}
            else:
                continue
            happened.append({name: value for name, value in event.items() if value})
        if happened:
            self._publish(client, happened)

    def _publish(self, client: httpx.Client, happened: list[dict[str, object]]) -> None:
        """Publish, and again with the same ids when it is not known whether it was accepted."""
        for _ in range(40):
            try:
                answer = client.post("/v1/events", json={"events": happened})
            except httpx.HTTPError:
                status = 0
            else:
                status = answer.status_code
            if status == 202:
                with self._lock:
                    self.acknowledged += [int(str(e["id"])) for e in happened]
                return
            self.refused[status] += 1
            if status == 400 or self._stop.wait(0.1):
                return
