"""How the state of apiary is checked; see services/state/checked.py."""

from apiary import layout
from apiary.layout import BOARD, INTEREST, USER
from apiary.store import TOPICS, ApiaryStore
from services.core.columns import U64
from services.state.checked import Checked, Opening, text_of

_KINDS = {"user": USER, "board": BOARD, "interest": INTEREST}


def _open(of: Opening) -> ApiaryStore:
    return ApiaryStore(of.shard, of.own, of.partitions)


def _answers(store: ApiaryStore, ids: U64) -> dict[str, str]:
    found = {f"what user {user} follows": text_of(*store.followed(user)) for user in ids.tolist()}
    boards, start = store.owned(ids), 0
    for user, end in zip(ids.tolist(), boards.ends.tolist(), strict=True):
        found[f"boards of user {user}"] = text_of(*(column[start:end] for column in boards.entries))
        start = end
    for name, kind in _KINDS.items():
        for target, count in zip(ids.tolist(), store.follower_counts(kind, ids).tolist(), strict=True):
            found[f"followers of {name} {target}"] = str(count)
    return found


CHECKED = Checked("apiary", layout.FORMAT, layout.FAMILIES, TOPICS, layout.check, _open, _answers)
