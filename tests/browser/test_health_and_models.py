"""The health page: a card for each process, moving charts, and a loud note about dead ones. And the models page: the
registry, the model that ranks the feeds, and why one does not. Both over an empty mesh.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from cli import model
from scorpion import keys, registry
from tests.browser.test_accessibility import check
from tests.browser.visit import Visit, aside, away, bare_mesh
from tests.running import Running
from tests.scorpion.making import NAMES
from tests.web.models import train

pytestmark = pytest.mark.browser
PICTURE = "canvas => canvas.toDataURL()"


@pytest.fixture(scope="module")
def mesh(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An empty mesh: its own probes are traffic enough."""
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
    views = {"aperture", "apiary", "counters", "polaris", "realpin", "rockstore", "smartfeed"}
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


def test_what_a_service_is_for_stands_on_its_card(health: Visit) -> None:
    for service, text in {
        "scorpion": "cache hits",
        "pixie": "graph edges",
        "roadrunner": "uncounted",
        "feedgen": "fallbacks",
    }.items():
        expect(card(health, service).locator(".process-facts")).to_contain_text(text)


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


def model_card(visit: Visit, name: str) -> Locator:
    return visit.page.locator(f'[data-testid="model-card"][data-model="{name}"]')


def promote(mesh: Running, name: str) -> None:
    aside(lambda: model.promote(name, data=mesh.mesh.data))


def test_from_nothing_to_a_model_and_back(visit: Visit, mesh: Running, tmp_path: Path) -> None:
    data = mesh.mesh.data
    visit.open("/")
    visit.page.get_by_role("link", name="Models").click()
    expect(visit.id("models-banner")).to_contain_text("No model yet")
    expect(visit.id("no-models")).to_contain_text("feedmesh model train")
    expect(visit.id("model-commands")).to_contain_text("feedmesh model rollback")
    check(visit)

    train(data, tmp_path / "first")
    one = model_card(visit, "ranker@1")  # it comes by itself
    expect(one.get_by_test_id("model-state")).to_have_text("in the registry")
    expect(one.get_by_test_id("model-promote")).to_be_visible()
    expect(visit.id("models-banner")).to_contain_text("No model is promoted")
    promote(mesh, "ranker@1")
    expect(one.get_by_test_id("model-state")).to_have_text("promoted")
    expect(visit.id("models-banner")).to_contain_text("ranker@1 ranks the feeds")
    expect(one.get_by_test_id("model-metrics").locator("tbody")).to_contain_text("AUC")
    one.locator("summary").click()
    expect(one.locator(".feature-names li")).to_have_text(list(NAMES))

    train(data, tmp_path / "second", seed=2)
    two = model_card(visit, "ranker@2")
    expect(two.get_by_test_id("model-metrics")).to_contain_text("against ranker@1")
    assert one.get_by_test_id("model-features").evaluate("details => details.open")  # though the page has changed
    promote(mesh, "ranker@2")
    expect(two.get_by_test_id("model-state")).to_have_text("promoted")
    expect(one.get_by_test_id("model-state")).to_have_text("loaded")
    expect(visit.id("model-commands")).to_contain_text("goes back to ranker@1")
    aside(lambda: model.rollback(data=data))
    expect(one.get_by_test_id("model-state")).to_have_text("promoted")
    check(visit)


def test_why_one_is_refused_and_that_the_other_serves_on(visit: Visit, mesh: Running, tmp_path: Path) -> None:
    data = mesh.mesh.data
    good, bad = train(data, tmp_path / "good"), train(data, tmp_path / "bad", seed=3)
    promote(mesh, str(good))
    (registry.folder_of(data, bad) / "model.txt").write_text("tree")
    (data / keys.PROMOTED).write_text(f'{{"promoted": "{bad}", "before": ["{good}"]}}')
    visit.open("/models")
    expect(model_card(visit, str(bad)).get_by_test_id("model-problem")).to_contain_text("model.txt")
    expect(model_card(visit, str(bad)).get_by_test_id("model-state")).to_have_text("refused")
    expect(visit.id("models-banner")).to_contain_text(f"{good} ranks the feeds")
    expect(visit.id("models-banner")).to_contain_text(f"{bad} is refused")
    check(visit)
    promote(mesh, str(good))


def test_a_report_shows_its_pictures_and_runs_nothing(visit: Visit, mesh: Running, tmp_path: Path) -> None:
    ref = train(mesh.mesh.data, tmp_path / "draft")
    visit.open("/models")
    link = model_card(visit, str(ref)).get_by_test_id("model-report")
    report = visit.page.context.new_page()
    report.goto(link.get_attribute("href") or "")
    expect(report.locator("h1")).to_have_text("AUC 0.71")
    expect(report.locator("h1")).to_have_css("color", "rgb(1, 2, 3)")
    assert report.locator("img").evaluate("image => image.naturalWidth") == 1
    assert report.title() == "Report"  # its script would have called it otherwise


def test_a_failed_report_of_the_models_fades_the_old_one(visit: Visit, mesh: Running, tmp_path: Path) -> None:
    ref = train(mesh.mesh.data, tmp_path / "draft")
    promote(mesh, str(ref))
    visit.open("/models")
    expect(visit.id("models-banner")).to_contain_text(f"{ref} ranks the feeds")
    expect(visit.id("model-shard")).to_contain_text("scorpion 0")
    visit.expects("/v1/models")
    failure = {"error": {"status": "UNAVAILABLE", "message": "scorpion is away"}}
    visit.page.route("**/v1/models", lambda route: route.fulfill(status=503, json=failure))
    expect(visit.id("models-banner")).to_contain_text("could not be asked for")
    expect(visit.page.locator("body")).to_have_attribute("data-stale", "true")
    expect(model_card(visit, str(ref))).to_be_visible()
    visit.page.unroute("**/v1/models")
    expect(visit.id("models-banner")).to_contain_text(f"{ref} ranks the feeds")
    assert visit.page.locator("body").get_attribute("data-stale") is None


def test_when_the_whole_mesh_stops_the_page_says_that_no_data_comes(health: Visit, mesh: Running) -> None:
    """The last of this file: its mesh ends here."""
    health.expects("/healthz")
    assert not mesh.end()
    banner = health.id("health-banner")
    expect(banner).to_have_attribute("data-state", "lost")
    expect(banner).to_contain_text("No report from the edge")
    expect(banner).to_contain_text("old")
    assert "no report" in health.page.title()
    expect(health.page.locator("body")).to_have_attribute("data-stale", "true")
    expect(health.id("process-card")).to_have_count(len(mesh.mesh.processes))  # the last report stays, faded
