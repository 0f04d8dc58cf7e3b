"""Settings of every test, which of them share a process when the suite runs on two cores, and in which order."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.kafka.broker import Broker, missing, running_broker
from tests.running import EVERY_ROUND, Kept
from tests.seaweed import Seaweed

# Kernels compile at their first call and the machines are shared: how long one example takes says nothing. The suite has
# the same examples in each run, so that a change fails for its own faults; `make fuzz` looks for new ones.
settings.register_profile(
    "feedmesh", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True, derandomize=True
)
settings.register_profile("fuzz", settings.get_profile("feedmesh"), derandomize=False)
settings.load_profile("feedmesh")

# The suite has a process for each core: threads of OpenMP beyond that wait for each other in loops that cost a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent
KEPT = pytest.StashKey[Kept]()
# Files that share a mesh, which is the longest part of each.
LOADED = ("mesh/test_bad_input.py", "mesh/test_feeds.py", "mesh/test_live.py", "mesh/test_pages.py")
PEOPLED = ("accessibility", "feed_page", "keyboard", "long_feed", "looks", "outage", "pin_address")
GROUPS = dict.fromkeys(LOADED, "loaded mesh") | {f"browser/test_{name}.py": "peopled mesh" for name in PEOPLED}
# The longest first, or one core has nothing to do at the end.
LONGEST = (
    *GROUPS,
    "mesh/test_kill.py",
    "upgrade/test_two_versions.py",
    "mesh/test_mesh_snapshots.py",
    "mesh/test_replicas_mesh.py",
    "mesh/test_mesh_kafka.py",
    "mesh/test_mesh_migrate.py",
    "mesh/test_command.py",
    "mesh/test_mesh_learning.py",
    "installed/test_wheel.py",
    "damage/test_damage_matrix.py",
    "browser/test_health_and_models.py",
)


def _name(item: pytest.Item) -> str:
    return str(Path(item.path).relative_to(ROOT))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--skipped-into", type=Path, help="a file for the tests that were skipped, as pytest @file runs them"
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    into: Path | None = terminalreporter.config.getoption("--skipped-into")
    if into:
        into.write_text("".join(f"{report.nodeid}\n" for report in terminalreporter.stats.get("skipped", ())))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[KEPT] = Kept()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if EVERY_ROUND not in os.environ:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONGEST.index(_name(item)) if _name(item) in LONGEST else len(LONGEST))


class _ByGroup(LoadScopeScheduling):  # type: ignore[misc]
    """A file's tests stay in one process, and those of files that share a mesh. Marks of groups do not: pytest 9.2 does
    not show xdist 3.8 what it writes into a test's name.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0].removeprefix("tests/")
        return GROUPS.get(file, file)


@pytest.hookimpl(optionalhook=True)  # with `-p no:xdist`, to debug in one process, there is none
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByGroup:
    return _ByGroup(config, log)


@pytest.fixture(scope="session")
def kept(pytestconfig: pytest.Config) -> Kept:
    """The objects that the tests of a folder share; a fixture of a module asks it, since a session outlives the folder."""
    return pytestconfig.stash[KEPT]


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A real Kafka broker, one for the session; skips, saying how to get one, where there is none."""
    if why := missing():
        pytest.skip(why)
    with running_broker() as found:
        yield found


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """An S3-compatible store, one for all tests of this process."""
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[Any]:
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path.parent != item.path.parent:
            item.config.stash[KEPT].end()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """After an interrupt, or the first failure of several, the last test of a folder may not have run."""
    session.config.stash[KEPT].end()
