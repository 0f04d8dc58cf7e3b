"""How the state of realpin is checked; see services/state/checked.py."""

from realpin import layout
from realpin.store import TOPICS, RealpinStore
from services.core.columns import U64
from services.state.checked import Checked, Opening, text_of

_EVER_MS = 2**62


def _open(of: Opening) -> RealpinStore:
    impressions = of.settings.impression_weight != 0
    return RealpinStore(of.shard, of.partitions, of.clock, of.settings.actions_kept, impressions)


def _answers(store: RealpinStore, ids: U64) -> dict[str, str]:
    found = {}
    for user in ids.tolist():
        recent = store.recent(user, _EVER_MS)
        found[f"actions of user {user}"] = text_of(*recent.actions)
        found[f"minutes of user {user}"] = text_of(*recent.minutes)
    return found


CHECKED = Checked("realpin", layout.FORMAT, layout.FAMILIES, TOPICS, layout.check, _open, _answers)
