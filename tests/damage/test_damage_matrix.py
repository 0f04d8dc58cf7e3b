"""For every file of the log and of every view, whatever happens to it: refusal, rebuild or the right answer."""

import os
from pathlib import Path

import pytest

from roadrunner.layout import FAMILIES as OF_LOG
from tests.damage import world
from tests.damage.cells import GOOD, cells, table
from tests.damage.files import files_of
from tests.damage.world import VIEWS, World, checked
from tests.running import EVERY_ROUND, rounds

STORES = ("roadrunner", *VIEWS)
COLUMNS = {"bit flipped", "truncated", "deleted", "older copy"}
FILES = {"CURRENT", "IDENTITY", "MANIFEST", "OPTIONS", "SEAL", "WAL", "config"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world.build(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("store", rounds(STORES, 4))
def test_no_damage_makes_a_wrong_answer(made: World, tmp_path: Path, store: str) -> None:
    found = list(
        cells(made, tmp_path / "case", store, positions=2, every_file=False, every_damage=EVERY_ROUND in os.environ)
    )
    print(table(found))
    for kind in {cell.file for cell in found} - {"whole folder"}:
        assert {cell.column for cell in found if cell.file == kind} == COLUMNS, kind
    assert [cell for cell in found if cell.outcome.what not in GOOD] == []


@pytest.mark.parametrize("store", STORES)
def test_every_column_family_and_every_other_file_is_damaged(made: World, store: str) -> None:
    families = (*OF_LOG, "default") if store == "roadrunner" else (*checked(store).families, "offsets", "default")
    kinds = files_of(made.now / store / "0of1").keys()
    assert kinds >= {f"family {family}" for family in families} | FILES
