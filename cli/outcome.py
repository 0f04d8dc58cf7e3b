"""A file by which a command in the background says how far it is, and how it ended: for the supervisor and the page."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from services.core import summed
from services.core.durable import replace_durably
from services.core.errors import MeshError, TooLittle

EVERY_S = 0.5  # it is written so often
Report = Callable[[str, int, int], None]  # what, done, of


class Outcome(msgspec.Struct, kw_only=True):
    """stage: the work under way; fraction: of it, 0 to 1; ended: "" while it goes on, "promoted", "kept" (a model that is
    not better than a baseline), "too-little" or "failed"; message: why, in words; model: name@version.
    """

    stage: str = ""
    fraction: float = 0.0
    ended: str = ""
    message: str = ""
    model: str = ""


def read(file: Path) -> Outcome:
    """The content of the file; an empty outcome where there is none."""
    try:
        return summed.decoded(file.read_bytes(), Outcome)
    except (OSError, msgspec.MsgspecError):
        return Outcome()


def write(file: Path, outcome: Outcome) -> None:
    """Replace the file atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(file, summed.encoded(outcome))


def also(report: Report, file: Path | None) -> Report:
    """The report, kept in the file too."""
    if file is None:
        return report
    said, due = "", 0.0

    def both(what: str, done: int, of: int) -> None:
        nonlocal said, due
        report(what, done, of)
        if what != said or time.monotonic() >= due:
            said, due = what, time.monotonic() + EVERY_S
            write(file, Outcome(stage=what, fraction=round(done / of, 4) if of else 0.0))

    return both


@contextmanager
def kept(file: Path | None) -> Iterator[Callable[[Outcome], None]]:
    """Yields what takes how it ended; an error that ends it first is written down as one, and raised on."""
    found = Outcome()

    def ended(outcome: Outcome) -> None:
        nonlocal found
        found = outcome

    try:
        yield ended
    except MeshError as error:
        if found.ended in ("", "failed"):
            how = "too-little" if isinstance(error, TooLittle) else "failed"
            found = Outcome(ended=how, message=str(error), model=found.model)
        raise
    finally:
        if file is not None and found.ended:
            write(file, found)
