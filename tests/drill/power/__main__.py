"""`make drill-power`: the power is cut under the embedded log and under a view, many times, and nothing acknowledged is lost."""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.drill.power.rounds import Cuts, NotMountedError, missing, rounds
from tests.drill.power.stores import Log, Store, View

console = Console()


def main() -> int:
    """Cut; 0 when every store opened, and held what it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill.power", description=__doc__)
    parser.add_argument("--cuts", type=int, default=200, help="of each store (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    arguments = parser.parse_args()
    if why := missing():
        console.print(why)
        return 2
    table, wrong = (
        Table("store", "cuts", "acknowledged", "set aside", "opened and read, median s", "wrong", box=None),
        0,
    )
    for store in (Log(), View()):
        try:
            found = _drilled(store, arguments.cuts, arguments.seed)
        except NotMountedError as error:
            console.print(f"{error}; it takes CAP_SYS_ADMIN")
            return 2
        aside = str(store.rebuilt) if isinstance(store, View) else "-"
        each = f"{statistics.median(found.opened_s):.2f}" if found.opened_s else "-"
        lines = f"{found.lines:,}" if isinstance(store, Log) else "-"
        table.add_row(store.name, str(found.count), lines, aside, each, str(len(found.wrong)))
        wrong += len(found.wrong) + (found.count < arguments.cuts)
        for what in found.wrong[:20]:
            console.print(what, highlight=False)
    console.print(table)
    return 1 if wrong else 0


def _drilled(store: Store, cuts: int, seed: int) -> Cuts:
    def say(found: Cuts) -> None:
        if found.count % 20 == 0:
            print(f"{store.name}: {found.count} of {cuts} cuts, {len(found.wrong)} wrong", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="feedmesh-power-") as folder:
        return rounds(store, Path(folder), cuts, seed, say)


if __name__ == "__main__":
    sys.exit(main())
