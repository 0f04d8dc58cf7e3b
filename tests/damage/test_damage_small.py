"""For every small file beside the stores, whatever happens to it: refusal, the right answer, the one before, or nothing."""

from pathlib import Path

import pytest

from tests.damage import small, world
from tests.damage.cells import GOOD, dataset_cells, table

COLUMNS = {"bit flipped", "truncated", "deleted", "older copy"}


def test_no_damage_to_a_small_file_makes_a_wrong_answer(tmp_path: Path) -> None:
    for of in small.build(tmp_path):
        found = list(small.cells(tmp_path, of, positions=24))
        print(table(found))
        assert {cell.column for cell in found} == COLUMNS or "beef" in str(of.files)
        assert [cell for cell in found if cell.outcome.what not in GOOD] == []


@pytest.mark.parametrize("positions", [2])
def test_no_damage_to_a_dataset_makes_a_wrong_row(tmp_path: Path, positions: int) -> None:
    made = world.build(tmp_path, 300)
    found = list(dataset_cells(made, tmp_path / "case", positions))
    print(table(found))
    assert {cell.column for cell in found} == COLUMNS
    assert [cell for cell in found if cell.outcome.what not in GOOD] == []
