"""The mesh with its log on a real Kafka broker: it serves feeds, writes show by their tokens, and a kill loses nothing."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.graph import build
from cli.load import load
from tests.drill.__main__ import one_round
from tests.drill.differences import differences
from tests.drill.recount import recount
from tests.kafka.broker import Broker
from tests.kafka.logs import on_broker
from tests.mesh.conftest import Loaded, pins, sections
from tests.running import rounds, running_mesh
from tests.services.children import until

_new = itertools.count(9_100_001)


@pytest.fixture(scope="module")
def mesh(broker: Broker, tmp_path_factory: pytest.TempPathFactory, world: Path) -> Iterator[Loaded]:
    """With the demo world, and one shard of each view."""
    data = tmp_path_factory.mktemp("on-kafka") / "data"
    with running_mesh(data, sections(1, prober={"every_s": 0.5}, **on_broker(broker))) as running:
        load("parquet", world, data=data)
        running.until_caught_up()
        build(data=data)
        yield Loaded(running, None)


def test_feeds_are_served_from_it(mesh: Loaded) -> None:
    rows = httpx.get(f"{mesh.running.url}/v1/users", params={"limit": 20}, timeout=20).json()["users"]
    shown = [pins(mesh.page(int(row["user"]))) for row in rows]
    assert any(shown)
    assert all(len(of) == len(set(of)) for of in shown)


def test_every_view_is_as_recounted(mesh: Loaded) -> None:
    found = recount(mesh.running.mesh)
    assert found.events > 10_000
    assert differences(mesh.running.mesh, found) == []


def test_a_write_shows_with_its_token_and_counts_once(mesh: Loaded) -> None:
    reader, board, pin = next(_new), next(_new), next(_new)
    owner = next(_new)
    events: list[dict[str, Any]] = [
        {"action": "create_board", "user": owner, "board": board, "title": "a board", "id": next(_new)},
        {"action": "create_pin", "pin": pin, "title": "a pin", "quality": 0.9, "id": next(_new)},
        {"action": "save", "user": owner, "board": board, "pin": pin, "id": next(_new)},
        {"action": "follow_user", "user": reader, "target": owner, "id": next(_new)},
    ]
    first, again = mesh.publish(*events), mesh.publish(*events)
    assert "duplicates" not in first
    for answer in (first, again):
        assert pins(mesh.page(reader, token=answer["token"])) == [pin]
    mesh.running.until_caught_up()
    found = recount(mesh.running.mesh)
    assert {found.ids[int(event["id"])] for event in events if event["action"] in ("save", "follow_user")} == {1}


@pytest.mark.parametrize(
    ("number", "victim"), rounds(list(enumerate(("roadrunner", "counters", "polaris", "roadrunner"), 1)), 2)
)
def test_one_round(mesh: Loaded, number: int, victim: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As tests/mesh/test_kill.py, whose log is embedded."""
    assert one_round(mesh.running, number, victim, seed=7), capsys.readouterr().out


def test_a_broker_that_was_away_costs_no_page_and_nothing_that_was_acknowledged(mesh: Loaded, broker: Broker) -> None:
    reader, (owner,) = next(_new), [r["user"] for r in mesh_users(mesh)[:1]]
    follow = {"action": "follow_user", "user": reader, "target": owner, "id": next(_new)}
    broker.stop()
    try:
        refused = httpx.post(f"{mesh.running.url}/v1/events", json={"events": [follow]}, timeout=30)
        assert refused.status_code in (503, 504), refused.text
        page = httpx.get(f"{mesh.running.url}/v1/feeds/following", params={"user": int(owner)}, timeout=20)
        assert page.status_code == 200
    finally:
        broker.start()
    mesh.running.until_ready()
    answers: list[httpx.Response] = []

    def is_accepted() -> bool:
        """Again with the same id, as clients do: what waits in the writer goes first."""
        answers.append(httpx.post(f"{mesh.running.url}/v1/events", json={"events": [follow]}, timeout=30))
        return answers[-1].status_code == 202

    until(is_accepted, 30)
    token = answers[-1].json()["token"]
    assert mesh.page(reader, token=token)["items"]
    mesh.running.until_caught_up()
    assert recount(mesh.running.mesh).ids[int(str(follow["id"]))] == 1


def mesh_users(mesh: Loaded) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = httpx.get(f"{mesh.running.url}/v1/users", params={"limit": 20}, timeout=20).json()[
        "users"
    ]
    return [row for row in rows if mesh.page(int(row["user"]))["items"]]
