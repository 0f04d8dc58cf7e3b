"""Which log a data folder was begun with: a note beside the log's folder, so that a log that is gone is not begun anew.

Everything else can be made from the log; an empty one would be taken for a past in which nothing happened.
"""

from pathlib import Path

from services.core.durable import replace_durably
from services.core.errors import Damaged
from services.state import seal

NOTE = "LOG"
ASIDE = "before-kafka"  # in the data folder: the log, and the views of it, once it was moved to Kafka


def check_there(data: Path, folder: Path) -> None:
    """Raise Damaged when a log was begun and its folder holds none; before it is opened, which would make one."""
    if (data / NOTE).exists() and not (folder / seal.CURRENT).exists():
        if (data / ASIDE).is_dir():
            raise Damaged(
                f"{folder}: the log was moved to Kafka; name that in [mesh] log, or, to go on with the log from before it was "
                f"moved, without anything that happened since, move the folders in {data / ASIDE} back to {data}"
            )
        raise Damaged(
            f"{folder}: the log is missing; restore it from a backup (docs/operations.md, Damage), or, to begin anew without "
            f"anything that happened, remove {data / NOTE}"
        )


def check_same(data: Path, folder: Path, identity: bytes) -> None:
    """Raise Damaged for another log than the data folder was begun with; note this one when none is noted."""
    note = data / NOTE
    try:
        begun = note.read_bytes().decode(errors="replace").strip()
    except FileNotFoundError:
        return replace_durably(note, f"{identity.hex()}\n".encode())
    if begun != identity.hex():
        raise Damaged(
            f"{folder}: is the log {identity.hex()}, and {note} says {begun[:40]!r}: restore the log that belongs here, or, if "
            f"this one is meant, remove {note}; then views are rebuilt from it"
        )
