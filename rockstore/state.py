"""The state of an object after one more event: the rules of names, texts and owners. Those of boards are shared
(`services/core/boards.py`).

Of each attribute the statement with the latest `at_ms` stands, of equal dates the one that came last; so a statement
that comes late changes nothing that was stated later. Interests follow the order of arrival alone, as counts do.
"""

import logging
from collections.abc import Sequence
from math import isnan
from typing import NamedTuple

from rockstore.layout import CREATED, DESCRIBED, ONLY_NAMED, TAKEN_DOWN, Object
from services.core.boards import IS_OF_BOARDS, Board, after
from services.core.events import STATES_LINK, STATES_TITLE, Action

logger = logging.getLogger(__name__)
MAX_INTERESTS = 256  # of a pin; interests beyond them are passed over, so that no value grows without end

A = Action
_DESCRIBES_PIN = frozenset((A.CREATE_PIN, A.UPDATE_PIN))


class Event(NamedTuple):
    """One row of a batch, in plain Python."""

    action: int
    at_ms: int
    owner: int
    target: int
    quality: float
    stated: int
    title: bytes
    link: bytes
    interests: Sequence[int]


def changed(known: Object | None, event: Event) -> Object | None:
    """The state of an object after one more event; `known` itself is changed."""
    if event.action == A.LEAVE_INTEREST:
        if known is not None:
            known.interests.pop(event.target, None)
        return known
    if event.action == A.NAME_ID:
        return _named(known or Object(flags=ONLY_NAMED), event.title)
    known = known or Object()
    known.flags &= ~ONLY_NAMED
    if event.action == A.JOIN_INTEREST:
        _join(known, event.target)
    elif event.action == A.TAKEDOWN:
        known.flags |= TAKEN_DOWN
    elif IS_OF_BOARDS[event.action]:
        _board(known, event)
    else:
        _state(known, event)
    return known


def _named(known: Object, external: bytes) -> Object:
    """The first external id stays: writers refuse a second text with the same number (services/core/external.py)."""
    if known.external and known.external != external:
        logger.error("two ids have one number: %r stays, %r is passed over", known.external, external)
    known.external = known.external or external
    return known


def _board(known: Object, event: Event) -> None:
    """Its owner creates it, and states its title, or deletes it; statements of others about it do not hold."""
    before = Board(known.owner, known.owner_ms, known.link_ms, bool(known.flags & TAKEN_DOWN))
    now = after(before, event.action, event.owner, event.at_ms)
    if now is None:
        return
    if now.owner != before.owner:
        known.title, known.title_ms, known.flags = b"", 0, known.flags & ~CREATED
    if event.action == A.CREATE_BOARD:
        _state(known, event)
    known.owner, known.owner_ms, known.link_ms = now[:3]
    known.flags = known.flags | TAKEN_DOWN if now.deleted else known.flags & ~TAKEN_DOWN


def _join(known: Object, interest: int) -> None:
    """A pin joins an interest; those it states of itself too, as in the events for polaris. It leaves by LEAVE_INTEREST alone."""
    if len(known.interests) < MAX_INTERESTS:
        known.interests[interest] = None


def _state(known: Object, event: Event) -> None:
    """Take the values that the event states; others, and those stated later, stay. An empty text may be stated."""
    at_ms = event.at_ms
    if event.action in _DESCRIBES_PIN:
        for interest in event.interests:
            _join(known, interest)
        if not isnan(event.quality) and at_ms >= known.quality_ms:
            known.quality, known.quality_ms = event.quality, at_ms
        if (event.link or event.stated & STATES_LINK) and at_ms >= known.link_ms:
            known.link, known.link_ms = event.link, at_ms
    if (event.title or event.stated & STATES_TITLE) and at_ms >= known.title_ms:
        known.title, known.title_ms = event.title, at_ms
    if event.owner and at_ms >= known.owner_ms:
        known.owner, known.owner_ms = event.owner, at_ms
    known.flags |= DESCRIBED
    if event.action != A.UPDATE_PIN:
        known.at_ms = min(known.at_ms, at_ms) if known.flags & CREATED else at_ms
        known.flags |= CREATED
