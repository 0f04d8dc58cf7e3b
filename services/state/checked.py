"""The description of a service's stored state, so that it can be checked without being served: each view has one in `check.py`.

`feedmesh check` opens the view as its process does, applies the part of the log that concerns a sample of ids to an empty
one, and compares the answers of both. Values that a view can't have written are found by `check`, of its layout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.core.clock import Clock
from services.core.columns import U64
from services.core.topics import Topic
from services.state.shard import Shard
from services.state.stored import CheckValue


@dataclass(frozen=True, slots=True)
class Opening:
    """The arguments of opening a store. settings: its section; data: the data folder."""

    shard: Shard
    own: range
    partitions: int
    settings: Any
    data: Path
    clock: Clock


@dataclass(frozen=True, slots=True)
class Checked:
    """A view. answers: its answer about each of these ids, whatever they are ids of, and everything else of which it
    has little; by question, as text that is equal when the answers are.
    """

    service: str
    form: str
    families: tuple[str, ...]
    topics: tuple[Topic, ...]
    check: CheckValue
    open: Callable[[Opening], Any]
    answers: Callable[[Any, U64], dict[str, str]]


def text_of(*columns: Any) -> str:
    """An answer as text. Of arrays every item, of anything else its printed form."""
    return "; ".join(repr(column.tolist() if hasattr(column, "tolist") else column) for column in columns)
