"""The titles, links and names of a page's pins, and which of them may not be shown, as rockstore has them.

One question where rockstore has one shard, else two. It knows nothing of candidates: the last resort, and with it the
edge, asks the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from features.pins import first_interests
from rockstore.client import BOARD, INTEREST, PIN, USER, Attributes, RockstoreClient
from services.core.columns import U64, Array, Ragged

Columns: TypeAlias = Mapping[str, Array]
TAKEN_DOWN, UNDESCRIBED, OWN = "taken_down", "undescribed", "own"  # columns that say why a pin may not be shown
_KINDS = np.array([PIN, BOARD, PIN, USER, INTEREST], np.uint8)  # the ids asked for with each pin of a page


@dataclass(frozen=True, slots=True)
class Titles:
    """Asks rockstore."""

    rockstore: RockstoreClient
    timeout: float

    async def of_page(
        self, user: int, pins: U64, boards: U64, seeds: U64, owners: U64, interests: U64
    ) -> dict[str, Array]:
        """Columns of n pins, from the board, user or seed that led to each (uint64[n], 0: none). Raises the errors of rockstore.

        object[n] of texts, empty where not known: `title`, `link`, `board_title`, `owner_name`, `seed_title`,
        `interest_title`, `pin_id`, `board_id`, `owner_id` (external ids, only where ids are text); object[n] of lists of
        texts: `interest_names`; uint64[n]: `owner_of`, the followed owner or else the board's; and as `standing`
        `taken_down`, `undescribed`, `own`.
        """
        n = len(pins)
        asked = np.concatenate([pins, boards, seeds, owners, interests])
        known = await self.rockstore.attributes(_KINDS.repeat(n), asked, self.timeout, named=True)
        boards_owners, of_pins = known.owners[n : 2 * n].tolist(), _lists(known.interests, n)
        names = await self._names(known, boards_owners, of_pins)
        titles, followed = known.titles, owners.tolist()
        shown_owners = [owner or board_owner for owner, board_owner in zip(followed, boards_owners, strict=True)]
        owner_names = [
            titles[3 * n + i] if followed[i] else names.get((USER, owner), "") for i, owner in enumerate(boards_owners)
        ]
        columns = {
            "title": objects(titles[:n]),
            "link": objects(known.links[:n]),
            "board_title": objects(titles[n : 2 * n]),
            "seed_title": objects(titles[2 * n : 3 * n]),
            "interest_title": objects(titles[4 * n :]),
            "owner_of": np.array(shown_owners, np.uint64),
            "owner_name": objects(owner_names),
            "interest_names": objects(
                [[name for interest in of if (name := names.get((INTEREST, interest)))] for of in of_pins]
            ),
        }
        if known.externals:
            columns |= _external_ids(known, shown_owners)
        return columns | _standing(known, n, user)

    async def standing(self, user: int, pins: U64) -> dict[str, Array]:
        """bool[n]: `taken_down`; `undescribed`, as nothing describes the pin yet; `own`, as the user made it. uint64[n]:
        `first_interest` that each joined, 0: none. Raises the errors of rockstore.
        """
        known = await self.rockstore.attributes(PIN, pins, self.timeout, bare=True)
        return _standing(known, len(pins), user) | {"first_interest": _first_interests(known, len(pins))}

    async def name(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Give each row of an X-ray, which has a `pin` or an `interest`, its `title`. Raises the errors of rockstore."""
        kinds = np.array([PIN if "pin" in row else INTEREST for row in rows], np.uint8)
        ids = np.array([int(row["pin"] if "pin" in row else row["interest"]) for row in rows], np.uint64)
        known = await self.rockstore.attributes(kinds, ids, self.timeout)
        for row, title in zip(rows, known.titles, strict=True):
            row["title"] = title
        return True

    async def _names(
        self, known: Attributes, owners: list[int], interests: list[list[int]]
    ) -> Mapping[tuple[int, int], str]:
        """Of the owners of the boards, and of the interests of the pins; those of other shards are asked for."""
        wanted = {(USER, owner) for owner in owners if owner}
        wanted.update((INTEREST, interest) for of in interests for interest in of)
        if not (missing := wanted - known.names.keys()):
            return known.names
        kinds, ids = zip(*missing, strict=True)
        more = await self.rockstore.attributes(np.array(kinds, np.uint8), np.array(ids, np.uint64), self.timeout)
        return {**known.names, **dict(zip(missing, more.titles, strict=True))}


def objects(values: Sequence[Any]) -> Array:
    """object[n] of texts or lists."""
    return np.fromiter(values, object, len(values))


def _standing(known: Attributes, n: int, user: int) -> dict[str, Array]:
    """Which of the first n ids asked for are pins."""
    return {TAKEN_DOWN: known.taken_down[:n], UNDESCRIBED: ~known.described[:n], OWN: known.owners[:n] == user}


def _first_interests(known: Attributes, n: int) -> U64:
    return first_interests(known.interests)[:, 0] if n else np.empty(0, np.uint64)


def _external_ids(known: Attributes, owners: list[int]) -> dict[str, Array]:
    """As far as this answer has them."""
    n, externals = len(owners), known.externals
    of_owners = [externals[3 * n + i] or known.named_externals.get((USER, owner), "") for i, owner in enumerate(owners)]
    return {
        "pin_id": objects(externals[:n]),
        "board_id": objects(externals[n : 2 * n]),
        "owner_id": objects(of_owners),
    }


def _lists(runs: Ragged, n: int) -> list[list[int]]:
    """The first n runs."""
    ends, values = runs.ends[:n].tolist(), runs.values.tolist()
    return [values[a:b] for a, b in pairwise([0, *ends])]
