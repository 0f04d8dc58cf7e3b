"""`python -m tests.damage`."""

import argparse
import tempfile
from pathlib import Path

from tests.damage import small
from tests.damage.cells import GOOD, cells, dataset_cells, table
from tests.damage.world import VIEWS, build


def main() -> None:
    """Print the table, and then each cell that is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.damage", description=__doc__)
    parser.add_argument("--positions", type=int, default=6, help="bits to flip in each file, spread over it")
    parser.add_argument("--store", action="append", help="only these")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = build(Path(folder))
        found = [
            cell
            for store in given.store or ("roadrunner", *VIEWS)
            for cell in cells(world, Path(folder) / "case", store, given.positions)
        ]
        if not given.store:
            found += list(dataset_cells(world, Path(folder) / "case", given.positions))
            root = Path(folder) / "small"
            found += [cell for of in small.build(root) for cell in small.cells(root, of, given.positions)]
    print(table(found))
    for cell in found:
        if cell.outcome.what not in GOOD:
            print(f"{cell.outcome.what}: {cell.store}, {cell.file}, {cell.column} {cell.detail}: {cell.outcome.why}")


if __name__ == "__main__":
    main()
