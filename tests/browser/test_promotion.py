"""Models on the page: how one did beside baselines, two compared, promoted and rolled back by a button."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from scorpion import registry
from tests.browser.test_accessibility import check
from tests.browser.visit import Visit, bare_mesh
from tests.running import Running
from tests.web.models import train
from tests.web.test_web_models import judged_worse

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def mesh(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An empty mesh, and three models of which the last was found worse than a baseline."""
    folder: Path = tmp_path_factory.mktemp("models")
    with bare_mesh(folder / "data") as running:
        for seed in (1, 2):
            train(folder / "data", folder / f"draft{seed}", seed)
        judged_worse(folder / "draft2")
        registry.push(folder / "draft2", folder / "data")
        yield running


def test_models_are_promoted_compared_and_rolled_back(visit: Visit, mesh: Running) -> None:
    visit.expects("/promotion")
    visit.open("/models")
    card = visit.page.locator('[data-model="ranker@1"]')
    card.get_by_test_id("model-promote").click()
    expect(visit.id("confirm")).to_contain_text("It ranks all feeds from the next request on")
    check(visit)
    visit.id("confirm-yes").click()
    expect(card.get_by_test_id("model-state")).to_have_text("promoted")

    worse = visit.page.locator('[data-model="ranker@3"]')
    expect(worse.get_by_test_id("model-verdict")).to_have_attribute("data-verdict", "worse")
    rows = worse.get_by_test_id("model-baselines").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("0.200")  # the best first
    worse.get_by_test_id("model-promote").click()
    visit.id("confirm-yes").click()
    expect(visit.id("confirm")).to_contain_text("is worse than a baseline, light")
    expect(visit.id("confirm-yes")).to_have_text("Promote it all the same")
    visit.id("confirm-yes").click()
    expect(worse.get_by_test_id("model-state")).to_have_text("promoted")

    visit.id("model-compare").select_option("ranker@2")
    expect(card.get_by_test_id("model-metrics")).to_contain_text("against ranker@2")
    check(visit)
    visit.id("model-rollback").click()
    visit.id("confirm-yes").click()
    expect(card.get_by_test_id("model-state")).to_have_text("promoted")
    assert registry.promoted(mesh.mesh.data).promoted == "ranker@1"
