"""One mesh with Last.fm in it for most of these tests, with two shards of every view; and worlds for smaller ones."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.demo import demo
from cli.graph import build
from cli.load import load
from tests.mesh.truth import Truth, of_lastfm
from tests.running import Kept, Running, get, running_mesh

SHARED = Path(os.environ.get("FEEDMESH_SHARED", Path(__file__).resolve().parents[3] / "shared" / "data"))
LASTFM = SHARED / "lastfm"
NO_LASTFM = (
    f"NOT TESTED: no Last.fm in {LASTFM}: put the files that loaders/README.md lists for lastfm there, or set "
    "FEEDMESH_SHARED to the folder that has them"
)
VIEWS = ("rockstore", "apiary", "polaris", "aperture", "realpin", "counters", "smartfeed")
FEEDGEN_S, EDGE_S = 4.0, 8.0  # these tests share their machine: their results must not depend on other load


def sections(shards: int, **more: dict[str, Any]) -> dict[str, Any]:
    """Settings of a mesh with so many shards of every view."""
    times = {"feedgen": {"deadline_ms": int(FEEDGEN_S * 1000)}, "web": {"feed_timeout_s": EDGE_S}}
    return {name: {"shards": shards} for name in VIEWS} | times | more


@dataclass
class Loaded:
    """A mesh with people in it. truth: of Last.fm only."""

    running: Running
    truth: Truth | None

    def page(self, user: int, **query: Any) -> dict[str, Any]:
        """A page of the following feed, which is always answered."""
        return page(self.running, user, **query)

    def publish(self, *events: dict[str, Any]) -> dict[str, Any]:
        """The edge's answer to accepted events."""
        answer = httpx.post(f"{self.running.url}/v1/events", json={"events": events}, timeout=20)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found


def page(running: Running, user: int | str, feed: str = "following", **query: Any) -> dict[str, Any]:
    answer = get(running, f"/v1/feeds/{feed}", user=user, **query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pins(found: dict[str, Any]) -> list[int]:
    """The pins of a page, in order."""
    return [int(item["pin"]) for item in found["items"]]


def refusal(answer: httpx.Response, http: int, status: str, *says: str) -> None:
    assert answer.status_code == http, answer.text
    error = answer.json()["error"]
    assert error["status"] == status
    for words in says:
        assert words in error["message"], error["message"]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo world as Parquet files."""
    out = tmp_path_factory.mktemp("world") / "demo"
    demo(users=200, pins=2_000, boards=600, saves=10_000, seed=3, folder=out)
    return out


@contextmanager
def loaded_mesh(data: Path, world: Path) -> Iterator[Loaded]:
    """Last.fm where it is, else the demo world."""
    real = LASTFM.is_dir()
    with running_mesh(data, sections(2)) as running:
        load("lastfm" if real else "parquet", LASTFM if real else world, data=data)
        running.until_caught_up()
        build(data=data)
        yield Loaded(running, of_lastfm(LASTFM) if real else None)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, world: Path, kept: Kept) -> Loaded:
    """One for the folder."""
    found: Loaded = kept.of("loaded mesh", lambda: loaded_mesh(tmp_path_factory.mktemp("mesh") / "data", world))
    return found


@pytest.fixture
def lastfm(loaded: Loaded) -> tuple[Loaded, Truth]:
    """The mesh with Last.fm, and the truth about it; skips where there is no Last.fm."""
    if loaded.truth is None:
        pytest.skip(NO_LASTFM)
    return loaded, loaded.truth


@pytest.fixture
def mesh(loaded: Loaded) -> Iterator[Loaded]:
    """The mesh, and nothing of it hurt afterwards."""
    yield loaded
    loaded.running.until_caught_up()
