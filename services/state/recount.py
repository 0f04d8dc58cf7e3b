"""Compares a view with the log: for a sample of ids, with the answers of an empty view that has applied all their events.

The view's own code applies the events, so that a difference is damage and not another opinion: whether the code itself is
right is tested by the plain recount of the tests. Besides, a view's offsets and events applied are compared for all partitions.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from services.core.columns import U64, Array, among, ids
from services.core.events import RESERVED_FROM, Action, Batch, flags
from services.log.progress import Progress
from services.log.protocol import End, Partition, Record
from services.state.checked import Checked, Opening

_FOR_ALL = flags(Action.TAKEDOWN, Action.SWITCH_DATASET)  # concern every key, whatever ids they name
_NAMED = ("user", "pin", "board", "target")
SHOWN = 160  # characters of an answer in a finding


def named_in(batch: Batch) -> U64:
    """Every id that the events of a batch name, each once; not those of the freshness probes."""
    found = np.unique(np.concatenate([getattr(batch, name) for name in _NAMED]))
    return found[(found > 0) & (found < RESERVED_FROM)]


def boards_of(batch: Batch, sample: U64) -> U64:
    """The boards on which users of the sample did something: others may have done something to them before."""
    return np.unique(batch.board[among(batch.user, sample)])


def concerning(record: Record, sample: U64) -> Record | None:
    """The record with those of its events alone that name an id of the sample (ascending), or concern all."""
    batch = record.batch
    kept: Array = _FOR_ALL[batch.action]
    for name in _NAMED:
        kept = kept | among(getattr(batch, name), sample)
    return record.with_content(batch.take(kept)) if kept.any() else None


class Recount:
    """One shard of a view and an empty one of the same kind, to which the log is fed.

    `feed` it all records of its topics and partitions in order, then ask `end`.
    """

    def __init__(self, view: Checked, opened: Opening, empty: Opening, related: U64) -> None:
        """opened: the view as it is; empty: where to apply; related: the ids whose events are applied, ascending."""
        self._view, self._related = view, related
        self._store, self._again = view.open(opened), view.open(empty)
        self._applied = opened.shard.applied()
        self._progress: dict[Partition, Progress] = {}
        self._own = opened.own

    def wants(self, at: Partition) -> int:
        """Before which offset of a partition the view has applied the log; 0 of one that is not its own."""
        mine = at[0] in self._view.topics and at[1] in self._own
        return self._applied.get(at, (0, 0))[0] if mine else 0

    def feed(self, records: Sequence[Record]) -> None:
        """Apply the events that concern the sample, each once. Raises NotReady when a record is missing."""
        concerned = []
        for record in records:
            at = (int(record.topic), record.partition)
            if record.offset < self.wants(at):
                applied = self._progress.setdefault(at, Progress()).pass_over(record)
                concerned.append(concerning(applied, self._related) if applied else None)
        if some := [record for record in concerned if record is not None]:
            self._again.apply(some)

    def end(self, sample: U64, ends: dict[Partition, End]) -> list[str]:
        """The differences between the view and the log. Raises the errors of the stores."""
        found = [why for at, of in sorted(self._applied.items()) if (why := self._misplaced(at, of, ends))]
        held, wanted = self._view.answers(self._store, sample), self._view.answers(self._again, sample)
        for question in held.keys() & wanted.keys():
            if held[question] != wanted[question]:
                shown = _shown(held[question], wanted[question])
                found.append(f"{question}: the view answers {shown[0]}, by the log it is {shown[1]}")
        return found

    def _misplaced(self, at: Partition, of: tuple[int, int], ends: dict[Partition, End]) -> str:
        (next_, events), end = of, ends.get(at)
        name = f"topic {at[0]} partition {at[1]}"
        if end is None or next_ > end.next:
            return f"{name}: has applied the log up to offset {next_}, and the log ends at {end.next if end else 0}"
        held = self._progress[at].events if at in self._progress else 0
        if held != events:
            return f"{name}: has applied {events} events up to offset {next_}, the log holds {held}"
        return ""


def _shown(held: str, wanted: str) -> tuple[str, str]:
    """Where two answers begin to differ, of each so much that it can be read."""
    first = next((i for i, (a, b) in enumerate(zip(held, wanted, strict=False)) if a != b), min(len(held), len(wanted)))
    start = max(0, first - SHOWN // 4)
    return _cut(held, start), _cut(wanted, start)


def _cut(text: str, start: int) -> str:
    more = "…" if len(text) > start + SHOWN else ""
    return ("…" if start else "") + text[start : start + SHOWN] + more


def sample_of(batches: Iterable[Batch], size: int, chance: Any) -> U64:
    """At most `size` of the ids that these batches name, ascending, by a numpy generator."""
    named = [named_in(batch) for batch in batches]
    every = np.unique(np.concatenate(named)) if named else ids([])
    return np.sort(chance.choice(every, size, replace=False)) if len(every) > size else every
