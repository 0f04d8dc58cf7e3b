"""A mesh with two replicas of all that may have them, in two zones: they agree, and readers notice neither losses nor a roll."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cli.demo import demo
from cli.graph import build
from cli.load import load
from cli.roll import roll
from tests.mesh.conftest import sections
from tests.mesh.questions import QUESTIONS, answers
from tests.mesh.readers import Readers, reading
from tests.running import Running, rounds, running_mesh

USERS = list(range(1, 121))
#: What may be killed without a degraded page: whatever a page is made of.
VICTIMS = ("polaris", "scorpion", "aperture", "rockstore", "apiary", "realpin", "counters", "smartfeed", "pixie")
STOPPED_S = 5.0


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data, world = tmp_path_factory.mktemp("replicas") / "data", tmp_path_factory.mktemp("replicas") / "world"
    demo(users=len(USERS), pins=1_000, boards=300, saves=4_000, seed=3, folder=world)
    more: dict[str, Any] = {"mesh": {"replicas": 2, "zones": ["a", "b"]}, "prober": {"every_s": 0.0}}
    with running_mesh(data, sections(1, **more)) as running:
        load("parquet", world, data=data)
        running.until_caught_up()
        build(data=data)
        yield running


def edges(running: Running) -> list[str]:
    return [f"http://{of.http}" for of in running.mesh.of("web")]


def well(readers: Readers) -> None:
    assert not readers.failed(), readers.failed()[:3]
    assert not readers.degraded(), readers.degraded()[:3]
    assert all(page.pins for page in readers.pages)


def calls(running: Running, caller: str, replica: int, to: str) -> dict[str, float]:
    """Of a process to a service, by zone."""
    text = httpx.get(f"{running.url}/metrics", timeout=20).text
    own = [line for line in text.splitlines() if line.startswith("feedmesh_calls_total{")]
    own = [line for line in own if f'service="{caller}"' in line and f'to="{to}"' in line]
    own = [line for line in own if ('replica="1"' in line) == bool(replica)]
    return {line.split('zone="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in own}


def test_pages_stay_in_their_zone(replicated: Running) -> None:
    with reading(edges(replicated), USERS) as readers:
        time.sleep(1.0)  # of load, which is what is looked at
    well(readers)
    for replica in (0, 1):
        for to in ("polaris", "aperture", "rockstore", "scorpion"):
            found = calls(replicated, "feedgen", replica, to)
            assert found["own"] > 100
            assert found["other"] <= 0.05 * found["own"] + 10, "hedges alone leave the zone"
        assert calls(replicated, "feedgen", replica, "roadrunner")[("own", "other")[replica]] > 0


def test_replicas_answer_alike(replicated: Running) -> None:
    with reading(edges(replicated), USERS) as readers:
        for user in USERS[::7]:
            event = {"action": "save", "user": user, "pin": 1 + user, "board": 0, "id": 10_000 + user}
            httpx.post(f"{replicated.url}/v1/events", json={"events": [event]}, timeout=20)
    well(readers)
    replicated.until_caught_up()
    ids = [*USERS, *range(1_000, 1_300)]
    for view in QUESTIONS:
        first, second = (answers(process, ids) for process in replicated.mesh.of(view))
        assert len(first) == len(second) > 0
        wrong = [method for (method, one), (_, two) in zip(first, second, strict=True) if one != two]
        assert not wrong, f"{view}: {wrong}"
        assert max(len(answer) for _, answer in first) > 100, f"{view} knows something"


@pytest.mark.parametrize("victim", rounds(VICTIMS, 2))
def test_a_killed_replica_is_not_noticed(replicated: Running, victim: str) -> None:
    with reading([edges(replicated)[0]], USERS) as readers:
        replicated.kill(victim, replica=0)
        began = time.monotonic()
        replicated.until(lambda health: not all(h.ready for h in health), "noticed", 20)
        replicated.until_ready()
        print(f"{victim}: ready again after {time.monotonic() - began:.1f} s; {readers.percentiles()}")
    well(readers)


def test_a_killed_feedgen_is_not_noticed(replicated: Running) -> None:
    with reading([edges(replicated)[0]], USERS) as readers:
        replicated.kill("feedgen", replica=0)
        replicated.until(lambda health: not all(h.ready for h in health), "noticed", 20)
        replicated.until_ready()
    print(readers.percentiles())
    well(readers)


@pytest.mark.parametrize("victim", rounds(["polaris", "aperture", "scorpion", "feedgen"], 1))
def test_a_stopped_replica_delays_few_pages_and_fails_none(replicated: Running, victim: str) -> None:
    process = replicated.child(victim).process
    assert process is not None
    with reading([edges(replicated)[0]], USERS) as readers:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            time.sleep(STOPPED_S)  # the fault itself
        finally:
            os.kill(process.pid, signal.SIGCONT)
    print(f"{victim}: {readers.percentiles()}; {len(readers.degraded())} degraded")
    assert not readers.failed(), readers.failed()[:3]
    assert len(readers.degraded()) <= len(readers.pages) // 100, readers.degraded()[:3]
    late = [page for page in readers.pages if page.took > 1.0]
    assert len(late) <= len(readers.pages) // 100


@pytest.mark.long  # a shorter roll is in test_cluster.py
def test_a_roll_under_load_is_not_noticed(replicated: Running) -> None:
    before = {child.name: child.process.pid for child in replicated.supervisor.children if child.process}
    with reading(edges(replicated), USERS, threads=2) as readers:
        began = time.monotonic()
        roll(data=replicated.mesh.data)
        print(f"rolled in {time.monotonic() - began:.1f} s; {readers.percentiles()}")
    replicated.until_ready()
    after = {child.name: child.process.pid for child in replicated.supervisor.children if child.process}
    assert all(before[name] != after[name] for name in before)
    well(readers)
