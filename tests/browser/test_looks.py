"""Every page at every width, in light and dark."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.browser.visit import DESK, PHONE, Visit
from tests.running import Running

pytestmark = pytest.mark.browser


def test_cards_do_not_overlap(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    overlaps = """(cards) => {
      const boxes = cards.map((card) => card.getBoundingClientRect());
      return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => a.left < b.right - 1 && b.left < a.right - 1
        && a.top < b.bottom - 1 && b.top < a.bottom - 1)).length;
    }"""
    assert visit.cards.evaluate_all(overlaps) == 0
    visit.page.set_viewport_size({"width": 760, "height": 860})
    expect(visit.cards.nth(3)).not_to_have_attribute("data-y", "0")  # three columns by now
    assert visit.cards.evaluate_all(overlaps) == 0


def shards_fit(visit: Visit) -> None:
    """The table of shards needs no sideways scroll of its own; where it is blocks, each figure has its name beside it."""
    expect(visit.id("model-shard").first).to_be_visible()
    cells = visit.id("model-shard").locator("td")
    heads = visit.page.locator(".shards thead th")
    if not heads.first.is_visible():
        names = "cells => cells.slice(0, 6).map((cell) => getComputedStyle(cell, '::before').content)"
        assert cells.evaluate_all(names) == [f'"{head}"' for head in heads.all_text_contents()[1:]]
    assert cells.evaluate_all("cells => cells.filter((cell) => cell.scrollWidth > cell.clientWidth).length") == 0
    assert visit.page.locator(".shards .scroll").evaluate("box => box.scrollWidth - box.clientWidth") == 0


def test_a_phone_has_no_sideways_scroll(visitor: Visitor, mesh: Running, reader: str) -> None:
    visit = visitor(mesh.url, viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2)
    visit.open("/")
    expect(visit.id("welcome-user").first).to_be_visible()
    assert visit.overflow() == 0
    visit.feed(reader)
    assert visit.overflow() == 0
    columns = visit.cards.evaluate_all("cards => new Set(cards.map((card) => card.getBoundingClientRect().left)).size")
    assert columns == 2
    visit.cards.first.get_by_test_id("card-closeup").tap()
    expect(visit.id("closeup-dialog").locator(".facts")).to_be_visible()
    assert visit.overflow() == 0
    visit.id("closeup-why").tap()
    expect(visit.id("why-stages")).to_be_visible()
    assert visit.overflow() == 0
    assert visit.id("why-panel").evaluate("panel => panel.scrollWidth - panel.clientWidth") == 0
    visit.open("/health")
    expect(visit.id("process-card").first).to_be_visible()
    assert visit.overflow() == 0
    visit.open("/models")
    expect(visit.id("model-card").first).to_be_visible()
    assert visit.overflow() == 0
    shards_fit(visit)


@pytest.mark.parametrize("width", [320, 768, 1920])
def test_no_width_scrolls_sideways(visitor: Visitor, mesh: Running, reader: str, width: int) -> None:
    visit = visitor(mesh.url, viewport=DESK | {"width": width})
    visit.feed(reader)
    assert visit.overflow() <= 0
    visit.open("/health")
    expect(visit.id("process-card").first).to_be_visible()
    assert visit.overflow() <= 0
    visit.open("/models")
    expect(visit.id("model-card").first).to_be_visible()
    assert visit.overflow() <= 0
    shards_fit(visit)


def lightness(visit: Visit) -> float:
    """Of the page's ground: 0 black to 255 white."""
    shown: str = visit.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    parts = [float(part) for part in re.findall(r"[\d.]+", shown)[:3]]
    return sum(parts) / 3


def test_dark_is_the_systems_wish_or_the_readers(visitor: Visitor, mesh: Running, reader: str) -> None:
    visit = visitor(mesh.url, color_scheme="dark")
    visit.feed(reader)
    assert lightness(visit) < 60
    toggle = visit.id("theme-toggle")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "false")
    assert lightness(visit) > 200
    visit.open("/health")  # the choice holds on the other page, and after a reload
    assert lightness(visit) > 200
    visit.page.reload()
    assert lightness(visit) > 200
    visit.page.emulate_media(color_scheme="light")
    visit.id("theme-toggle").click()
    assert lightness(visit) < 60
