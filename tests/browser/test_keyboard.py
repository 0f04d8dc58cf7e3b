"""The feed page without a mouse."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.visit import Visit, wrote

pytestmark = pytest.mark.browser


def press(visit: Visit, *keys: str) -> None:
    for key in keys:
        visit.page.keyboard.press(key)


def test_tabbing_comes_to_the_pins_in_feed_order(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    pins = visit.pins()
    met: list[str] = []
    for _ in range(60):
        press(visit, "Tab")
        if (at := visit.focused()) not in met:
            met.append(at)
    among = [at for at in met if at in pins]
    assert among == pins[: len(among)]
    assert len(among) > 3
    assert met.index("user-chooser") < met.index("tab-following") < met.index(among[0])


def test_j_and_k_step_and_arrows_go_across(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    pins = visit.pins()
    press(visit, "j")
    assert visit.focused() == pins[0]
    press(visit, "j", "j")
    assert visit.focused() == pins[2]
    press(visit, "k")
    assert visit.focused() == pins[1]
    press(visit, "ArrowLeft")
    assert visit.focused() == pins[0]
    press(visit, "ArrowLeft", "ArrowUp", "k")  # over the edge one stays
    assert visit.focused() == pins[0]
    press(visit, "ArrowDown")
    below = visit.focused()
    assert below != pins[0]
    assert below in visit.pins()
    press(visit, "ArrowUp")
    assert visit.focused() == pins[0]


def test_j_goes_on_through_the_whole_feed(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    for step in range(60):
        expect(visit.cards.nth(step)).to_be_attached()
        press(visit, "j")
        assert visit.focused() == visit.pins()[step]
        assert visit.page.evaluate(
            "() => { const { top, bottom } = document.activeElement.getBoundingClientRect();"
            " return bottom > 100 && top < innerHeight; }"
        )


def test_every_key_does_what_the_help_says(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    pins = visit.pins()
    card = visit.card(pins[0])
    press(visit, "j", "Enter")
    expect(visit.id("closeup-dialog")).to_be_visible()
    press(visit, "Escape")
    expect(visit.id("closeup-dialog")).to_be_hidden()
    expect(card).to_be_focused()
    with visit.page.expect_response(wrote("save")):
        press(visit, "s")
    expect(card.get_by_test_id("card-save")).to_have_attribute("aria-pressed", "true")
    with visit.page.expect_response(wrote("unsave")):
        press(visit, "s")
    expect(card.get_by_test_id("card-save")).to_have_attribute("aria-pressed", "false")
    press(visit, "w")
    expect(visit.id("why-stages")).to_be_visible()
    press(visit, "Escape")
    expect(card).to_be_focused()
    with visit.page.expect_response(wrote("hide")):
        press(visit, "x")
    expect(card).to_have_count(0)
    expect(visit.card(pins[1])).to_be_focused()
    press(visit, "/")
    expect(visit.id("user-chooser")).to_be_focused()
    press(visit, "Escape")
    expect(visit.id("user-list")).to_be_hidden()
    with visit.page.expect_response(re.compile("/v1/feeds/following")):
        press(visit, "r")


def test_in_a_closer_look_the_keys_go_on_working(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    pins = visit.pins()
    press(visit, "j", "Enter", "j", "j", "k")
    expect(visit.id("closeup-title")).to_have_text(visit.card(pins[1]).locator(".cover-title").inner_text())
    with visit.page.expect_response(wrote("save")):
        press(visit, "s")
    expect(visit.id("closeup-dialog").get_by_test_id("card-save")).to_have_attribute("aria-pressed", "true")
    press(visit, "w")
    expect(visit.id("why-panel")).to_be_visible()
    press(visit, "Escape")
    expect(visit.id("why-panel")).to_be_hidden()
    expect(visit.id("closeup-dialog")).to_be_visible()
    with visit.page.expect_response(wrote("hide")):
        press(visit, "x")
    expect(visit.id("closeup-dialog")).to_be_hidden()
    expect(visit.card(pins[1])).to_have_count(0)
    expect(visit.card(pins[0])).to_be_focused()


def test_help_opens_and_switches_the_keys_off(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    press(visit, "?")
    expect(visit.id("help-dialog")).to_be_visible()
    expect(visit.id("help-dialog")).to_contain_text("closer look")
    switch = visit.page.get_by_label("Single-key shortcuts")
    expect(switch).to_be_checked()
    switch.uncheck()
    press(visit, "Escape")
    expect(visit.id("help-dialog")).to_be_hidden()
    press(visit, "j")
    assert visit.focused() not in visit.pins()
    visit.page.reload()
    visit.cards.first.wait_for()
    press(visit, "j")
    assert visit.focused() not in visit.pins()
    press(visit, "?")
    visit.page.get_by_label("Single-key shortcuts").check()
    press(visit, "Escape", "j")
    assert visit.focused() == visit.pins()[0]


def test_letters_typed_into_the_chooser_are_letters(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    before = visit.pins()[:3]
    visit.id("user-chooser").fill("")
    press(visit, "s", "x", "j", "w", "?")
    expect(visit.id("user-chooser")).to_have_value("sxjw?")
    expect(visit.page.locator("dialog[open]")).to_have_count(0)
    assert visit.pins()[:3] == before


def test_the_board_menu_works_by_keys(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    opener = visit.cards.first.get_by_test_id("card-save-choose")
    opener.focus()
    press(visit, "Enter")
    expect(visit.id("save-menu")).to_be_visible()
    expect(visit.id("save-menu").locator(":focus")).to_have_count(1)
    press(visit, "End", "Home", "ArrowUp", "ArrowDown")
    expect(visit.id("save-board").first).to_be_focused()
    press(visit, "j", "x")
    expect(visit.id("save-board").first).to_be_focused()
    press(visit, "Escape")
    expect(visit.id("save-menu")).to_be_hidden()
    expect(opener).to_be_focused()


def test_tabs_move_by_arrows(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    visit.id("tab-following").focus()
    press(visit, "ArrowRight")
    expect(visit.id("tab-interest")).to_be_focused()
    expect(visit.id("tab-interest")).to_have_attribute("aria-selected", "true")
    press(visit, "End")
    expect(visit.id("tab-picked")).to_have_attribute("aria-selected", "true")
    press(visit, "ArrowRight")
    expect(visit.id("tab-home")).to_have_attribute("aria-selected", "true")
    visit.cards.first.wait_for()
    expect(visit.page.locator('[role="tab"][tabindex="0"]')).to_have_count(1)
