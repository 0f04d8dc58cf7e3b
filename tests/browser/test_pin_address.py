"""A closer look has an address: Back closes it and keeps the place, and a shared one opens it."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser
SCROLLED = "() => Math.round(scrollY)"


def test_back_closes_a_closer_look_and_keeps_the_place(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    visit.further()
    visit.page.evaluate("() => scrollTo(0, 900)")
    at = visit.page.evaluate(SCROLLED)
    pin = visit.pins()[12]
    visit.card(pin).get_by_test_id("card-closeup").evaluate("button => button.click()")
    expect(visit.id("closeup-dialog")).to_be_visible()
    expect(visit.page).to_have_url(re.compile(rf"pin={pin}$"))
    visit.page.go_back()
    expect(visit.id("closeup-dialog")).to_be_hidden()
    assert visit.page.evaluate(SCROLLED) == at
    assert "pin=" not in visit.page.url
    visit.page.go_forward()
    expect(visit.id("closeup-dialog")).to_be_visible()
    visit.page.keyboard.press("Escape")
    expect(visit.page).not_to_have_url(re.compile("pin="))
    assert visit.page.evaluate(SCROLLED) == at


def test_steps_between_pins_are_one_step_back(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    visit.cards.first.get_by_test_id("card-closeup").click()
    second = visit.pins()[1]
    visit.id("closeup-next").click()
    expect(visit.page).to_have_url(re.compile(rf"pin={second}$"))
    visit.page.go_back()
    expect(visit.id("closeup-dialog")).to_be_hidden()
    expect(visit.page).to_have_url(re.compile("feed=following$"))


def test_an_address_opens_its_pin_over_the_feed(visit: Visit, visitor: Visitor, reader: str) -> None:
    visit.feed(reader)
    title = visit.cards.first.locator(".cover-title").inner_text()
    visit.cards.first.get_by_test_id("card-closeup").click()
    expect(visit.page).to_have_url(re.compile("pin="))
    friend = visitor(visit.url)
    friend.page.goto(visit.page.url)
    expect(friend.id("closeup-title")).to_have_text(title)
    friend.page.keyboard.press("Escape")
    expect(friend.id("closeup-dialog")).to_be_hidden()
    expect(friend.page).not_to_have_url(re.compile("pin="))
    friend.cards.first.wait_for()


def test_a_pin_can_be_looked_at_by_nobody_in_particular(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    pin, title = visit.pins()[0], visit.cards.first.locator(".cover-title").inner_text()
    visit.open(f"/?pin={pin}")
    expect(visit.id("closeup-title")).to_have_text(title)
    expect(visit.id("closeup-dialog").get_by_test_id("card-save")).to_have_count(0)
    visit.page.keyboard.press("Escape")
    expect(visit.id("welcome")).to_be_visible()
