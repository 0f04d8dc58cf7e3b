"""Progress of long work on standard error: a bar for each thing that is done, or plain lines where it is no terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cli.console import err

#: The work, how much of it is done, and of how much; 0 of 0 where that is not known. A last word may stand for the present state.
Report = Callable[[str, int, int], None]
LINE_EVERY_S = 5.0


class Rate(ProgressColumn):
    """Units a second, of the last half minute."""

    def render(self, task: Task) -> Text:
        """The rate."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "-/s")


@contextmanager
def progress(counted: bool = False) -> Iterator[Report]:
    """Yields what takes the work done. `counted`: show the numbers and a rate, not only the share."""
    if not err.is_terminal:
        yield Lines(lambda line: err.print(line, highlight=False, markup=False, soft_wrap=True)).report
        return
    shown = (MofNCompleteColumn(), Rate()) if counted else (TaskProgressColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *shown, TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of or None)
            bars.update(tasks[what], completed=done, total=of or None)

        yield report


class Lines:
    """A plain line when a thing begins, every few seconds while it goes on, and when it is whole."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`say` takes a line; `clock` counts seconds."""
        self._say, self._clock = say, clock
        self._said: dict[str, tuple[float, int]] = {}  # when of each thing a line was said, and of how much done

    def report(self, what: str, done: int, of: int) -> None:
        """So much of it is done."""
        now, (at, before) = self._clock(), self._said.get(what, (float("-inf"), -1))
        whole = of > 0 and done >= of
        if (now - at < LINE_EVERY_S and not whole) or done == before:
            return
        self._said[what] = (now, done)
        share = f" of {of:,} ({done / of:.0%})" if of else ""
        self._say(f"{what}: {done:,}{share}" if done or of else f"{what} ...")
