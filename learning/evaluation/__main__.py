"""`make eval`: every part on real data, one after the other; one table, one chart, a JSON file for each part."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from learning.evaluation import gowalla, lastfm, mind, pinterest, readme, table
from learning.evaluation.table import err

PARTS = {
    "lastfm": "picked, interest and home, replayed, against most-popular, most-recent and item-KNN",
    "pinterest": "pixie's walks against exact random walks, over steps",
    "gowalla": "pixie's walks on check-ins",
    "mind": "the ranker on news requests, against running click rates",
}
RUNS = {"lastfm": lastfm.run, "pinterest": pinterest.run, "gowalla": gowalla.run, "mind": mind.run}


def main() -> int:
    """Run the parts asked for; 1 when none has its data."""
    parser = argparse.ArgumentParser(prog="python -m learning.evaluation", description=__doc__)
    parser.add_argument(
        "only", nargs="?", choices=PARTS, help="one part: " + "; ".join(f"{n}: {w}" for n, w in PARTS.items())
    )
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared/data"), help="folder with a folder a set (default: %(default)s)"
    )
    arguments = parser.parse_args()
    ran = []
    for part in [arguments.only] if arguments.only else PARTS:
        folder = arguments.shared / part
        if not folder.is_dir():
            table.say(f"{part}: absent: no folder {folder}")
            continue
        table.say(f"{part}: {PARTS[part]} …")
        began = time.perf_counter()
        with progress() as report:
            rows = RUNS[part](folder, report)
        table.save(part, rows, time.perf_counter() - began)
        ran.append(part)
    if ran:
        table.show(ran)
        readme.write()
        table.say(f"written to {table.chart()}")
    return 0 if ran else 1


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is done, on standard error."""
    columns = (TextColumn("  {task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bars:
        tasks = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done, total=of)

        yield report


if __name__ == "__main__":
    sys.exit(main())
