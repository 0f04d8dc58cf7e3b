"""Every page and dialog as a screen reader finds it. No substitute for one, but it catches omissions."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.browser.visit import PHONE, Visit, silent
from tests.running import Running

pytestmark = pytest.mark.browser

# Faults of the page as it stands, in words. Hidden parts do not count.
FAULTS = """() => {
  const seen = (node) => node.checkVisibility({ visibilityProperty: true }) && !node.closest('[aria-hidden="true"]');
  const all = (css) => [...document.querySelectorAll(css)].filter(seen);
  const said = (id) => document.getElementById(id)?.textContent ?? '';
  const name = (node) => (node.getAttribute('aria-label')
    ?? node.getAttribute('aria-labelledby')?.split(' ').map(said).join(' ')
    ?? [...(node.labels ?? [])].map((label) => label.textContent).join(' ')).trim() || node.textContent.trim();
  const show = (node) => node.outerHTML.slice(0, 120);
  const faults = [];
  const want = (css, what, fine) => all(css).filter((node) => !fine(node))
    .forEach((node) => faults.push(`${what}: ${show(node)}`));

  want('button, a[href], summary, [role="tab"], [role="option"], [role="menuitemradio"]', 'no name', name);
  want('input, select, textarea', 'no label', name);
  want('dialog[open], nav, section, article, canvas, [role="region"], [role="feed"], [role="listbox"], [role="img"]',
    'no name', name);
  want('img', 'no alt', (node) => node.hasAttribute('alt'));
  want('svg', 'neither named nor decorative', (node) => node.ariaHidden === 'true' || name(node));
  want('button', 'a button inside something pressed', (node) => !node.parentElement.closest('button, a'));
  want('button', 'no type', (node) => node.hasAttribute('type'));
  want('[aria-controls], [aria-labelledby], [aria-activedescendant]', 'points to nothing', (node) =>
    ['aria-controls', 'aria-labelledby', 'aria-activedescendant'].flatMap((a) => node.getAttribute(a)?.split(' ') ?? [])
      .every((id) => document.getElementById(id)));
  want('a[target="_blank"]', 'gives its opener away', (node) => node.rel.includes('noopener'));
  want('[tabindex]', 'tab order by number', (node) => node.tabIndex <= 0);

  const levels = all('h1, h2, h3, h4').map((node) => Number(node.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) faults.push(`headings: ${levels}`);
  levels.forEach((level, i) => i && level > levels[i - 1] + 1 && faults.push(`heading ${level} after ${levels[i - 1]}`));
  const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
  ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => faults.push(`id twice: ${id}`));
  if (!document.documentElement.lang) faults.push('no language');
  if (!document.title) faults.push('no title');
  if (document.querySelectorAll('main').length !== 1) faults.push('not one main');
  return faults;
}"""

# Buttons too small for a finger: under 24 pixels, WCAG 2.2's least.
SMALL = """() => [...document.querySelectorAll('button, input, summary, [role="option"]')]
  .filter((node) => node.checkVisibility())
  .map((node) => [node.closest('label') ?? node, node])
  .filter(([box]) => { const { width, height } = box.getBoundingClientRect(); return width && (width < 24 || height < 24); })
  .map(([, node]) => node.outerHTML.slice(0, 120))"""


#: A finger needs 44 pixels; only links within a run of text may be smaller (WCAG 2.5.5).
FINGER = """() => [...document.querySelectorAll('button, input, summary, a[href], [role="option"]')]
  .filter((node) => node.checkVisibility({ visibilityProperty: true }) && !node.closest('.skip, [inert]'))
  .map((node) => [node.closest('label') ?? node, node])
  .filter(([box]) => { const { width: w, height: h } = box.getBoundingClientRect(); return w > 1 && Math.min(w, h) < 43.5; })
  .map(([box, node]) => `${Math.round(box.offsetWidth)} x ${Math.round(box.offsetHeight)}: ${node.outerHTML.slice(0, 120)}`)"""


def check(visit: Visit) -> None:
    assert visit.page.evaluate(FAULTS) == []
    assert visit.page.evaluate(SMALL) == []
    assert violations(visit) == []


def violations(visit: Visit) -> list[str]:
    """The findings of axe-core, a line each: the rule, the fault, and the place."""
    found = Axe().run(visit.page).response["violations"]
    return [f"{one['id']}: {one['help']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


def test_nobody_chosen_yet(visit: Visit) -> None:
    visit.open("/")
    expect(visit.id("welcome-user").first).to_be_visible()
    check(visit)
    visit.id("user-chooser").click()
    expect(visit.id("user-option").first).to_be_visible()
    visit.page.keyboard.press("ArrowDown")
    check(visit)
    assert visit.id("user-chooser").get_attribute("aria-activedescendant")


def test_a_feed(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    visit.further()
    check(visit)
    expect(visit.page.locator("h1")).to_contain_text("following feed")
    pin = visit.pins()[0]
    visit.card(pin).get_by_test_id("card-save").click()
    expect(visit.id("toast")).to_be_visible()
    assert "status" in visit.id("toast").evaluate_all("notes => notes.map((note) => note.role)")
    check(visit)


def test_the_dialogs(visit: Visit, reader: str) -> None:
    visit.feed(reader)
    visit.cards.first.get_by_test_id("card-closeup").click()
    expect(visit.id("closeup-dialog").locator(".facts")).to_be_visible()
    check(visit)
    visit.id("closeup-why").click()
    expect(visit.id("why-stages")).to_be_visible()
    check(visit)
    visit.page.keyboard.press("Escape")
    visit.page.keyboard.press("Escape")
    visit.id("help-open").click()
    expect(visit.id("help-dialog")).to_be_visible()
    check(visit)
    visit.page.keyboard.press("Escape")
    visit.cards.first.get_by_test_id("card-save-choose").click()
    expect(visit.id("save-menu")).to_be_visible()
    check(visit)


def test_home_and_why_this(visit: Visit, reader: str) -> None:
    silent(visit)
    visit.feed(reader, "home")
    expect(visit.page.locator("h1")).to_contain_text("home feed")
    check(visit)
    visit.cards.first.get_by_test_id("card-why").click()
    for summary in visit.id("why-panel").locator("summary").all():
        summary.click()
    check(visit)


def test_models(visit: Visit) -> None:
    visit.open("/models")
    visit.id("model-features").first.locator("summary").click()
    expect(visit.id("model-shard").first).to_be_visible()
    check(visit)


def test_health(visit: Visit) -> None:
    visit.open("/health")
    expect(visit.id("freshness-view").first).to_be_visible()
    visit.id("process-methods").first.locator("summary").click()
    check(visit)


def test_the_description_of_the_api(visit: Visit) -> None:
    visit.open("/docs")
    expect(visit.page.locator(".opblock").first).to_be_visible()
    assert violations(visit) == []


def test_a_finger_meets_every_target(visitor: Visitor, mesh: Running, reader: str) -> None:
    visit = visitor(mesh.url, viewport=PHONE, has_touch=True, is_mobile=True)
    visit.feed(reader)
    assert visit.page.evaluate(FINGER) == []
    visit.cards.first.get_by_test_id("card-closeup").tap()
    expect(visit.id("closeup-dialog").locator(".facts")).to_be_visible()
    assert visit.page.evaluate(FINGER) == []
    visit.id("closeup-why").tap()
    expect(visit.id("why-stages")).to_be_visible()
    assert visit.page.evaluate(FINGER) == []
    for page, part in (("/health", "process-card"), ("/models", "model-card")):
        visit.open(page)
        expect(visit.id(part).first).to_be_visible()
        assert visit.page.evaluate(FINGER) == []
