"""How the state of aperture is checked; see services/state/checked.py."""

from aperture import layout
from aperture.store import TOPICS, ApertureStore
from services.core.columns import U64
from services.state.checked import Checked, Opening, text_of


def _open(of: Opening) -> ApertureStore:
    return ApertureStore(of.shard, of.own, of.partitions, of.clock, of.settings.recent_keys, of.settings.keep_days)


def _answers(store: ApertureStore, ids: U64) -> dict[str, str]:
    found = {}
    for user in ids.tolist():
        found[f"history of user {user}"] = text_of(*store.history(user).columns())
        found[f"pins seen by user {user}"] = text_of(store.seen(user))
    return found


CHECKED = Checked("aperture", layout.FORMAT, layout.FAMILIES, TOPICS, layout.check, _open, _answers)
