"""Sets that are only pairs: saves, perhaps follows. No names and no dates, so both are made up.

A save's date depends on its user and pin alone, spread evenly over the 90 days before 2025-01-01.
"""

import numpy as np

from loaders.dataset import Section, section, texts
from loaders.hashes import mix
from loaders.interactions import DAY_MS, Ints, first_use, popularity
from services.core.columns import I64
from services.core.events import Action

END_MS = 1_735_689_600_000  # 2025-01-01 UTC
SPAN_MS = 90 * DAY_MS
START_MS = END_MS - SPAN_MS
NOTES = [
    "the set has no names: users are called `user <id>`, pins `<noun> <id>`",
    "the set has no dates: saves are spread over the 90 days before 2025-01-01 by a hash of user and pin; "
    "definitions and follows have that of their first use",
    "the set counts from 0, which is no id here: every id is the set's number plus 1",
]


def notes(noun: str) -> list[str]:
    """Notes for people about names and dates that were made up."""
    return [line.replace("<noun>", noun) for line in NOTES]


def invented_dates(user: I64, pin: I64) -> I64:
    """int64[n] Unix ms in START_MS..END_MS of a save of `pin` by `user` (int64[n], below 2**31)."""
    hashed = mix((user.astype(np.uint64) << np.uint64(32) | pin.astype(np.uint64)) + np.uint64(1))
    return START_MS + (hashed % np.uint64(SPAN_MS)).astype(np.int64)


def sections(user: Ints, item: Ints, noun: str, follows: tuple[Ints, Ints] | None = None) -> list[Section]:
    """All events of saves (`user`, `item`: int[n], counted from 0) and of directed follows (follower, followed).

    Each user owns one board, which has the user's id. A pin's quality is popularity() among the saves.
    """
    user, item = user.astype(np.int64) + 1, item.astype(np.int64) + 1
    follower, followed = (side.astype(np.int64) + 1 for side in follows or (user[:0], user[:0]))
    at_ms = invented_dates(user, item)
    users, owners, pins = np.unique(np.r_[user, follower, followed]), np.unique(user), np.unique(item)
    first = first_use(users, user, at_ms, START_MS)
    quality = popularity(pins, item)
    met = np.maximum(first[np.searchsorted(users, follower)], first[np.searchsorted(users, followed)])
    made = [
        section(Action.NAME_USER, first, user=users, title=texts([f"user {n}" for n in users.tolist()])),
        section(
            Action.CREATE_BOARD,
            first_use(owners, user, at_ms, START_MS),
            user=owners,
            board=owners,
            title=texts([f"saved by user {n}" for n in owners.tolist()]),
        ),
        section(
            Action.CREATE_PIN,
            first_use(pins, item, at_ms, START_MS),
            pin=pins,
            title=texts([f"{noun} {n}" for n in pins.tolist()]),
            quality=quality,
        ),
        section(Action.FOLLOW_USER, met, user=follower, target=followed),
        section(Action.SAVE, at_ms, user=user, pin=item, board=user, quality=quality[np.searchsorted(pins, item)]),
    ]
    return [part for part in made if part.size]
