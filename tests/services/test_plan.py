"""`feedmesh plan`: the terms it multiplies exist, more of anything needs no less, and nonsense is refused by name."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cli import plan_lines as plan
from cli.main import app
from cli.plan_lines import Capacity, Line, Load, ServiceCost
from cli.pods import pods
from cli.schema import SERVICES
from services.core.errors import InvalidArgument

ASKED = {"--users": 1_000_000, "--pins": 10_000_000, "--edges": 100_000_000, "--feeds-per-second": 500}
GB = 1e9


def planned(**options: Any) -> Result:
    given = {**ASKED, **{"--" + name.replace("_", "-"): value for name, value in options.items()}}
    words = [str(word) for option in given.items() for word in option]
    return CliRunner().invoke(app, ["plan", *words], env={"COLUMNS": "200"})


def capacity(**services: ServiceCost) -> Capacity:
    """Of every service: nothing but what is given."""
    nothing = ServiceCost(cpu_ms=0, process_mb=100, unit="", disk=0, memory=0)
    return Capacity({}, {name: services.get(name, nothing) for name in SERVICES})


def load(feeds: float = 0, memory: float = 10 * GB, cores: int = 4, **units: float) -> Load:
    return Load(units, feeds, memory, cores)


def line(of: Capacity, at: Load, service: str) -> Line:
    return next(one for one in plan.planned(of, at) if one.service == service)


def test_every_service_was_measured() -> None:
    measured = plan.read()
    assert set(measured.services) == set(SERVICES)
    assert all(of.process_mb > 0 and of.cpu_ms >= 0 for of in measured.services.values())
    assert {of.unit for of in measured.services.values()} <= {"", "user", "pin", "edge", "follow", "event", "record"}
    assert {"date", "commit", "cpu", "memory", "command"} <= set(measured.measured)


def test_it_says_what_is_needed_and_from_when_it_knows() -> None:
    result = planned()
    assert result.exit_code == 0, result.output
    for word in (*SERVICES, "memory GB", "machines of 64 GB and 16 cores", "assumed:", "measured "):
        assert word in result.output or word.replace("machines", "machine") in result.output
    assert str(plan.read().measured["commit"]) in result.output


def test_bytes_and_cores_by_hand() -> None:
    of = capacity(polaris=ServiceCost(cpu_ms=6, process_mb=1_000, unit="edge", disk=40, memory=10))
    found = line(of, load(feeds=200, edge=2 * 10**9), "polaris")
    assert found.disk == 80 * GB
    assert found.cores == pytest.approx(200 * 0.006 / 0.6)
    assert found.processes == 3, "20 GB in shards of 8 GB, of which each process takes 1"
    assert found.memory == pytest.approx(23 * GB)
    assert found.machines == pytest.approx(23 / 8)
    assert not found.copies


def test_cores_ask_for_shards_too() -> None:
    of = capacity(apiary=ServiceCost(cpu_ms=3, process_mb=100, unit="follow", disk=1, memory=0))
    assert line(of, load(feeds=1_000, follow=10), "apiary").processes == 5


def test_what_is_not_sharded_is_copied_whole_or_does_not_fit() -> None:
    of = capacity(pixie=ServiceCost(cpu_ms=1.2, process_mb=500, unit="edge", disk=10, memory=10))
    found = line(of, load(feeds=1_000, edge=10**8), "pixie")
    assert (found.processes, found.copies) == (2, True)
    assert found.memory == pytest.approx(3 * GB)
    with pytest.raises(InvalidArgument, match=r"--memory-per-machine = 10: one pixie needs 10.5 GB.*at least 14 GB"):
        plan.planned(of, load(edge=10**9))


def test_the_ingest_api_is_one_process() -> None:
    of = capacity(roadrunner=ServiceCost(cpu_ms=3, process_mb=100, unit="record", disk=1, memory=0))
    found = line(of, load(feeds=1_000), "roadrunner")
    assert found.processes == 1
    assert found.cores == pytest.approx(5)
    assert "roadrunner is one process" in planned(feeds_per_second=100_000).output


def test_it_says_what_to_set_for_more_than_one_process_or_machine() -> None:
    said = " ".join(planned(feeds_per_second=20).output.split())
    assert "replicas =" not in said
    assert "cluster file" not in said
    said = " ".join(planned(feeds_per_second=500).output.split())
    assert re.search(
        r"set `\[pixie\] replicas = \d+`, `\[feedgen\] replicas = \d+`: one process of each is too few", said
    )
    said = " ".join(planned(feeds_per_second=500, cores_per_machine=2).output.split())
    assert "several machines are one mesh by a cluster file" in said


def test_machines_are_shared() -> None:
    of = capacity(pixie=ServiceCost(cpu_ms=0, process_mb=500, unit="edge", disk=10, memory=10))
    small = load(edge=10**8)
    lines = plan.planned(of, small)
    assert plan.machines(lines, small) == 1
    wide = small._replace(memory_per_machine=2.5 * GB)
    assert plan.machines(plan.planned(of, wide), wide) == 2


@pytest.mark.parametrize("more", ["users", "pins", "edges", "feeds_per_second"])
def test_more_needs_no_less(more: str) -> None:
    def total(factor: int) -> list[float]:
        given = {"users": 10**5, "pins": 10**6, "edges": 10**7, "feeds_per_second": 100}
        given[more] *= factor
        units = {"user": given["users"], "pin": given["pins"], "edge": given["edges"], "follow": given["users"] * 50,
                 "event": given["users"] * 500, "record": sum(given.values())}  # fmt: skip
        lines = plan.planned(plan.read(), load(given["feeds_per_second"], 500 * GB, **units))
        return [sum(getattr(one, name) for one in lines) for name in ("processes", "disk", "memory", "cores")]

    few, many = total(1), total(4)
    assert all(a <= b for a, b in zip(few, many, strict=True))
    assert few != many


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"users": 0}, "--users = 0: allowed are 1 to"),
        ({"pins": -5}, "--pins = -5: allowed are 1 to"),
        ({"edges": 10**14}, "--edges = 100,000,000,000,000: allowed are 1 to"),
        ({"users": 2, "pins": 2, "edges": 5}, "--edges = 5: 2 users can't have saved 2 pins more than once each"),
        ({"feeds_per_second": -1}, "--feeds-per-second = -1.0: allowed are 0 to"),
        ({"feeds_per_second": "nan"}, "--feeds-per-second = nan: allowed are 0 to"),
        ({"memory_per_machine": 0}, "--memory-per-machine = 0.0: allowed are 1 to"),
        ({"memory_per_machine": 1, "edges": 10**10}, "--memory-per-machine = 1: one "),
        ({"cores_per_machine": 0}, "--cores-per-machine = 0: allowed are 1 to"),
    ],
)
def test_nonsense_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    result = planned(**options)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())


def test_help_has_examples() -> None:
    result = CliRunner().invoke(app, ["plan", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Examples" in result.output
    assert "feedmesh plan --users" in result.output


def test_a_damaged_file_is_not_taken() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"measured": {}, "services": {"pixie": {"cpu_ms": "much"}}}', type=Capacity)


@settings(max_examples=50)
@given(zones=st.integers(1, 5), feeds=st.floats(0, 5_000), edges=st.integers(0, 10**9))
def test_pods_bear_the_load_when_a_zone_is_lost(zones: int, feeds: float, edges: int) -> None:
    at = load(feeds, 500 * GB, edge=edges, pin=edges / 10, user=edges / 100)
    lines = plan.planned(plan.read(), at)
    for of, one in zip(pods(lines, zones), lines, strict=True):
        assert of.zones == (zones if of.service not in ("roadrunner", "prober") else 1)
        assert of.replicas * of.shards == of.a_zone * of.zones, "every zone has all shards"
        left = of.a_zone * max(1, of.zones - 1)
        assert left * of.cpu >= one.cores * 0.999
        held = (one.memory - one.processes * one.process) / one.processes
        assert of.memory_mb * 1e6 * plan.FULL >= one.process + held
        assert bool(of.disk_gb) == bool(one.disk)
        assert of.most >= of.a_zone


def test_pods_are_printed_when_zones_are_asked_for() -> None:
    assert "pods" not in planned().output
    assert "pods a zone" in planned(zones=3).output
    words = [str(word) for option in {**ASKED, "--zones": 3}.items() for word in option]
    result = CliRunner().invoke(app, ["plan", *words, "--json"])
    found = {of["service"]: of for of in json.loads(result.output)["pods"]}
    assert (found["apiary"]["replicas"], found["apiary"]["a_zone"]) == (3, 1)
    assert "--zones = 99" in planned(zones=99).output
