"""The floors hold on the real import graph, and a test that could not fail would not hold them."""

from pathlib import Path

import pytest

from cli.schema import SERVICES
from tests.floors import FLOOR, TOP, cycle, edges, read, upward

ROOT = Path(__file__).resolve().parent.parent
FILES = read(ROOT)


def test_no_import_goes_up() -> None:
    assert upward(FILES) == []


def test_no_folders_import_each_other_in_a_circle() -> None:
    assert cycle((own, other) for own, other, _ in edges(FILES)) == []


def test_every_folder_of_code_has_a_floor() -> None:
    packages = {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("*/__init__.py")}
    parts = {f"services.{path.parent.name}" for path in ROOT.glob("services/*/__init__.py")}
    assert (packages - {"services"}) | parts | {"tests"} == set(FLOOR)
    assert set(SERVICES) <= set(FLOOR)
    assert not [
        path for path in FILES if path.startswith("services/") and path.count("/") == 1 and "__init__" not in path
    ]


@pytest.mark.parametrize(
    ("path", "line", "held"),
    [
        ("services/core/clock.py", "from services.ops import process", False),
        ("services/core/clock.py", "import web.app", False),
        ("services/core/clock.py", "def f():\n    from cli import main", False),
        ("services/state/shard.py", "if TYPE_CHECKING:\n    from services.ops.process import Process", False),
        ("apiary/store.py", "from polaris.store import PolarisStore", False),
        ("apiary/store.py", "from feedgen import client", False),
        ("roadrunner/service.py", "from apiary.client import ApiaryClient", False),
        ("scorpion/origin.py", "from rockstore.client import RockstoreClient", True),
        ("scorpion/origin.py", "from roadrunner.store import EventLog", True),
        ("web/health.py", "from services.core.errors import MeshError", True),
        ("cli/main.py", "from learning.training import command", True),
    ],
)
def test_an_import_that_goes_up_is_named(path: str, line: str, held: bool) -> None:
    found = upward({path: line})
    assert [where.split(":")[0] for where in found] == ([] if held else [path])


def test_a_circle_is_named() -> None:
    assert cycle([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == ["a", "b", "c", "a"]
    assert cycle([("a", "b"), ("b", "c"), ("a", "c")]) == []
    assert TOP
