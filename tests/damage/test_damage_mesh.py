"""Damage under real processes: a view is rebuilt as the log says, the log is refused by name, and it is said what to do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.checking import Checking
from cli.schema import SCHEMA
from services.core import settings
from services.core.clock import wall_clock
from services.log.protocol import Partition
from services.ops.planning import plan
from services.ops.probe import Health
from services.ops.supervisor import DataFolder, Supervisor
from services.state.shard import set_aside
from tests.damage import world
from tests.damage.files import files_of
from tests.damage.world import PARTITIONS, World
from tests.damaging import flip
from tests.running import Running

DAMAGED = {"apiary": "offsets", "aperture": "days", "counters": "pages", "polaris": "takedowns"}
SCRUBS_H = 0.0005


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world.build(tmp_path_factory.mktemp("world"), 400)


def sections(data: Path) -> settings.Sections:
    common = {"data": str(data), "partitions": PARTITIONS, "check_every_h": SCRUBS_H}
    return settings.validated({"mesh": common, "prober": {"every_s": 0}}, "test", SCHEMA)


@contextmanager
def started(data: Path, *services: str) -> Iterator[Running]:
    """These processes, which need not become ready."""
    held, reports = DataFolder(data), list[str]()
    running = Running(Supervisor(plan(sections(data), services), reports.append), reports)
    running.start()
    try:
        yield running
    finally:
        running.end()
        held.release()


def copied(made: World, data: Path, log: str = "now") -> Path:
    """The world's data folder as it is now, with the log as it was then."""
    DataFolder(data).release()
    for service in (*DAMAGED, "datasets"):
        shutil.copytree(made.now / service, data / service)
    shutil.copytree((made.now if log == "now" else made.older) / "roadrunner", data / "roadrunner")
    return data


def flipped(data: Path, service: str, kind: str) -> tuple[Path, int]:
    """One bit in the middle of the newest of the files of this kind that hold most: which file, and where in it."""
    path = max(files_of(data / service / "0of1")[kind], key=lambda file: (file.stat().st_size, file.name))
    position = path.stat().st_size // 3
    flip(path, position)
    return path, position


def wrong(data: Path) -> list[str]:
    """What `feedmesh check` finds: it recounts the log."""
    found = Checking(sections(data), data, False, wall_clock, lambda *_: None).run(200, seed=1)
    assert found.compared
    return [
        f"{one.folder}: {one.what}" for one in found.findings if one.folder.startswith(str(data / "datasets")) is False
    ]


def test_damaged_views_and_one_that_is_removed_are_rebuilt_as_the_log_says(made: World, tmp_path: Path) -> None:
    data = copied(made, tmp_path / "data")
    for service, family in DAMAGED.items():
        flipped(data, service, f"family {family}")
    with started(data, "roadrunner", *DAMAGED) as running:

        def rebuilt(health: list[Health]) -> bool:
            return all(h.ready for h in health) and all(set_aside(data / service / "0of1") for service in DAMAGED)

        running.until(rebuilt, "rebuilt")
        said = "".join((data / "logs" / f"{service}-0.log").read_text() for service in DAMAGED)
        assert said.count("; set aside as ") == len(DAMAGED)
        before = running.child("apiary").restarts
        shutil.rmtree(data / "apiary" / "0of1")
        running.until(lambda h: running.child("apiary").restarts > before and all(of.ready for of in h), "back")
        assert (
            "it was removed, or can't be read any more, while it was in use" in (data / "logs/apiary-0.log").read_text()
        )
        running.until_caught_up()
    assert wrong(data) == []


@pytest.mark.parametrize(("kind", "says"), [("family ends", "Corruption"), ("WAL", "is damaged")])
def test_a_damaged_log_is_refused_and_nothing_is_lost(made: World, tmp_path: Path, kind: str, says: str) -> None:
    """It is said what to do. What only the write-ahead file held may be in sorted files afterwards: RocksDB opens with that."""
    whole, data = copied(made, tmp_path / "whole"), copied(made, tmp_path / "data")
    path, position = flipped(data, "roadrunner", kind)
    before = {file.name: file.read_bytes() for file in (data / "roadrunner/0of1").glob("*.sst")}
    with started(data, "roadrunner") as running:
        running.until(lambda _: any("does not start" in r or says in r for r in running.reports), "refused")
        assert any("restore the log from a backup: docs/operations.md, Damage" in report for report in running.reports)
    after = {file.name: file.read_bytes() for file in (data / "roadrunner/0of1").glob("*.sst")}
    assert before.items() <= after.items()
    flip(path, position)
    assert held(data) == held(whole)


def held(data: Path) -> list[tuple[Partition, int, bytes]]:
    """All records of the log: where they are, and their batches as bytes."""
    log = world.open_log(data)
    try:
        return [
            ((record.topic, record.partition), record.offset, record.batch.to_proto().SerializeToString())
            for record in world.records_of(log)
        ]
    finally:
        log.close()


def test_a_log_that_is_gone_is_not_begun_anew_and_is_noticed_while_it_runs(made: World, tmp_path: Path) -> None:
    data = copied(made, tmp_path / "data")
    with started(data, "roadrunner") as running:
        running.until_ready()
        (data / "roadrunner/0of1").rename(data / "away")
        running.until(lambda h: "it was removed, or can't be read any more" in h[0].why, "noticed")
    with started(data, "roadrunner") as running:
        running.until(lambda _: any("the log is missing; restore it" in r for r in running.reports), "refused")
    shutil.rmtree(data / "roadrunner")
    (data / "roadrunner").mkdir()
    (data / "away").rename(data / "roadrunner/0of1")
    with started(data, "roadrunner") as running:
        running.until_ready()


def test_views_that_are_newer_than_the_log_are_rebuilt_from_it(made: World, tmp_path: Path) -> None:
    data = copied(made, tmp_path / "data", log="older")
    with started(data, "roadrunner", "apiary", "polaris") as running:
        running.until_caught_up()
        assert set_aside(data / "apiary/0of1")
        assert set_aside(data / "polaris/0of1")
    for service in ("aperture", "counters"):
        shutil.rmtree(data / service)
    assert wrong(data) == []
