"""Interest, picked and home on Last.fm: full pages without repeats, nothing met, and what a reader saves moves them."""

import itertools
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.mesh.conftest import Loaded, page, pins
from tests.mesh.truth import Truth

PAGES, SIZE = 8, 25
READERS = int(os.environ.get("FEEDMESH_READERS", "25"))  # 100 take some minutes
FEEDS = ("interest", "picked", "home")
_new = itertools.count(9_500_001)
Page = dict[str, Any]


def readers(truth: Truth, count: int) -> list[int]:
    """Users with friends and tags of their own, spread over all of them."""
    people = sorted(user for user in truth.friends if truth.candidates(user) and truth.met[user])
    return people[:: len(people) // count][:count]


def scroll(loaded: Loaded, user: int, feed: str) -> list[Page]:
    found = [page(loaded.running, user, feed)]
    while len(found) < PAGES and (cursor := found[-1]["cursor"] or ""):
        found.append(page(loaded.running, user, feed, cursor=cursor))
    return found


@pytest.mark.parametrize("feed", FEEDS)
def test_readers_scroll_eight_pages(lastfm: tuple[Loaded, Truth], feed: str) -> None:
    loaded, truth = lastfm
    people = readers(truth, READERS)
    first = page(loaded.running, people[0], feed)
    down, hidden = pins(first)[0], pins(first)[1]
    tokens = [httpx.delete(f"{loaded.running.url}/v1/pins/{down}").raise_for_status().json()["token"]]
    tokens.append(loaded.publish({"action": "hide", "user": str(people[0]), "pin": str(hidden)})["token"])
    page(loaded.running, people[0], feed, token=",".join(tokens))
    loaded.running.until_caught_up()
    with ThreadPoolExecutor(4) as pool:
        scrolls = list(pool.map(lambda user: scroll(loaded, user, feed), people))
    for user, found in zip(people, scrolls, strict=True):
        assert [p["degraded"] for p in found] == [[]] * len(found), f"user {user}"
        seen = [pin for p in found for pin in pins(p)]
        assert len(seen) == len(set(seen)), f"user {user} was shown a pin twice"
        assert not set(seen) & truth.met[user], f"user {user} was shown what they had saved"
        assert down not in seen, f"user {user} was shown a pin that was taken down"
        assert all(len(p["items"]) == SIZE for p in found[:-1]), f"user {user}: a page in between was not full"
    assert hidden not in [pin for p in scrolls[0] for pin in pins(p)]
    assert sum(len(found) for found in scrolls) > len(people) * PAGES * 0.9, "nearly everybody has so much to see"


def interests(found: Page) -> Counter[str]:
    return Counter(name for item in found["items"] for name in item["interests"])


@pytest.mark.parametrize("feed", ["picked", "interest"])
def test_three_saves_of_one_interest_move_the_next_page(lastfm: tuple[Loaded, Truth], feed: str) -> None:
    loaded, truth = lastfm
    user = readers(truth, 10)[3 if feed == "picked" else 5]
    before = interests(page(loaded.running, user, feed))
    # Pins of an interest that the page has little of, as another reader's feed shows them.
    other = [item for friend in readers(truth, 60) for item in page(loaded.running, friend, "interest")["items"]]
    names = Counter(name for item in other for name in item["interests"] if before[name] <= 1)
    wanted = next(name for name, _ in names.most_common() if names[name] >= 8)
    saved = list({item["pin"]: item for item in other if wanted in item["interests"]})[:3]
    answer = loaded.publish(*({"action": "save", "user": str(user), "pin": pin, "board": "77001"} for pin in saved))
    after = page(loaded.running, user, feed, token=answer["token"])
    assert after["degraded"] == []
    assert interests(after)[wanted] >= max(4, 2 * before[wanted]), (
        f"{wanted}: {before[wanted]} before, {interests(after)}"
    )
    assert not set(pins(after)) & {int(pin) for pin in saved}


@pytest.mark.parametrize("feed", FEEDS)
def test_a_new_reader_gets_what_is_popular_and_the_first_save_changes_the_page(loaded: Loaded, feed: str) -> None:
    user = next(_new)
    first = page(loaded.running, user, feed)
    assert len(first["items"]) == SIZE
    assert first["degraded"] == []
    assert {item["source"] for item in first["items"]} <= {"popular_pins", "fresh_pins"}
    saved = next(item["pin"] for item in first["items"][3:] if item["interests"] and item["source"] == "popular_pins")
    answer = loaded.publish({"action": "save", "user": str(user), "pin": saved, "board": "77002"})
    second = page(loaded.running, user, feed, token=answer["token"])
    assert second["degraded"] == []
    assert int(saved) not in pins(second)
    sources = {item["source"] for item in second["items"]}
    assert sources - {"popular_pins", "fresh_pins"}, f"the save changed nothing: {sources}"
