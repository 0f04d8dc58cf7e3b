"""How far the mesh is with a model of its own: the supervisor writes it down, and the page of models shows it.

It stands in `<data>/training/learning.json`.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from services.core import summed
from services.core.durable import replace_durably

OFF, WAITING, RUNNING, SERVED, DECLINED, FAILED = "off", "waiting", "running", "served", "declined", "failed"
HOUR_MS = 3_600_000


class Learning(Struct, kw_only=True):
    """state: off, waiting (there is too little to learn from), running, served (the model was promoted), declined (it is
    kept: it is not better) or failed. stage and fraction (0 to 1, of the stage): while it runs; since_ms:
    when this began, ended_ms: when the last one ended, Unix milliseconds, 0: never; message: why, or what is missing, in
    words; model: name@version that came of it; events: of the log, when it last began; kept: all models that were declined.
    """

    state: str = OFF
    stage: str = ""
    fraction: float = 0.0
    since_ms: int = 0
    ended_ms: int = 0
    message: str = ""
    model: str = ""
    events: int = 0
    kept: list[str] = []

    def changed(self, **changes: Any) -> "Learning":
        """With other values."""
        return msgspec.structs.replace(self, **changes)


def learning_file(data: Path) -> Path:
    """Where it stands."""
    return data / "training" / "learning.json"


def save(state: Learning, path: Path) -> None:
    """Write the file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, summed.encoded(state))


def load(path: Path) -> Learning:
    """Read it; as if nothing had ever been learned where there is none, or no such file."""
    try:
        return summed.decoded(path.read_bytes(), Learning)
    except (OSError, msgspec.MsgspecError):
        return Learning()
