"""Whose a board is, and whether it is there: the one definition, which every view follows.

A board is of the user who first created or deleted it. Statements of others do not hold, until it is deleted: then it
is of the user who creates it, at the date of the deletion or later. Of its owner's statements the later date decides, of equal
dates the one that came last.

All statements of a board lie in one partition, so their order is one order. The log asks here as it accepts a statement
(`roadrunner/boards.py`): one that does not hold is a record of `objects` alone. So `users` and `sources` carry only what
holds, and there the latest statement of a board says whether it is there; readers of `objects` ask here themselves.
"""

from typing import NamedTuple

from services.core.events import Action, flags

#: Statements of a board itself: they hold if its owner makes them.
IS_OF_BOARDS = flags(Action.CREATE_BOARD, Action.DELETE_BOARD)


class Board(NamedTuple):
    """The state of a board; as it is made here, no event has named it."""

    owner: int = 0
    created_ms: int = 0  # by its owner, the latest; 0: not yet
    deleted_ms: int = 0  # the latest, by this owner or one before
    deleted: bool = False


def after(known: Board, action: int, user: int, at_ms: int) -> Board | None:
    """The state after a user created or deleted the board; None: that does not hold, and nothing changes."""
    creates = action == Action.CREATE_BOARD
    if user != known.owner:
        if known.owner and not (creates and known.deleted and at_ms >= known.deleted_ms):
            return None
        known = Board(user, 0, known.deleted_ms, known.deleted)
    if creates:
        gone = known.deleted and at_ms < known.deleted_ms
        return known._replace(created_ms=max(known.created_ms, at_ms), deleted=gone)
    gone = known.deleted or at_ms >= known.created_ms
    return known._replace(deleted_ms=max(known.deleted_ms, at_ms), deleted=gone)
