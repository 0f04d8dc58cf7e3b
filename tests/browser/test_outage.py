"""The feed page while parts of the mesh are dead: it says so, keeps what it has, and goes on by itself."""

import json
import time
from collections.abc import Iterator
from itertools import islice

import pytest
from playwright.sync_api import Request, Route, expect

from tests.browser.visit import PATIENCE_MS, Api, Visit, away
from tests.running import Running

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def readers(readers: Iterator[str]) -> Iterator[str]:
    """Found before anything is killed."""
    return iter(list(islice(readers, 10)))


POPULAR = "popular with everybody"


def reasons(visit: Visit) -> list[str]:
    """The reason on each card, in feed order."""
    return visit.cards.get_by_test_id("card-reason").all_text_contents()


def until_whole(visit: Visit) -> None:
    """Read on until a page lacks nothing any more."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while visit.id("degraded-notice").is_visible():
        assert time.monotonic() < end, "the feed did not become whole again"
        visit.to_the_end()
    expect(visit.id("feed-waiting")).to_have_count(0)


def test_reading_goes_on_while_aperture_is_away(visit: Visit, mesh: Running, reader: str) -> None:
    asked: list[Request] = []
    visit.page.on("request", lambda request: asked.append(request) if "/v1/feeds/" in request.url else None)
    visit.feed(reader)
    visit.further()
    shown = visit.pins()
    with away(mesh, "aperture"):
        before = len(asked)
        visit.to_the_end()
        expect(visit.id("degraded-notice")).to_contain_text("Showing your last feed")
        expect(visit.id("degraded-notice")).to_be_in_viewport()  # however far down one is
        expect(visit.id("feed-waiting")).to_contain_text("Looking again in 4 s")  # a second time by now
        assert len(asked) - before < 8  # it waits between, and does not hammer
        listed = visit.pins()
        assert listed[: len(shown)] == shown
        assert POPULAR not in reasons(visit)  # strangers' pins are not what those one follows have
        visit.page.evaluate("() => scrollTo(0, 0)")
        visit.cards.nth(3).get_by_test_id("card-closeup").click()  # the cards that are there can be used
        expect(visit.id("closeup-dialog").locator(".facts")).to_be_visible()
        visit.page.keyboard.press("Escape")
        assert visit.pins() == listed
        visit.to_the_end()
    expect(visit.cards.nth(len(listed))).to_be_attached()
    expect(visit.id("degraded-notice")).to_be_hidden()
    expect(visit.id("feed-waiting")).to_have_count(0)
    pins = visit.pins()
    assert len(set(pins)) == len(pins)


def test_home_goes_on_with_popular_pins_where_the_last_feed_ends(visit: Visit, mesh: Running, reader: str) -> None:
    visit.feed(reader, "home")
    with away(mesh, "aperture"):  # whose own pages may have popular pins too, so that a card says nothing
        while f"Showing what is {POPULAR}" not in (visit.id("degraded-notice").text_content() or ""):
            visit.further()
    until_whole(visit)
    pins = visit.pins()
    assert len(set(pins)) == len(pins)


def test_a_page_opened_while_aperture_is_away(visit: Visit, mesh: Running, reader: str) -> None:
    with away(mesh, "aperture"):
        visit.open(f"/?user={reader}&feed=following")
        visit.cards.first.wait_for()  # never served before: there is no last feed
        expect(visit.id("degraded-notice")).to_contain_text("Showing what is popular with everybody")
        assert set(reasons(visit)) == {POPULAR}
        stood_in = visit.cards.count()
    until_whole(visit)
    assert not [reason for reason in reasons(visit)[-25:] if reason == POPULAR]
    assert visit.cards.count() > stood_in


def test_a_feed_without_words_is_still_a_feed(visit: Visit, mesh: Running, api: Api, reader: str) -> None:
    whole = api.get("/v1/feeds/following", user=reader)
    assert whole["degraded"] == []  # scorpion and realpin have asked rockstore by now
    with away(mesh, "rockstore"):
        visit.feed(reader)
        expect(visit.id("degraded-notice")).to_have_attribute("data-lost", "titles")
        expect(visit.id("degraded-notice")).to_contain_text("less complete than usual")
        expect(visit.cards.first.locator(".cover-title")).to_contain_text("pin ")
        visit.expects("/v1/pins/")
        visit.cards.first.get_by_test_id("card-closeup").click()
        expect(visit.id("closeup-dialog")).to_contain_text("could not be loaded: Something is away just now.")
        visit.page.keyboard.press("Escape")
    refreshed = {"degraded": ["titles"]}
    while "titles" in refreshed["degraded"]:  # until the others have found it again
        with visit.page.expect_response("**/v1/feeds/following**") as answered:
            visit.page.reload()  # the notice's own button may be gone: a further page that lacked nothing takes it away
        refreshed = answered.value.json()
        visit.cards.first.wait_for()
    expect(visit.id("degraded-notice")).to_be_hidden()
    expect(visit.cards.first.locator(".cover-title")).not_to_contain_text("pin ")


def test_home_without_scorpion_is_ranked_by_the_light_score(visit: Visit, mesh: Running, reader: str) -> None:
    with away(mesh, "scorpion"):
        visit.feed(reader, "home")
        expect(visit.id("degraded-notice")).to_have_attribute("data-lost", "ranked")
        expect(visit.page.locator("#panel")).to_have_attribute("data-model", "light")
        assert visit.cards.count() == 25
    page = {"model": "light"}
    while page["model"] != "ranker@1":  # until feedgen has found it again
        with visit.page.expect_response("**/v1/feeds/home**") as answered:
            visit.page.reload()
        page = answered.value.json()
        visit.cards.first.wait_for()
    expect(visit.page.locator("#panel")).to_have_attribute("data-model", "ranker@1")


def test_without_feedgen_there_is_the_last_feed_and_then_fresh_pins(visit: Visit, mesh: Running, reader: str) -> None:
    visit.feed(reader)
    served = visit.pins()
    with away(mesh, "feedgen"):
        visit.page.reload()
        visit.cards.first.wait_for()
        expect(visit.id("degraded-notice")).to_contain_text("Showing your last feed")
        expect(visit.cards.first.get_by_test_id("card-reason")).to_have_text("from your last feed")
        assert set(visit.pins()) & set(served)
        visit.to_the_end()
        expect(visit.id("feed-waiting")).to_be_visible()
        assert set(reasons(visit)) == {"from your last feed"}
    expect(visit.id("degraded-notice")).to_be_hidden()
    expect(visit.id("feed-waiting")).to_have_count(0)
    expect(visit.cards.last.get_by_test_id("card-reason")).to_contain_text("follow")
    pins = visit.pins()
    assert len(set(pins)) == len(pins)


def test_a_save_that_cannot_be_written_is_taken_back_aloud(visit: Visit, mesh: Running, api: Api, reader: str) -> None:
    visit.expects("/v1/events")
    visit.feed(reader)
    save = visit.cards.first.get_by_test_id("card-save")
    with away(mesh, "roadrunner"):
        save.click()
        failure = visit.page.locator(".toast-error")
        expect(failure).to_contain_text("was not saved: Something is away just now")
        expect(failure.get_by_test_id("toast-action")).to_have_text("Try again")
        expect(save).to_have_attribute("aria-pressed", "false")
    api.until_writable()
    save.click()
    expect(visit.id("toast").last).to_contain_text("Saved to")
    expect(save).to_have_attribute("aria-pressed", "true")


def test_a_save_outlives_a_short_outage(visit: Visit, reader: str) -> None:
    visit.expects("/v1/events")
    visit.feed(reader)
    ids: list[str] = []

    def fail_once(route: Route) -> None:
        wrote = json.loads(route.request.post_data or "")["events"]
        if wrote[0]["action"] != "save":
            return route.continue_()
        ids.append(wrote[0]["id"])
        if len(ids) > 1:
            return route.continue_()
        route.fulfill(status=503, json={"error": {"status": "UNAVAILABLE", "message": "away"}})

    visit.page.route("**/v1/events", fail_once)
    save = visit.cards.first.get_by_test_id("card-save")
    save.click()
    expect(visit.id("toast").last).to_contain_text("Saved to")
    expect(save).to_have_attribute("aria-pressed", "true")
    assert len(ids) == 2
    assert ids[0] == ids[1]  # so it counts once even if the first had arrived


def test_when_the_edge_itself_is_away(visit: Visit, mesh: Running, reader: str) -> None:
    visit.feed(reader)
    visit.expects("")
    shown = visit.pins()
    with away(mesh, "web"):
        visit.to_the_end()
        expect(visit.id("feed-error")).to_contain_text("can't be reached")
        assert visit.pins()[: len(shown)] == shown
    visit.further()
    expect(visit.id("feed-error")).to_have_count(0)
