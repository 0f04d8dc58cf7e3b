"""Cached objects: what was read while it changed is not cached, and nothing else is left out."""

from pathlib import Path

import pytest

from rockstore import layout
from rockstore.layout import PIN
from rockstore.store import TOPICS, RockstoreStore
from services.core.columns import U64, ids
from services.core.events import Action, Batch, events
from services.log.memory import MemoryLog
from tests.kit import open_shards

PARTITIONS = 4


def titled(pins: U64, title: str, at_ms: int) -> Batch:
    return events(len(pins), action=Action.UPDATE_PIN, pin=pins, user=1, at_ms=at_ms, title=[title] * len(pins))


def test_a_reader_held_back_for_many_writes_caches_what_did_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads, is held back while the writer goes on as for half a minute, and then comes to cache what it read."""
    log, pins = MemoryLog(PARTITIONS), ids([1, 2, 3])
    with open_shards(tmp_path, layout.FORMAT, layout.FAMILIES, 1, PARTITIONS) as [(shard, own)]:
        view, family = RockstoreStore(shard, own, PARTITIONS), shard.family
        view.apply(log.append(titled(pins, "old", 1), TOPICS))

        class Held:
            """The objects on disk, for the first that reads them."""

            def get(self, keys: list[bytes]) -> list[bytes | None]:
                found: list[bytes | None] = family("objects").get(keys)
                monkeypatch.undo()
                for second in range(30):
                    view.apply(log.append(titled(pins[1:2], f"new {second}", 2 + second), TOPICS))
                return found

        monkeypatch.setattr(shard, "family", lambda name: Held())
        assert view.attributes(PIN, pins).titles.strings() == ["old"] * 3
        cached = [parts is not None for parts in view._objects.get(layout.object_names(PIN, pins))]
        assert cached == [True, False, True]
        assert view.attributes(PIN, pins).titles.strings() == ["old", "new 29", "old"]
