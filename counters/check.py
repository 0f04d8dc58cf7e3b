"""How the state of counters is checked; see services/state/checked.py."""

import numpy as np

from counters import layout
from counters.store import TOPICS, CountersStore
from services.core.clock import DAY_MS
from services.core.columns import U64
from services.core.events import ENGAGEMENTS, Kind
from services.state.checked import Checked, Opening, text_of

_WINDOWS_MS = np.array([0, DAY_MS, 30 * DAY_MS])


def _open(of: Opening) -> CountersStore:
    return CountersStore(of.shard, of.own, of.partitions, of.clock, of.settings.recent)


def _answers(store: CountersStore, ids: U64) -> dict[str, str]:
    found = {}
    for kind in Kind:
        counts = store.counts(int(kind), ids, np.array(ENGAGEMENTS, np.uint8), _WINDOWS_MS)
        for id_, of_one in zip(ids.tolist(), counts, strict=True):
            found[f"counts of {kind.name.lower()} {id_}"] = text_of(of_one)
    return found


CHECKED = Checked("counters", layout.FORMAT, layout.FAMILIES, TOPICS, layout.check, _open, _answers)
