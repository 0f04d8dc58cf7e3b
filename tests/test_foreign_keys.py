"""A view that is asked about a key of another shard says so: what the other shard holds must not look like nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.schema import SERVICE_SETTINGS
from counters.store import CountersStore
from services.core.columns import ids
from services.core.errors import InvalidArgument
from services.core.events import Action, Kind
from services.core.topics import partition_of_one
from services.log.history import Epoch, LogHistory
from services.state.checked import Opening
from services.state.shard import Shard
from tests.damage.world import checked

PARTITIONS, OWN = 4, range(2)
MINE = next(key for key in range(1, 99) if partition_of_one(key, PARTITIONS) in OWN)
FOREIGN = next(key for key in range(1, 99) if partition_of_one(key, PARTITIONS) not in OWN)


def counts(store: CountersStore, key: int) -> Any:
    return store.counts(Kind.PIN, ids([MINE, key]), np.array([Action.SAVE], np.uint8), np.zeros(1, np.int64))


QUESTIONS: list[tuple[str, Callable[[Any, int], Any]]] = [
    ("apiary", lambda store, key: store.followed(key)),
    ("apiary", lambda store, key: store.owned(ids([MINE, key]))),
    ("aperture", lambda store, key: store.history(key)),
    ("aperture", lambda store, key: store.seen(key)),
    ("aperture", lambda store, key: store.counts(key, np.array([Action.SAVE], np.uint8), np.ones(1, np.int64), 0)),
    ("counters", counts),
    ("realpin", lambda store, key: store.recent(key)),
    ("smartfeed", lambda store, key: store.last_served(key, 1)),
    ("smartfeed", lambda store, key: store.removed(key)),
]


@pytest.mark.parametrize(("service", "ask"), QUESTIONS)
def test_a_key_of_another_shard_is_no_unknown_key(tmp_path: Path, service: str, ask: Callable[[Any, int], Any]) -> None:
    view, folder = checked(service), tmp_path / service / "0of2"
    shard = Shard(folder, view.form, view.families, 1, 1)
    try:
        settings = SERVICE_SETTINGS[service]()
        store = view.open(Opening(shard, OWN, PARTITIONS, settings, tmp_path, lambda: 1_700_000_000_000))
        history = LogHistory(b"0123456789abcdef", [Epoch(1, {})])
        shard.connect(history, {}, [(int(topic), p) for topic in view.topics for p in OWN])
        ask(store, MINE)
        with pytest.raises(InvalidArgument, match=rf"key {FOREIGN} is in partition \d, which shard {service}/0of2"):
            ask(store, FOREIGN)
    finally:
        shard.close()
