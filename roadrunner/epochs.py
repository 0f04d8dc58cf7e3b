"""The log's identity and epochs, in its own database: an epoch begins whenever it is opened (services/log/history.py)."""

from collections.abc import Mapping

from roadrunner import layout
from services.log import history
from services.log.history import Epoch, LogHistory
from services.log.protocol import Partition
from services.state.database import Database


def begin(db: Database, nexts: Mapping[Partition, int]) -> LogHistory:
    """Begin an epoch at these offsets; on the disk when this returns. A log without an identity gets one.

    Raises Damaged when epochs are there without an identity.
    """
    family, handle, batch = db.family(layout.HISTORY), db.handle(layout.HISTORY), db.batch()
    identity, stored = family.get(layout.IDENTITY_KEY), dict(family.items(b"", layout.IDENTITY_KEY))
    if identity is None:
        if stored:
            raise db.damaged("it has epochs and no identity")
        identity = history.new_identity()
        batch.put(layout.IDENTITY_KEY, identity, handle)
    epochs = [layout.epoch_of(key, value) for key, value in stored.items()]
    epochs.append(Epoch(history.new_number(), {at: offset for at, offset in nexts.items() if offset}))
    key = layout.epoch_key(layout.epoch_sequence(max(stored)) + 1 if stored else 0)
    batch.put(key, layout.epoch_value(epochs[-1]), handle)
    for old in sorted(stored)[: -history.KEPT]:
        batch.delete(old, handle)
    db.write(batch)
    db.sync()
    return LogHistory(identity, epochs[-history.KEPT :])
