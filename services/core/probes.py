"""The events by which the prober measures freshness: the events of a probe, under ids that are reserved for it.

A probe is named by its turn, so that a caller who asks roadrunner for one can write nothing else under these ids.
"""

import random

from services.core.errors import InvalidArgument
from services.core.events import RESERVED_FROM, Action, Batch, Surface, events

#: Turns are taken in order, so that the objects of probes stay few, and none has its turn twice in two hours.
TURNS = 10_000
USER, BOARD = RESERVED_FROM, RESERVED_FROM + 1


def pin_of(turn: int) -> int:
    """The pin of a turn, which is also the interest that it follows."""
    return RESERVED_FROM + 2 + turn % TURNS


def title_of(at_ms: int) -> str:
    """The title of the pin of a probe that was made at this moment."""
    return f"probe {at_ms}"


def probe(turn: int, at_ms: int) -> Batch:
    """One probe: a pin is made and saved to the probes' board; the probes' user is served it, and follows an interest of the
    pin's id in place of that of the turn before. Raises InvalidArgument for a turn that there is not.
    """
    if not 0 <= turn < TURNS:
        raise InvalidArgument(f"turn = {turn}: allowed are 0 to {TURNS - 1}")
    actions = [Action.CREATE_PIN, Action.SAVE, Action.SERVED, Action.UNFOLLOW_INTEREST, Action.FOLLOW_INTEREST]
    return events(
        len(actions),
        user=USER,
        action=actions,
        pin=pin_of(turn),
        board=BOARD,
        target=[0, 0, 0, pin_of(turn - 1), pin_of(turn)],
        at_ms=at_ms,
        surface=Surface.FOLLOWING,
        id=[random.getrandbits(64) | 1 for _ in actions],
        title=[title_of(at_ms), "", "", "", ""],
    )
