"""The supervisor's present work for the mesh as a whole before there is anything to show, in words: for the health page and
for a page that has no people yet. It stands in `<data>/run/phase`, and is empty when the mesh is as it should be.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from services.core import summed
from services.core.durable import replace_durably


def phase_file(data: Path) -> Path:
    """Where it stands while the mesh runs."""
    return data / "run" / "phase"


@contextmanager
def phase(data: Path, words: str) -> Iterator[None]:
    """Say so for as long as this lasts."""
    path = phase_file(data)
    replace_durably(path, summed.encoded({"doing": words}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def present(data: Path) -> str:
    """The present work; empty: none."""
    with suppress(OSError, msgspec.MsgspecError):
        return summed.decoded(phase_file(data).read_bytes(), dict[str, str]).get("doing", "")
    return ""
