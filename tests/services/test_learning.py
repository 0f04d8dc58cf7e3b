"""The supervisor's thread that makes models: when it begins, its messages, and that no part of it is left running.

A program of a few lines stands for the commands, as it is quick; `tests/mesh` has the commands themselves.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cli.learning import LEAST_EVENTS, Learner
from cli.schema import SCHEMA
from services.core import settings
from services.core.clock import wall_clock
from services.core.errors import Unavailable
from services.ops.learning import (
    DECLINED,
    FAILED,
    HOUR_MS,
    OFF,
    RUNNING,
    SERVED,
    WAITING,
    Learning,
    learning_file,
    load,
    save,
)
from services.rpc import mesh as meshes
from tests.services.children import small_disk

WITHIN_S = 60.0
PROGRAM = """
import json, os, pathlib, sys, time
words = sys.argv[1:]
home = pathlib.Path(words[words.index("--data") + 1])
with (home / "ran").open("a") as ran:
    ran.write(" ".join(words[: words.index("--data")]) + "\\n")
if words[:2] == ["graph", "build"]:
    (home / "graphs").mkdir(exist_ok=True)
    (home / "graphs" / "current").write_text("1")
    sys.exit(0)
how, status = (home / "how").read_text(), pathlib.Path(words[words.index("--status") + 1])
status.parent.mkdir(exist_ok=True)
status.write_text(json.dumps({"stage": "training", "fraction": 0.5}))
if how == "waits":
    (home / "begun").touch()
    time.sleep(3600)
if how == "crashes":
    print("Traceback\\nValueError: no such thing", file=sys.stderr)
    sys.exit(1)
if how in ("promoted", "kept"):
    version = home / "models" / "ranker" / str(1 + len(list(home.glob("models/ranker/*"))))
    version.mkdir(parents=True)
    (version / "manifest.json").write_text("{}")
    if how == "promoted":
        (home / "models" / "promoted.json").write_text("{}")
latest = max((path.name for path in home.glob("models/ranker/*")), default="")
status.write_text(json.dumps({"ended": how, "message": f"it was {how}", "model": f"ranker@{latest}"}))
"""


class World:
    """A data folder, a log of so many events, and the lines that were printed."""

    def __init__(self, data: Path, every: str = "off", first: bool = True) -> None:
        self.data, self.events, self.said = data, 5_000, list[str]()
        self.growing = 0  # so many more times that it is asked for, the log has grown by half
        self.failing: list[Exception] = []  # raised one after the other, by the calls that ask for the events
        data.mkdir(parents=True, exist_ok=True)
        sections = settings.load(None, SCHEMA)
        sections["mesh"].data = str(data)
        sections["learning"].every, sections["learning"].first = every, first
        self._mesh = meshes.resolve(sections, [])

    def ends(self, how: str) -> None:
        """How the next trainings end."""
        (self.data / "how").write_text(how)

    def has_model(self, name: str) -> None:
        """A person has pushed one."""
        folder = self.data / "models" / name / "1"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")

    @property
    def ran(self) -> list[str]:
        """The commands that were run, without where."""
        path = self.data / "ran"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def trainings(self) -> int:
        return sum(command.startswith("model train") for command in self.ran)

    @property
    def state(self) -> Learning:
        return load(learning_file(self.data))

    def change(self, **changes: object) -> None:
        """Write down another state, as of an earlier run."""
        save(self.state.changed(**changes), learning_file(self.data))

    def _asked(self) -> int:
        if self.failing:
            raise self.failing.pop(0)
        if self.growing:
            self.growing -= 1
            self.events += self.events // 2
        return self.events

    @contextmanager
    def learning(self) -> Iterator[Learner]:
        program = (sys.executable, "-c", PROGRAM)
        learner = Learner(self._mesh, None, self._asked, self.said.append, program, 0.02)
        learner.start()
        try:
            yield learner
        finally:
            learner.stop()

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + WITHIN_S
        while not true():
            assert time.monotonic() < end, (self.state, self.said, self.ran)
            time.sleep(0.01)

    def until_state(self, state: str) -> None:
        self.until(lambda: self.state.state == state)

    def until_said(self, words: str) -> None:
        """In the last line."""
        self.until(lambda: bool(self.said) and words in self.said[-1])

    def run_until(self, state: str, how: str = "") -> None:
        """A mesh that is started, runs until that state, and is stopped."""
        if how:
            self.ends(how)
        with self.learning():
            self.until_state(state)

    def run_idle(self) -> None:
        """A mesh that is started, checks a few times, and is stopped."""
        with self.learning() as learner:
            self.until(lambda: learner.looks > 2)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


def test_a_first_graph_and_model_are_made_and_then_nothing_more(world: World) -> None:
    world.ends("promoted")
    with world.learning():
        world.until_said("ranker@1 ranks the feeds now: it was promoted")
        world.events *= 10
    status = world.data / "training" / "progress.json"
    assert world.ran == ["graph build", f"model train --promote --from replay --samples 2000 --status {status}"]
    assert "until it serves, the light score ranks" in world.said[0]
    world.run_idle()
    assert len(world.ran) == 2


def test_a_model_that_was_put_there_is_enough(world: World) -> None:
    world.has_model("mine")
    with world.learning():
        world.until(lambda: world.state.message == "a model is there")
    assert (world.ran, world.state.state, world.said) == ([], OFF, [])


def test_a_log_with_too_little_is_waited_for(world: World) -> None:
    world.events = LEAST_EVENTS - 1
    world.ends("too-little")
    with world.learning():
        world.until_state(WAITING)
        assert "load data with feedmesh load" in world.state.message
        assert world.ran == []
        world.events = LEAST_EVENTS
        world.until_said("no model was made, and the light score ranks: it was too-little")
        assert (world.state.state, world.state.message) == (WAITING, "it was too-little")
        world.ends("promoted")
        world.events = 3 * LEAST_EVENTS
        world.until_state(SERVED)
    assert world.ran.count("graph build") == 1


def test_a_model_that_is_not_better_is_kept_and_another_made_when_the_log_has_grown(world: World) -> None:
    world.ends("kept")
    with world.learning():
        world.until_said("ranker@1 is kept and does not rank, and the light score ranks: it was kept")
        world.events *= 2
        world.until(lambda: world.state.kept == ["ranker@1", "ranker@2"])
    world.run_idle()
    assert world.state.state == DECLINED  # a restart forgets none of them
    world.events *= 2
    world.run_until(SERVED, "promoted")
    assert world.trainings == 3


def test_what_crashes_is_said_once_with_its_last_words_and_tried_again_at_the_next_start(world: World) -> None:
    world.run_until(FAILED, "crashes")
    assert "training ended with 1: ValueError: no such thing" in world.state.message
    assert sum("ValueError" in line for line in world.said) == 1
    assert len(world.ran) == 2
    world.run_until(SERVED, "promoted")


def test_it_stops_at_once_leaves_nothing_running_and_begins_again(world: World) -> None:
    world.ends("waits")
    before = {child.pid for child in psutil.Process().children()}  # a broker, say, that tests share
    with world.learning():
        world.until((world.data / "begun").exists)
        world.until(lambda: world.state.stage == "training")
        assert (world.state.state, world.state.fraction) == (RUNNING, 0.5)
        children = [child for child in psutil.Process().children() if child.pid not in before]
        assert any("model" in child.cmdline() for child in children)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert world.state.state == RUNNING
    world.run_until(SERVED, "promoted")
    assert world.trainings == 2


@pytest.fixture
def scheduled(tmp_path: Path) -> World:
    """One with a model that serves, made seven hours ago, and a schedule of six."""
    world = World(tmp_path / "data", every="6h")
    world.run_until(SERVED, "promoted")
    world.change(ended_ms=wall_clock() - 7 * HOUR_MS)
    return world


def test_a_schedule_makes_graph_and_model_again(scheduled: World) -> None:
    with scheduled.learning():
        scheduled.until(lambda: scheduled.state.model == "ranker@2")
    assert (scheduled.ran.count("graph build"), scheduled.trainings, scheduled.state.state) == (2, 2, SERVED)


@pytest.mark.parametrize("how", ["kept", "too-little", "crashes"])
def test_a_schedule_that_makes_nothing_better_leaves_what_serves(scheduled: World, how: str) -> None:
    scheduled.ends(how)
    with scheduled.learning():
        scheduled.until_said(", and feeds are ranked as before: ")
    assert scheduled.trainings == 2
    scheduled.run_idle()
    assert scheduled.trainings == 2, "the next one is due in six hours"


def test_a_model_of_yesterday_is_made_again_where_the_log_is_the_same(tmp_path: Path) -> None:
    world = World(tmp_path / "data", every="daily")
    world.run_until(DECLINED, "kept")
    world.change(ended_ms=1)
    with world.learning():
        world.until(lambda: world.trainings == 2)


def test_a_clock_that_was_set_back_does_not_stop_a_schedule(scheduled: World) -> None:
    """The last model was made by a clock that ran ten years ahead: another is due a period from now."""
    scheduled.change(ended_ms=wall_clock() + 10 * 365 * 24 * HOUR_MS)
    scheduled.run_idle()
    assert scheduled.trainings == 1
    assert scheduled.state.ended_ms <= wall_clock()
    scheduled.change(ended_ms=scheduled.state.ended_ms - 6 * HOUR_MS)
    with scheduled.learning():
        scheduled.until(lambda: scheduled.trainings == 2)


def test_nothing_is_made_where_it_is_switched_off(tmp_path: Path) -> None:
    world = World(tmp_path / "data", first=False)
    with world.learning():
        world.until(lambda: world.state.message == "[learning] first is off")
    assert world.ran == []


def test_a_log_that_is_being_loaded_is_not_learned_from_yet(world: World) -> None:
    world.growing = 8
    world.run_until(SERVED, "promoted")
    assert (world.growing, world.state.events) == (0, world.events)
    assert world.trainings == 1


def test_a_log_that_is_away_is_waited_for(world: World) -> None:
    world.failing = [Unavailable("roadrunner is away")]
    world.run_until(SERVED, "promoted")
    assert world.said[-1].startswith("learning: ranker@1")


def test_an_error_of_the_machine_is_said_once_and_ends_no_checks(world: World) -> None:
    world.failing = [OSError(24, "Too many open files")] * 3
    world.run_until(SERVED, "promoted")
    assert sum("Too many open files" in line for line in world.said) == 1


def test_a_full_disk_is_outlived(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        world = World(disk.path / "data")
        world.ends("promoted")
        for folder in ("training", "logs"):
            (world.data / folder).mkdir()
        disk.fill(world.data / "other")
        with world.learning() as learner:
            world.until(lambda: learner.state.state == FAILED)
            world.until_said(
                f": the disk of {world.data} is full"
            )  # ended with 1, or 120 where its last line found no space
            (world.data / "other").unlink()
            world.events *= 2
            world.until_state(SERVED)


@pytest.mark.parametrize(("every", "hours"), [("off", 0), ("daily", 24), ("1h", 1), ("48h", 48)])
def test_how_often(every: str, hours: int) -> None:
    assert settings.LearningSettings(every=every).every_hours == hours


@pytest.mark.parametrize("every", ["0h", "h", "hourly", "6", "-1h", "6h\n", "99999h"])
def test_another_schedule_is_refused(every: str) -> None:
    with pytest.raises(Exception, match=r"\[learning\]"):
        settings.validated({"learning": {"every": every}}, "mesh.toml", SCHEMA)
