"""Changes of the cached pins that follow from the log."""

from collections.abc import Iterable

import numpy as np

from scorpion.origin import STANDING
from scorpion.pin_features import PinFeatureLoader
from services.core.columns import ids
from services.core.events import Action, Batch, flags
from services.core.topics import Topic
from services.log.protocol import Reader
from services.state.change_feed import ChangeFeed
from services.state.feed_view import Changed, FeedView

TOPICS = (Topic.OBJECTS,)

A = Action
_OF_PIN = flags(A.CREATE_PIN, A.UPDATE_PIN, A.TAKEDOWN, A.JOIN_INTEREST, A.LEAVE_INTEREST)
_OF_TARGET = flags(A.PUT_FEATURES)
_RELEVANT = _OF_PIN | _OF_TARGET | flags(A.SWITCH_DATASET)
_NOTHING = Changed(ids([]))


def pin_changes(loader: PinFeatureLoader, feed: ChangeFeed, log: Reader) -> FeedView:
    """The view of `objects` that drops cached rows as their pins change."""
    return FeedView(feed, log, Topic.OBJECTS, lambda batch: changed(batch, loader.cache.columns), loader)


def changed(batch: Batch, columns: Iterable[str]) -> Changed:
    """The changes of a batch; columns: of datasets that are cached. An action on a pin changes its counts, which expire.

    The switch of a dataset may change every pin, of a cache that comes to have its columns only later too.
    """
    if not _RELEVANT[batch.action].any():
        return _NOTHING
    switched = np.flatnonzero(batch.action == A.SWITCH_DATASET)
    cached = {column.partition(".")[0].encode() for column in columns if column != STANDING} if len(switched) else ()
    return Changed(
        np.concatenate([batch.pin[_OF_PIN[batch.action]], batch.target[_OF_TARGET[batch.action]]]),
        every=len(switched) > 0,
        clears=any(batch.title.run(row).tobytes() in cached for row in switched.tolist()),
    )
