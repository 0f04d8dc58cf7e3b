"""Facts about its children that only the supervisor knows: how often each was started again, and why.

It stands in `<data>/run/children.json`, for the health page and for operators after a crash.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from services.core import summed
from services.core.durable import replace_durably

KEPT = 5  # exits of each


class Exit(Struct, frozen=True):
    """How a process ended. at_ms: Unix milliseconds; why: in words; log: the last line of its log that says what
    failed, or else the last one."""

    at_ms: int
    why: str
    log: str


class Fate(Struct):
    """Of one process, by shard: how often it was started again, and its latest exits, the newest first."""

    restarts: int = 0
    exits: list[Exit] = []


Fates = dict[str, Fate]  # by "service-shard"


def children_file(data: Path) -> Path:
    """Where they stand while the mesh runs."""
    return data / "run" / "children.json"


def save(fates: Fates, path: Path) -> None:
    """Write the file atomically."""
    replace_durably(path, summed.encoded(fates))


def load(path: Path) -> Fates:
    """Read it; empty where there is none, or no such file."""
    try:
        return summed.decoded(path.read_bytes(), Fates)
    except (OSError, msgspec.MsgspecError):
        return {}
