"""How the state of smartfeed is checked; see services/state/checked.py."""

from services.core.columns import U64
from services.state.checked import Checked, Opening, text_of
from smartfeed import layout
from smartfeed.layout import FEEDS
from smartfeed.store import TOPICS, SmartfeedStore


def _open(of: Opening) -> SmartfeedStore:
    return SmartfeedStore(of.shard, of.own, of.partitions, of.settings.max_pins)


def _answers(store: SmartfeedStore, ids: U64) -> dict[str, str]:
    pairs = [(user, feed) for user in ids.tolist() for feed in FEEDS]
    return {f"feed {feed.name.lower()} of user {user}": text_of(*store.last_served(user, feed)) for user, feed in pairs}


CHECKED = Checked("smartfeed", layout.FORMAT, layout.FAMILIES, TOPICS, layout.check, _open, _answers)
