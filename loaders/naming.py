"""A set whose ids are text: its events by number, after events that name each number."""

from collections.abc import Callable

import numpy as np

from loaders.dataset import EventDataset, Section
from loaders.text_ids import TextIds
from services.core import external
from services.core.columns import U8, U64
from services.core.events import EARLIEST_MS, Batch

ROWS_AT_ONCE = 65_536
Named = tuple[U8, U64]  # of each id that a set names: kind and number


def with_names(dataset: EventDataset, ids: TextIds) -> tuple[EventDataset, Named]:
    """The set with a section of names before all others, and the ids that are named. Reads the whole set once.

    Raises InvalidArgument for two texts with one number.
    """
    found: dict[int, U64] = {}
    for section in dataset.sections:
        for start in range(0, section.size, ROWS_AT_ONCE):
            batch = ids.translated(section.rows(start, min(start + ROWS_AT_ONCE, section.size)))
            for kind, numbers in external.pairs_of(batch):
                found[kind] = np.union1d(found.get(kind, np.empty(0, np.uint64)), numbers)
    kinds = np.repeat(np.array(list(found), np.uint8), [len(of) for of in found.values()])
    numbers = np.concatenate([np.empty(0, np.uint64), *found.values()])

    def names(start: int, stop: int) -> Batch:
        some = numbers[start:stop]
        named = external.naming(kinds[start:stop].tolist(), some, ids.texts(some), EARLIEST_MS)
        return named.replace(id=np.zeros(len(named), np.uint64))  # the id of a row depends on its content

    named = [
        Section(section.name, section.size, _translated(section, ids), section.newest_ms)
        for section in dataset.sections
    ]
    sections = [Section("ids", len(numbers), names), *named]
    return EventDataset(dataset.name, dataset.fingerprint, sections, dataset.notes), (kinds, numbers)


def _translated(section: Section, ids: TextIds) -> Callable[[int, int], Batch]:
    return lambda start, stop: ids.translated(section.rows(start, stop))
