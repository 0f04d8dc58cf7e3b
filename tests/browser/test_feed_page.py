"""The feed page with people in it: choosing a user, reading, saving, hiding, looking closer, and coming back."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from playwright.sync_api import Response, expect

from services.core.events import RESERVED_FROM
from tests.browser.conftest import Visitor
from tests.browser.visit import Api, Visit, events, is_feed, silent, wrote
from tests.scorpion.making import NAMES

pytestmark = pytest.mark.browser
PARTS = ["light", "weight", "affinity", "final"]
FEEDS = ("home", "following", "interest", "picked")


def test_a_person_is_chosen_by_typing(visit: Visit, reader: str) -> None:
    visit.open("/")
    expect(visit.id("welcome")).to_be_visible()
    expect(visit.id("welcome-user").first).to_be_visible()
    visit.id("user-chooser").click()
    expect(visit.id("user-option").first).to_be_visible()
    visit.page.keyboard.type(reader)
    option = visit.page.locator(f'[data-testid="user-option"][data-user="{reader}"]')
    expect(option).to_have_count(1)
    option.click()
    visit.cards.first.wait_for()
    expect(visit.page).to_have_url(re.compile(rf"user={reader}&feed=home$"))
    expect(visit.id("user-list")).to_be_hidden()
    expect(visit.id("user-summary")).to_contain_text("follows")


def test_enter_takes_whom_one_typed_however_fast(visit: Visit, reader: str) -> None:
    visit.open("/")
    visit.id("user-chooser").focus()
    visit.page.keyboard.insert_text(reader)
    visit.page.keyboard.press("Enter")
    visit.cards.first.wait_for()
    expect(visit.page).to_have_url(re.compile(rf"user={reader}&"))


def test_who_is_not_found_is_said(visit: Visit) -> None:
    visit.open("/")
    visit.id("user-chooser").fill("nobody is called this")
    expect(visit.id("user-list")).to_contain_text("Nobody is called")
    visit.page.keyboard.press("Escape")
    expect(visit.id("user-list")).to_be_hidden()


def test_home_comes_first(visit: Visit, reader: str) -> None:
    visit.open(f"/?user={reader}")
    visit.cards.first.wait_for()
    expect(visit.id("tab-home")).to_have_attribute("aria-selected", "true")
    tabs = visit.page.locator('[role="tab"]')
    expect(tabs).to_have_text(["Home", "Following", "Interest", "Picked for you"])
    assert tabs.evaluate_all("tabs => tabs.map((tab) => tab.dataset.feed)") == list(FEEDS)


def test_every_tab_shows_its_feed(visit: Visit, reader: str) -> None:
    visit.feed(reader, FEEDS[0])
    for feed in (*FEEDS[1:], FEEDS[0]):
        with visit.page.expect_response(re.compile(f"/v1/feeds/{feed}[?]")) as answered:
            visit.id(f"tab-{feed}").click()
        page = answered.value.json()
        expect(visit.id(f"tab-{feed}")).to_have_attribute("aria-selected", "true")
        expect(visit.page).to_have_url(re.compile(f"feed={feed}$"))
        expect(visit.card(page["items"][0]["pin"])).to_be_visible()
        assert visit.pins()[: len(page["items"])] == [item["pin"] for item in page["items"]]
        expect(visit.page.locator("#panel")).to_have_attribute("data-model", page["model"])
        assert (page["model"], page["degraded"]) == ("ranker@1", [])
        expect(visit.page.locator("h1")).to_contain_text("feed")


def test_a_card_says_what_it_is_and_why_it_is_here(visit: Visit, reader: str) -> None:
    with visit.page.expect_response(is_feed) as answered:
        visit.feed(reader)
    items = answered.value.json()["items"]
    assert len(items) == 25
    for item in items:
        card = visit.card(item["pin"])
        expect(card.locator(".cover-title")).to_have_text(item["title"])
        expect(card.get_by_test_id("card-reason")).to_have_text(item["reason"])
        assert item["reason"]
        expect(card.locator(".chip:not(.chip-rest)")).to_have_text(item["interests"][:3])
        link = card.get_by_test_id("card-link")
        assert link.count() == (1 if item["link"] else 0)
        if item["link"]:
            assert link.get_attribute("href") == item["link"]
            assert "noopener" in (link.get_attribute("rel") or "")
    assert any(item["interests"] for item in items)


def test_scrolling_brings_further_pages_and_no_pin_twice(visit: Visit, reader: str) -> None:
    answers: list[Response] = []
    visit.page.on("response", lambda answer: answers.append(answer) if is_feed(answer) else None)
    visit.feed(reader)
    for _ in range(4):
        visit.further()
    pins = visit.pins()
    assert len(pins) >= 125
    assert len(set(pins)) == len(pins)
    assert pins[:125] == [item["pin"] for answer in answers[:5] for item in answer.json()["items"]]
    assert len({answer.url for answer in answers}) == len(answers)
    places = visit.cards.evaluate_all("cards => cards.map((card) => card.getAttribute('aria-posinset'))")
    assert places == [str(i + 1) for i in range(len(pins))]


def test_a_short_feed_ends_in_words(visit: Visit, api: Api) -> None:
    stranger = str(RESERVED_FROM - 1)
    visit.open(f"/?user={stranger}&feed=following")
    expect(visit.id("end-of-feed")).to_contain_text("Nothing here yet")
    expect(visit.cards).to_have_count(0)


def test_a_saved_pin_shows_it_and_comes_on_no_further_page(visit: Visit, api: Api, reader: str) -> None:
    answers: list[Response] = []
    visit.page.on("response", lambda answer: answers.append(answer) if is_feed(answer) else None)
    visit.feed(reader)
    pin = visit.pins()[1]
    save = visit.card(pin).get_by_test_id("card-save")
    expect(save).to_have_attribute("aria-pressed", "false")
    with visit.page.expect_response(wrote("save")) as written:
        save.click()
    assert written.value.status == 202
    token, before = written.value.json()["token"], len(answers)
    expect(save).to_have_attribute("aria-pressed", "true")
    expect(save).to_have_text("Saved")
    expect(visit.id("toast")).to_contain_text("Saved to")
    visit.further()  # may have been asked for before the save
    visit.further()
    assert token in unquote(answers[-1].url)
    assert pin not in [item["pin"] for answer in answers[before:] for item in answer.json()["items"]]
    assert pin not in api.pins(reader, token)
    visit.page.reload()
    visit.cards.first.wait_for()
    assert pin not in visit.pins()


def test_a_save_is_taken_back(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    save = visit.cards.first.get_by_test_id("card-save")
    with visit.page.expect_response(wrote("save")):
        save.click()
    with visit.page.expect_response(wrote("unsave")) as written:
        visit.id("toast-action").click()
    assert written.value.status == 202
    expect(save).to_have_attribute("aria-pressed", "false")
    expect(visit.id("toast").last).to_contain_text("Removed from")


def test_a_board_is_chosen_to_save_to(visit: Visit, api: Api, reader: str) -> None:
    visit.feed(reader)
    card, boards = visit.cards.first, api.get(f"/v1/users/{reader}")["boards"]
    card.get_by_test_id("card-save-choose").click()
    expect(visit.id("save-menu")).to_be_visible()
    rows = visit.id("save-board")
    expect(rows).to_have_count(len(boards))
    chosen = rows.last.get_attribute("data-board")
    with visit.page.expect_request(lambda asked: asked.url.endswith("/v1/events")) as written:
        rows.last.click()
    assert events(written.value)[0]["board"] == chosen
    expect(visit.id("save-menu")).to_be_hidden()
    expect(card.get_by_test_id("card-save")).to_have_attribute("aria-pressed", "true")


def test_a_hidden_pin_collapses_and_never_comes_back(visit: Visit, api: Api, reader: str) -> None:
    visit.feed(reader)
    pin, below = visit.pins()[0], visit.pins()[1]
    with visit.page.expect_response(wrote("hide")) as written:
        visit.card(pin).get_by_test_id("card-hide").click()
    expect(visit.card(pin)).to_have_count(0)
    assert visit.pins()[0] == below
    assert visit.focused() == below
    assert pin not in api.pins(reader, written.value.json()["token"])
    visit.further()
    assert pin not in visit.pins()
    visit.page.reload()
    visit.cards.first.wait_for()
    assert pin not in visit.pins()


def test_a_hide_can_be_taken_back(visit: Visit, reader: str) -> None:
    written: list[Response] = []
    visit.page.on("response", lambda answer: written.append(answer) if wrote("hide")(answer) else None)
    visit.feed(reader)
    before = visit.pins()
    for pin in before[2:4]:
        visit.card(pin).get_by_test_id("card-hide").click()
        expect(visit.card(pin)).to_have_count(0)
    for _ in range(2):
        visit.id("toast-action").last.click()
    expect(visit.card(before[3])).to_be_visible()
    assert visit.pins() == before
    assert not written
    visit.card(before[0]).get_by_test_id("card-hide").click()
    with visit.page.expect_response(wrote("hide")):
        visit.page.evaluate("() => dispatchEvent(new PageTransitionEvent('pagehide'))")


def test_somebody_without_a_board_makes_one_where_they_save(visit: Visit, api: Api) -> None:
    stranger = str(2**62 + 17)
    visit.feed(stranger, "home")
    card = visit.cards.first
    pin = card.get_attribute("data-pin")
    card.get_by_test_id("card-save").click()
    visit.id("new-board").fill("  Things to make  ")
    with visit.page.expect_response(wrote("create_board")) as written:
        visit.page.keyboard.press("Enter")
    assert written.value.status == 202
    expect(card.get_by_test_id("card-save")).to_have_attribute("aria-pressed", "true")
    assert [event["action"] for event in events(written.value.request)] == ["create_board", "save"]
    boards = api.get(f"/v1/users/{stranger}", token=written.value.json()["token"])["boards"]
    assert [board["title"] for board in boards] == ["Things to make"]
    assert pin not in api.pins(stranger, written.value.json()["token"], "home")
    visit.cards.nth(1).get_by_test_id("card-save").click()  # the board is the one to save to from now on
    expect(visit.cards.nth(1).get_by_test_id("card-save")).to_have_attribute("aria-pressed", "true")


def test_a_closer_look_keeps_the_focus_and_gives_it_back(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    opener = visit.cards.nth(2).get_by_test_id("card-closeup")
    with visit.page.expect_response(wrote("closeup")):
        opener.click()
    dialog = visit.id("closeup-dialog")
    expect(dialog).to_be_visible()
    expect(visit.id("closeup-title")).to_have_text(visit.cards.nth(2).locator(".cover-title").inner_text())
    expect(dialog.locator("#closeup-detail .facts")).to_be_visible()
    outside = (
        "() => !document.activeElement.closest('dialog[open]') && document.activeElement !== document.body"
        " && document.activeElement !== document.documentElement"
    )
    stops = set()
    for key in ["Tab"] * 25 + ["Shift+Tab"] * 25:
        visit.page.keyboard.press(key)
        assert not visit.page.evaluate(outside)
        stops.add(visit.focused())
    assert {"closeup-hide", "closeup-next", "closeup-dialog-close", "follow-user"} <= stops
    visit.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()


def test_a_closer_look_steps_on_and_hides(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    pins = visit.pins()
    visit.card(pins[0]).get_by_test_id("card-closeup").click()
    expect(visit.id("closeup-previous")).to_be_disabled()
    visit.id("closeup-next").click()
    expect(visit.id("closeup-title")).to_have_text(visit.card(pins[1]).locator(".cover-title").inner_text())
    visit.id("closeup-previous").click()
    with visit.page.expect_response(wrote("hide")):
        visit.id("closeup-hide").click()
    expect(visit.id("closeup-dialog")).to_be_hidden()
    expect(visit.card(pins[0])).to_have_count(0)
    assert visit.focused() == pins[1]


def test_following_is_taken_at_once(visit: Visit, api: Api, reader: str) -> None:
    visit.feed(reader)
    visit.cards.first.get_by_test_id("card-closeup").click()
    button = visit.id("follow-board")
    board, was = button.get_attribute("data-id"), button.get_attribute("aria-pressed")
    action = "follow_board" if was == "false" else "unfollow_board"
    with visit.page.expect_response(wrote(action)) as written:
        button.click()
    expect(button).to_have_attribute("aria-pressed", "true" if was == "false" else "false")
    follows = api.get(f"/v1/users/{reader}", token=written.value.json()["token"])["follows"]["boards"]
    assert (board in [b["id"] for b in follows]) == (was == "false")


def test_why_this_shows_source_scores_and_stages(visit: Visit, reader: str) -> None:
    silent(visit)
    visit.feed(reader)
    card = visit.cards.nth(1)
    card.get_by_test_id("card-why").click()
    panel = visit.id("why-panel")
    expect(panel.get_by_test_id("why-reason")).to_have_text(card.get_by_test_id("card-reason").inner_text())
    expect(panel.get_by_test_id("why-sources")).to_contain_text("followed boards")
    expect(panel.get_by_test_id("why-note")).to_have_count(0)
    expect(panel.get_by_test_id("why-scores").locator("dt")).to_have_text(PARTS)
    expect(panel.get_by_test_id("why-scores").locator("dd").first).to_have_text(re.compile(r"\d+ of [\d,]+"))
    stages = panel.get_by_test_id("why-stages").locator(".stage-name")
    names = " ".join(stages.all_inner_texts())
    assert [name for name in ("followed", "seen", "duplicate", "ranked", "slate", "titles") if name not in names] == []
    visit.page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(card.get_by_test_id("card-why")).to_be_focused()


def test_why_this_names_walk_seeds_feature_values_and_parts_of_the_score(
    visit: Visit, api: Api, readers: Iterator[str]
) -> None:
    def walked(user: str) -> list[str]:
        items = api.get("/v1/feeds/picked", user=user, explain="true")["items"]
        return [item["pin"] for item in items if item["source"] in ("walked_boards", "walked_pins")]

    silent(visit)
    reader = next(user for user in readers if walked(user))
    visit.feed(reader, "picked")
    pin = walked(reader)[0]
    with visit.page.expect_response(re.compile("explain=true")) as answered:
        visit.card(pin).get_by_test_id("card-why").click()
    xray = answered.value.json()["xray"]
    of, panel = xray["pins"][pin], visit.id("why-panel")
    rows = panel.locator("[data-pin]")
    expect(rows).to_have_count(len(xray["walk"]["seeds"]))
    said = dict(rows.evaluate_all("rows => rows.map((row) => [row.dataset.pin, row.textContent])"))
    for seed in xray["walk"]["seeds"]:
        assert seed["title"] in said[seed["pin"]]
        assert "weight" in said[seed["pin"]]
    expect(panel.get_by_test_id("why-seeds").locator("li").first).to_be_visible()
    led = {source["seed"] for source in of["sources"]} & {seed["pin"] for seed in xray["walk"]["seeds"]}
    marked = panel.locator('[data-pin][data-led="true"]')
    assert set(marked.evaluate_all("rows => rows.map((row) => row.dataset.pin)")) == led
    assert led
    found = panel.get_by_test_id("why-sources").locator(":scope > li")
    expect(found).to_have_count(len(of["sources"]))
    expect(found.first).to_contain_text("walked from")
    expect(panel.get_by_test_id("why-scores").locator("dt")).to_have_text(PARTS)
    expect(panel.get_by_test_id("why-model")).to_contain_text("that of the model ranker@1")
    features = panel.get_by_test_id("why-features")
    features.locator("summary").click()
    names = sorted(of["features"])
    assert set(NAMES) <= set(names)
    expect(features.locator("dt")).to_have_text(names)
    for name, value in zip(names, features.locator("dd").all_inner_texts(), strict=True):
        assert (value == "missing") == (of["features"][name] is None), name
    expect(panel).to_contain_text("place on the page")
    expect(panel.get_by_test_id("why-blend").locator("tbody tr")).to_have_count(len(xray["blend"]))


def test_why_this_of_a_pin_met_since_says_so_and_has_no_empty_part(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    card = visit.cards.first
    with visit.page.expect_response(wrote("impression")):
        expect(card).to_have_attribute("data-seen", "true")
    card.get_by_test_id("card-why").click()
    panel = visit.id("why-panel")
    expect(panel.get_by_test_id("why-note")).to_contain_text("You have met this pin")
    expect(panel.get_by_test_id("why-scores")).to_contain_text("when shown")
    empty = "sections => sections.filter((s) => !s.querySelector('dd, li, p, td')).map((s) => s.textContent)"
    assert panel.locator(".why-section").evaluate_all(empty) == []


def test_what_was_looked_at_is_reported_and_does_not_come_again(visit: Visit, api: Api, reader: str) -> None:
    answers: list[Response] = []
    visit.page.on("response", lambda answer: answers.append(answer) if wrote("impression")(answer) else None)
    visit.feed(reader)
    with visit.page.expect_response(wrote("impression")):
        expect(visit.cards.first).to_have_attribute("data-seen", "true")
    tokens = [answer.json()["token"] for answer in answers]
    reported = [event["pin"] for answer in answers for event in events(answer.request)]
    assert len(reported) == len(set(reported))
    assert 3 <= len(reported) <= 20  # the cards on the screen, and not the whole page
    left = api.pins(reader, ",".join(tokens))
    assert not set(left) & set(reported)


def test_back_and_forward_and_a_shared_address(visit: Visit, visitor: Visitor, reader: str) -> None:
    visit.expects("/v1/feeds/")
    visit.feed(reader)
    visit.id("tab-interest").click()
    expect(visit.page).to_have_url(re.compile("feed=interest$"))
    shared = visit.page.url
    visit.page.go_back()
    expect(visit.page).to_have_url(re.compile("feed=following$"))
    expect(visit.id("tab-following")).to_have_attribute("aria-selected", "true")
    visit.cards.first.wait_for()
    visit.page.go_forward()
    expect(visit.id("tab-interest")).to_have_attribute("aria-selected", "true")
    friend = visitor(visit.url)
    friend.expects("/v1/feeds/")
    friend.page.goto(shared)
    expect(friend.id("tab-interest")).to_have_attribute("aria-selected", "true")
    expect(friend.id("user-chooser")).to_have_value(re.compile(r"\S"))
    expect(friend.page).to_have_url(shared)


def test_an_address_with_nonsense_is_a_welcome(visit: Visit) -> None:
    visit.expects("/v1/")  # whether a text is an id depends on the deployment: the server is asked
    visit.open("/?user=%3Cscript%3E&feed=no")
    expect(visit.id("welcome")).to_be_visible()
    expect(visit.id("tab-home")).to_have_attribute("aria-selected", "true")


def test_skipping_to_the_pins_does_not_load_them_again(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    first = visit.cards.first.element_handle()
    visit.page.keyboard.press("Tab")
    expect(visit.page.get_by_text("Skip to the pins")).to_be_focused()
    visit.page.keyboard.press("Enter")
    expect(visit.id("feed")).to_be_focused()
    visit.page.keyboard.press("Tab")
    assert visit.focused() == visit.pins()[0]
    assert first.evaluate("card => card.isConnected")
