"""How the state of polaris is checked; see services/state/checked.py."""

import numpy as np

from polaris import layout
from polaris.kernel import Light
from polaris.layout import BOARD, INTEREST, Sources
from polaris.store import TOPICS, Limits, PolarisStore
from services.core.clock import DAY_MS
from services.core.columns import U64
from services.state.checked import Checked, Opening, text_of

_AT_ONCE = 200  # sources


def _open(of: Opening) -> PolarisStore:
    s = of.settings
    light = Light(s.quality_coefficient, s.freshness_days * DAY_MS, s.default_quality)
    return PolarisStore(of.shard, of.partitions, light, Limits(s.head_postings, s.cap, s.lists_mb << 20))


def _answers(store: PolarisStore, ids: U64) -> dict[str, str]:
    found = {"pins taken down": text_of(store.taken_down())}
    for name, kind in (("board", BOARD), ("interest", INTEREST)):
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            lists, first = store.postings(Sources(np.full(len(some), kind, np.uint8), some)), 0
            for source, end in zip(some.tolist(), lists.ends.tolist(), strict=True):
                if end - first < store.cap:  # of a longer list: by the settings and version that capped it
                    columns = (lists.pins, lists.at_ms, lists.quality)
                    order = np.argsort(lists.pins[first:end])
                    found[f"pins of {name} {source}"] = text_of(*(column[first:end][order] for column in columns))
                first = end
    return found


CHECKED = Checked("polaris", layout.FORMAT, layout.FAMILIES, TOPICS, layout.check, _open, _answers)
