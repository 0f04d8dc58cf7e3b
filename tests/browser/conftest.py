"""The browser, a mesh with people in it, and a tab for each test."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.visit import CHROMIUM, DESK, Api, Visit, chromium, peopled_mesh
from tests.running import Kept, Running

MISSING = f"the pages were NOT tested: there is no {CHROMIUM}. To test them: apt-get install chromium"
Visitor = Callable[..., Visit]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not CHROMIUM.exists():
        terminalreporter.section("BROWSER TESTS SKIPPED", red=True, bold=True)
        terminalreporter.line(MISSING, red=True, bold=True)


# Of a module and no longer: Playwright's event loop would be in the way of tests that run one of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(MISSING)
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def mesh(browser: Browser, kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """One for the folder, whole again after each test."""
    running: Running = kept.of("peopled mesh", lambda: peopled_mesh(tmp_path_factory.mktemp("mesh")))
    return running


@pytest.fixture(scope="module")
def api(mesh: Running) -> Api:
    return Api(mesh.url)


@pytest.fixture(scope="module")
def readers(api: Api, kept: Kept) -> Iterator[str]:
    found: Iterator[str] = kept.of("readers", lambda: nullcontext(api.readers()))
    return found


@pytest.fixture
def reader(readers: Iterator[str]) -> str:
    """A user with a long feed, touched by no other test."""
    return next(readers)


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Opens tabs, each in a profile of its own; at the end nothing unexpected has gone wrong in any of them."""
    visits: list[Visit] = []

    def visit(url: str, **wishes: Any) -> Visit:
        context = browser.new_context(**({"viewport": DESK, "reduced_motion": "reduce"} | wishes))
        visits.append(Visit(context.new_page(), url))
        return visits[-1]

    yield visit
    for each in visits:
        each.page.context.close()
    assert not [fault for each in visits for fault in each.faults]


@pytest.fixture
def visit(visitor: Visitor, mesh: Running) -> Visit:
    """One tab at a desk."""
    return visitor(mesh.url)
