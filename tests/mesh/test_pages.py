"""Pages as a reader scrolls them: full, never a pin twice, nothing that was met, and the same for the same state."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest

from cli.load import load
from feedgen.cursor import secret_of
from tests.mesh.conftest import Loaded, page, pins, sections
from tests.mesh.truth import Truth
from tests.running import Running, running_mesh

READERS, PAGES, SIZE = 100, 8, 25
PER_BOARD, PER_OWNER = 2, 3
Page = dict[str, Any]


def scroll(running: Running, user: int, pages: int = PAGES) -> list[Page]:
    found = [page(running, user)]
    while len(found) < pages and (cursor := found[-1]["cursor"] or ""):
        found.append(page(running, user, cursor=cursor))
    return found


def shown(found: Page) -> list[tuple[Any, ...]]:
    """The page as a reader sees it, in order: all but the score, which tells the hour."""
    return [tuple(value for name, value in item.items() if name != "score") for item in found["items"]]


def same(one: Page, other: Page) -> bool:
    return shown(one) == shown(other)


def readers(truth: Truth) -> list[int]:
    """Users with friends, spread over all of them: some with a few pins to see, most with thousands."""
    people = sorted(user for user in truth.friends if truth.candidates(user))
    return people[:: len(people) // READERS][:READERS]


def test_a_hundred_readers_scroll_eight_pages(lastfm: tuple[Loaded, Truth]) -> None:
    loaded, truth = lastfm
    running, people = loaded.running, readers(truth)
    assert len(people) == READERS
    down = set(pins(loaded.page(people[0]))[:3])
    tokens = [httpx.delete(f"{running.url}/v1/pins/{pin}").raise_for_status().json()["token"] for pin in down]
    loaded.page(people[0], token=",".join(tokens))
    running.until_caught_up()
    with ThreadPoolExecutor(4) as pool:
        scrolls = list(pool.map(lambda user: scroll(running, user), people))
    pages = 0
    for user, found in zip(people, scrolls, strict=True):
        assert [p["degraded"] for p in found] == [[]] * len(found), f"user {user}"
        seen = [pin for p in found for pin in pins(p)]
        pages += len(found)
        assert len(seen) == len(set(seen)), f"user {user} was shown a pin twice"
        assert not set(seen) & truth.met[user], f"user {user} was shown what they had saved"
        assert not set(seen) & down, f"user {user} was shown a pin that was taken down"
        candidates = truth.candidates(user) - down
        assert set(seen) <= candidates, f"user {user} was shown a pin that no followed user saved"
        assert all(len(p["items"]) == SIZE for p in found[:-1]), f"user {user}: a page in between was not full"
        if found[-1]["cursor"] is None and truth.boards(user) <= 500:  # of more boards, the best are looked at
            few = 0.03 * len(candidates) + 3  # so many the filter of seen pins may reject falsely, at 1 %
            assert len(seen) >= len(candidates) - few, f"user {user}: candidates were left"
        else:
            assert len(seen) == PAGES * SIZE
    assert pages > READERS * PAGES / 2, "most of them had so much to see"


def test_the_same_answer_for_the_same_state(lastfm: tuple[Loaded, Truth]) -> None:
    loaded, truth = lastfm
    for user in readers(truth)[::4]:
        first, again = loaded.page(user), loaded.page(user)
        assert same(first, again), f"user {user}"
        if first["cursor"]:
            second = loaded.page(user, cursor=first["cursor"])
            assert same(second, loaded.page(user, cursor=again["cursor"])), f"user {user}: page 2"


def test_limits_hold_while_candidates_last(lastfm: tuple[Loaded, Truth]) -> None:
    """Where a page is over a limit, nothing else within the limits was left to show."""
    loaded, truth = lastfm
    held = 0
    for user in readers(truth)[::3]:
        found = loaded.page(user, explain=True)
        on_board = Counter(int(item["board"]["id"]) for item in found["items"])
        of_owner = Counter(int(item["owner"]["id"]) for item in found["items"])
        assert all(board >> 32 in truth.friends[user] for board in on_board)
        if max(on_board.values()) <= PER_BOARD and max(of_owner.values()) <= PER_OWNER:
            held += 1
            continue
        for pin, ray in found["xray"]["pins"].items():
            if (ray["dropped"] or {}).get("stage") == "slate":
                board = int(ray["sources"][0]["board"])
                full = on_board[board] >= PER_BOARD or of_owner[board >> 32] >= PER_OWNER
                assert full, f"user {user}: pin {pin} was within the limits and was left out"
    assert held, "no user had candidates enough"


@pytest.mark.long  # test_layouts.py has other numbers of shards beside each other
def test_however_many_shards(world: Path, tmp_path: Path) -> None:
    """One folder, served by one shard, by two and by three, each re-reading the log: the same pages."""
    data, people = tmp_path / "data", range(1, 200, 8)
    expected: dict[int, list[Any]] = {}
    for shards in (1, 2, 3):
        started = time.monotonic()
        with running_mesh(data, sections(shards)) as running:
            ready = time.monotonic() - started
            print(f"{shards} shards a view: ready after {ready:.1f} s")
            assert ready < 60  # 20 s on a machine of one's own
            if not expected:
                load("parquet", world, data=data)
            running.until_caught_up()
            for user in people:
                found = scroll(running, user, 3)
                assert not any(p["degraded"] for p in found), f"user {user}: {[p['degraded'] for p in found]}"
                pages = [shown(p) for p in found]
                if pages != expected.setdefault(user, pages):
                    behind = {f"{h.of.service}-{h.of.shard}": h.status and h.status.behind for h in running.health()}
                    ray = page(running, user, explain=True)["xray"]
                    assert pages == expected[user], f"user {user}, {shards} shards: {ray['stages']}; {behind}"
    assert sum(len(items) for pages in expected.values() for items in pages) > 25 * len(people)


def test_feedgen_and_the_edge_make_one_secret_between_them(tmp_path: Path) -> None:
    """Both ask for it as they start, at the same moment the first time: a page of either goes on at the other."""
    for turn in range(30):
        data, start = tmp_path / str(turn), Barrier(4)
        data.mkdir()

        def ask(_: int, data: Path = data, start: Barrier = start) -> bytes:
            start.wait()
            return secret_of(data)

        with ThreadPoolExecutor(4) as pool:
            secrets = set(pool.map(ask, range(4)))
        assert len(secrets) == 1
        assert len(secrets.pop()) == 32
        assert [(p.name, p.stat().st_mode & 0o777) for p in data.iterdir()] == [("cursor.secret", 0o600)]
