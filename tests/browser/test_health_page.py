"""The health page: a card a process, moving charts, and what is dead said loudly."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.conftest import Visitor
from tests.browser.visit import Visit, away, bare_mesh
from tests.running import Running

pytestmark = pytest.mark.browser
PICTURE = "canvas => canvas.toDataURL()"


@pytest.fixture(scope="module")
def mesh(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With nobody in it: its own audit is traffic enough."""
    folder: Path = tmp_path_factory.mktemp("mesh")
    with bare_mesh(folder) as running:
        yield running


@pytest.fixture
def health(visit: Visit) -> Visit:
    visit.open("/health")
    expect(visit.id("health-banner")).to_contain_text("All ready")
    return visit


def card(visit: Visit, service: str) -> Locator:
    return visit.page.locator(f'[data-testid="process-card"][data-service="{service}"]')


def test_there_is_a_card_for_every_process(health: Visit, mesh: Running) -> None:
    expect(health.id("process-card")).to_have_count(len(mesh.mesh.processes))
    for process in mesh.mesh.processes:
        of = health.page.locator(f'[data-service="{process.service}"][data-shard="{process.shard}"]')
        expect(of).to_contain_text(process.address)
        expect(of.get_by_test_id("process-state")).to_have_text("ready")
        running = mesh.child(process.service, process.shard).process
        assert running is not None
        expect(of).to_contain_text(str(running.pid))
    views = {"aperture", "apiary", "polaris", "rockstore", "smartfeed"}
    expect(health.id("freshness-view")).to_have_count(len(views))
    expect(health.id("freshness")).to_contain_text("none lost")


def test_charts_and_numbers_move(health: Visit) -> None:
    canvas = card(health, "roadrunner").locator("canvas").first
    clock = health.id("health-clock")
    pictures = set()
    for _ in range(4):
        pictures.add(canvas.evaluate(PICTURE))
        said = clock.inner_text()
        expect(clock).not_to_have_text(said)  # a further report
    assert len(pictures) == 4
    assert canvas.evaluate("c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v)")
    for each in health.page.locator("canvas").all():
        assert each.evaluate("c => c.width > 50 && c.height > 20")


def test_an_opened_table_stays_open(health: Visit) -> None:
    table = card(health, "roadrunner").get_by_test_id("process-methods")
    table.locator("summary").click()
    expect(table.locator("tbody tr").first).to_be_visible()
    said = health.id("health-clock").inner_text()
    expect(health.id("health-clock")).not_to_have_text(said)
    expect(table.locator("tbody tr").first).to_be_visible()
    assert table.evaluate("details => details.open")


def test_the_filter_shows_what_is_asked_for(health: Visit, mesh: Running) -> None:
    health.id("health-filter").fill("polaris")
    expect(card(health, "polaris")).to_be_visible()
    expect(card(health, "apiary")).to_be_hidden()
    health.id("health-filter").fill("no such thing")
    expect(health.page.get_by_text("No process matches this filter.")).to_be_visible()
    health.id("health-filter").fill("")
    health.id("health-only-bad").check()
    expect(health.page.get_by_text("No process matches this filter.")).to_be_visible()
    health.id("health-only-bad").uncheck()
    expect(card(health, "apiary")).to_be_visible()


@pytest.mark.parametrize("service", ["polaris", "feedgen"])
def test_a_killed_process_is_seen_to_fall_and_to_rise(health: Visit, mesh: Running, service: str) -> None:
    health.expects("/healthz")  # 503 while one is not ready
    killed = mesh.child(service).process
    assert killed is not None
    other = card(health, "apiary").element_handle()
    with away(mesh, service):
        expect(card(health, service)).not_to_have_attribute("data-state", "ready")
        expect(card(health, service).get_by_test_id("process-why")).not_to_be_empty()
        expect(health.id("health-banner")).to_have_attribute("data-state", "bad")
        expect(health.id("health-banner")).to_contain_text(service)
        assert "⚠" in health.page.title()
        health.id("health-only-bad").check()
        expect(card(health, service)).to_be_visible()
        expect(card(health, "apiary")).to_be_hidden()
        health.id("health-only-bad").uncheck()
    expect(card(health, service)).to_have_attribute("data-state", "ready")
    expect(card(health, service)).to_contain_text("Restarted")
    expect(card(health, service)).not_to_contain_text(str(killed.pid))
    expect(health.id("health-banner")).to_have_attribute("data-state", "good")
    assert other.evaluate("card => card.isConnected")  # the page was never built anew


def test_kill_nine_and_the_supervisor_brings_it_back(health: Visit, mesh: Running) -> None:
    health.expects("/healthz")
    killed = mesh.kill("smartfeed")
    expect(card(health, "smartfeed")).not_to_contain_text(str(killed))
    expect(card(health, "smartfeed")).to_have_attribute("data-state", "ready")
    expect(card(health, "smartfeed")).to_contain_text("Restarted")


def test_when_the_whole_mesh_stops_the_page_says_that_no_data_comes(
    visitor: Visitor, tmp_path: Path, mesh: Running
) -> None:
    with bare_mesh(tmp_path) as doomed:
        health = visitor(doomed.url)
        health.open("/health")
        expect(health.id("health-banner")).to_contain_text("All ready")
        health.expects("/healthz")
    banner = health.id("health-banner")
    expect(banner).to_have_attribute("data-state", "lost")
    expect(banner).to_contain_text("No report from the edge")
    expect(banner).to_contain_text("old")
    assert "no report" in health.page.title()
    expect(health.page.locator("body")).to_have_attribute("data-stale", "true")
    expect(health.id("process-card")).to_have_count(len(doomed.mesh.processes))  # what was known stays, faded
