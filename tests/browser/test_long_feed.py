"""A feed of a hundred pages: it never stalls, and the document stays small."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.visit import Visit, silent

pytestmark = pytest.mark.browser
PAGE = 25
#: Most cards that may be in the document at once; the page keeps all of 240, and beyond that those near the screen.
MOST_CARDS = 260
LAST_PLACE = "() => Math.max(0, ...[...document.querySelectorAll('.card[aria-posinset]')].map((c) => +c.ariaPosInSet))"


def endless(pages: int) -> Callable[[Route], None]:
    """Answers a feed of so many pages, each of other pins, with titles of many lengths."""

    def answer(route: Route) -> None:
        found = re.search(r"cursor=(\d+)", route.request.url)
        at = int(found[1]) if found else 0
        items = [item(at * PAGE + i) for i in range(PAGE)]
        cursor = str(at + 1) if at + 1 < pages else None
        page: dict[str, Any] = {"items": items, "cursor": cursor, "degraded": [], "model": "light"}
        body = json.dumps(page | {"request_id": str(at), "took_ms": 1})
        route.fulfill(status=200, content_type="application/json", body=body)

    return answer


def item(i: int) -> dict[str, Any]:
    title = " ".join(["pin", str(i), *["word"] * (i * 7 % 23)])
    owner, board = {"id": "8", "name": "somebody"}, {"id": "9", "title": "a board"}
    of = {"pin": str(i + 1), "title": title, "link": "", "board": board, "owner": owner, "interests": ["clay"]}
    return of | {"source": "followed_boards", "reason": "from a board, a board you follow", "score": 1.0, "at_ms": 1}


def further(visit: Visit) -> None:
    """Scroll to the end until the next card is there, wherever the first ones are."""
    last = visit.page.evaluate(LAST_PLACE)
    visit.to_the_end()
    expect(visit.page.locator(f'.card[aria-posinset="{last + 1}"]')).to_be_attached()


@pytest.fixture
def long_feed(visit: Visit, reader: str) -> Visit:
    silent(visit)
    visit.page.route(re.compile("/v1/feeds/"), endless(100))
    visit.feed(reader)
    return visit


def test_the_document_stays_small_over_a_hundred_pages(long_feed: Visit) -> None:
    visit, most = long_feed, 0
    while visit.page.evaluate(LAST_PLACE) < 100 * PAGE:
        further(visit)
        most = max(most, visit.cards.count())
    assert most <= MOST_CARDS
    visit.to_the_end()
    expect(visit.id("end-of-feed")).to_contain_text("2,500 pins shown")
    visit.page.evaluate("() => scrollTo(0, 0)")
    expect(visit.card("1")).to_be_visible()
    pins = visit.pins()
    assert pins == sorted(pins, key=int), "in feed order, wherever one has been"
    assert len(pins) <= MOST_CARDS
    visit.page.keyboard.press("j")
    assert visit.focused() == "1"


def test_a_card_far_away_keeps_its_place_and_what_was_done_to_it(long_feed: Visit) -> None:
    visit = long_feed
    card = visit.card("3")
    card.get_by_test_id("card-hide").click()
    expect(card).to_have_count(0)
    visit.id("toast-action").click()
    expect(card).to_be_visible()
    where = "(card) => [card.style.transform, card.offsetHeight]"
    before = visit.card("7").evaluate(where)
    for _ in range(20):
        further(visit)
    expect(visit.card("7")).to_have_count(0)
    visit.page.evaluate("() => scrollTo(0, 0)")
    expect(visit.card("7")).to_be_visible()
    assert visit.card("7").evaluate(where) == before


def test_a_bottom_that_is_reached_while_cards_arrive_brings_the_next_page(visit: Visit, reader: str) -> None:
    """In the frame in which cards are added the reader is at the new bottom already: an observer sees no change."""
    silent(visit)
    visit.page.route(re.compile("/v1/feeds/"), endless(12))
    visit.page.add_init_script(
        "addEventListener('DOMContentLoaded', () => new MutationObserver(() =>"
        " scrollTo(0, document.documentElement.scrollHeight)).observe(document.getElementById('cards'), {childList: true}))"
    )
    visit.feed(reader)
    expect(visit.id("end-of-feed")).to_contain_text("300 pins shown")


def test_no_title_ends_in_half_a_line(visit: Visit, reader: str) -> None:
    silent(visit)
    visit.page.route(re.compile("/v1/feeds/"), endless(4))
    visit.feed(reader)
    further(visit)
    cut = """(words) => words.filter((w) => {
        const line = parseFloat(getComputedStyle(w).lineHeight), lines = w.clientHeight / line;
        return Math.abs(lines - Math.round(lines)) > 0.06 || w.clientHeight > 7.1 * line;
    }).map((w) => w.textContent)"""
    assert visit.page.locator(".card .cover-words").evaluate_all(cut) == []
