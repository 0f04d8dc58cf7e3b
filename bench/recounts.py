"""Whether a view that applied the log answers what the log says: for some users, boards and pins, with the drill's recount,
which says in plain Python what each view must hold.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from aperture.store import ApertureStore
from apiary.store import ApiaryStore
from polaris.layout import BOARD, Sources
from polaris.store import PolarisStore
from realpin.store import RealpinStore
from rockstore.store import RockstoreStore
from services.core.columns import U64, ids
from services.core.events import Action, Kind, Surface
from services.log.protocol import Record
from smartfeed.store import SmartfeedStore
from tests.drill.recount import Recount

SAMPLE, SEED = 300, 7
FOLLOWED = {1: "user", 2: "board", 3: "interest"}
MOST_POSTINGS, MOST_ACTIONS = 1_000, 500  # longer lists of polaris and of realpin are capped


def recounted(chunks: Sequence[list[Record]], column: str) -> tuple[U64, Recount]:
    """SAMPLE of the ids in a column of events, drawn from the distinct ones, and a recount of the events that have them."""
    records = list(chain.from_iterable(chunks))
    every = np.unique(np.concatenate([getattr(record.batch, column) for record in records]))
    some, found = np.random.default_rng(SEED).choice(every, min(SAMPLE, len(every)), replace=False), Recount()
    for record in records:
        found.add(record.with_content(record.batch.take(np.isin(getattr(record.batch, column), some))))
    return some, found


def _equal(what: str, held: object, expected: object) -> None:
    if held != expected:
        raise RuntimeError(f"{what}: {held!r:.200}, expected {expected!r:.200}")


def apiary(store: ApiaryStore, chunks: Sequence[list[Record]]) -> None:
    """Users and their follows, with dates."""
    some, expected = recounted(chunks, "user")
    for user in some.tolist():
        of, named, at_ms = (column.tolist() for column in store.followed(user))
        held = {(FOLLOWED[kind], id_): at for id_, kind, at in zip(of, named, at_ms, strict=True)}
        _equal(f"apiary: user {user} follows", held, expected.follows[user])


def polaris(store: PolarisStore, chunks: Sequence[list[Record]]) -> None:
    """Boards and the pins on them, since when."""
    some, expected = recounted(chunks, "board")
    for board in some.tolist():
        found = store.postings(Sources(np.array([BOARD], np.uint8), ids([board])))
        held, wanted = dict(zip(found.pins.tolist(), found.at_ms.tolist(), strict=True)), expected.postings[1, board]
        if len(wanted) <= MOST_POSTINGS:
            _equal(f"polaris: on board {board} are", held, wanted)


def aperture(store: ApertureStore, chunks: Sequence[list[Record]]) -> None:
    """Users and the pins they met."""
    some, expected = recounted(chunks, "user")
    for user in some.tolist():
        met = sorted({pin for pin, *_ in expected.history[user]})
        _equal(f"aperture: user {user} met", store.seen(user).tolist(), met)


def rockstore(store: RockstoreStore, chunks: Sequence[list[Record]]) -> None:
    """Pins and their titles."""
    some, expected = recounted(chunks, "pin")
    titles = store.attributes(Kind.PIN, some).titles.strings()
    _equal("rockstore: titles", titles, [expected.titles.get(("pin", pin), "") for pin in some.tolist()])


def realpin(store: RealpinStore, chunks: Sequence[list[Record]]) -> None:
    """Users and their actions on pins, without impressions."""
    some, expected = recounted(chunks, "user")
    for user in some.tolist():
        did = [
            (pin, action, at_ms)
            for (pin, _, action, _, at_ms), n in expected.history[user].items()
            for _ in range(n)
            if action != Action.IMPRESSION
        ]
        found = store.recent(user, 1 << 52).actions
        held = zip(found.pins.tolist(), found.actions.tolist(), found.at_ms.tolist(), strict=True)
        if len(did) <= MOST_ACTIONS:
            _equal(f"realpin: user {user} did", sorted(held), sorted(did))


def smartfeed(store: SmartfeedStore, chunks: Sequence[list[Record]]) -> None:
    """Users and the page they were last served."""
    some, expected = recounted(chunks, "user")
    for user in some.tolist():
        held = store.last_served(user, Surface.FOLLOWING).pins.tolist()
        _equal(f"smartfeed: user {user} was served", held, expected.served[user, Surface.FOLLOWING])
