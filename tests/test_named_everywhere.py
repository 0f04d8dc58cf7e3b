"""A new service or feed is named in every place that must know it: the steps of services/README.md and feedgen/README.md."""

import json
import re
from importlib import import_module
from pathlib import Path

from cli.checking import VIEWS
from cli.schema import SERVICES
from feedgen.names import SURFACES
from learning.training import replay
from smartfeed import layout as smartfeed
from web import feeds as web
from web.effects import EFFECTS

ROOT = Path(__file__).resolve().parent.parent


def test_every_service_has_an_effect_on_readers() -> None:
    assert set(EFFECTS) == set(SERVICES), "web/effects.py; a process without one fails /healthz while it is not ready"


def test_feedmesh_check_knows_every_view_that_says_how_it_is_checked() -> None:
    modules = {
        service: import_module(f"{service}.check") for service in SERVICES if (ROOT / service / "check.py").exists()
    }
    assert set(VIEWS) == {service for service, module in modules.items() if hasattr(module, "CHECKED")}


def test_every_feed_is_known_to_the_edge_the_page_and_the_fallback() -> None:
    assert set(web.FEEDS) == set(SURFACES)
    assert set(smartfeed.FEEDS) == set(SURFACES.values())
    [listed] = re.findall(r"^export const FEEDS = (\[.*\]);", (ROOT / "web/static/route.js").read_text(), re.MULTILINE)
    assert set(json.loads(listed)) == set(SURFACES)
    tabs = re.findall(r'role="tab".*?data-feed="(\w+)"', (ROOT / "web/templates/index.html").read_text())
    assert set(tabs) == set(SURFACES)
    assert set(replay.FEEDS) < set(SURFACES), "following needs no model of its own: it is not replayed"
