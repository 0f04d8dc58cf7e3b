"""Ids as the edge takes and answers them: numbers as they are, or text that stands for numbers (services/core/external.py)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from rockstore.client import RockstoreClient
from services.core.clock import Clock
from services.core.errors import InvalidArgument, MeshError
from services.core.events import Batch
from services.core.external import RULE, collision, is_id, naming, number_of, pairs_of
from services.core.words import shown
from services.state.second_chance import SecondChanceCache
from web.questions import Event
from web.wire import U64, After, read
from web.wire import object_id as number_in

Wanted = tuple[int, Iterable[int]]  # a kind, and numbers of it
Spelled = list[list[str | None]]  # of each kind wanted, the external id of each number; None: not known
MAX_NAMES = 20_000  # ids named in one publish
ENTRY_BYTES = 260  # of a cached text, beside its characters


class TextId(U64):
    """The number of an id, and the text that it was stated as."""

    text: str


def ids_of(given: list[Event]) -> Iterator[U64]:
    """Every id of events that names something."""
    for event in given:
        yield from (of for of in (event.user, event.pin, event.board, event.target) if of)
        yield from event.interests or ()


class Ids(Protocol):
    """How a deployment writes its ids."""

    is_text: bool

    def read(self, kind: type, value: object) -> U64:
        """The decode hook of msgspec. Raises ValueError with the rule."""

    def object_id(self, text: str, name: str) -> U64:
        """The id in a path. Raises InvalidArgument naming it."""

    def sought(self, text: str) -> U64 | None:
        """The id that a search may mean."""

    def learn(self, kind: int, numbers: Iterable[int], externals: Sequence[str]) -> None:
        """Remember what an answer of rockstore says."""

    async def spelled(self, *wanted: Wanted) -> Spelled:
        """The external ids of numbers."""

    async def check(self, kind: int, stated: U64) -> None:
        """Raise InvalidArgument where the number of a stated id belongs to another one."""

    async def naming(self, batch: Batch, given: Iterable[U64]) -> list[Batch]:
        """The events that name the ids of a batch that no event named before. Raises InvalidArgument for a collision."""


class Numbers:
    """Ids are numbers outside too."""

    is_text = False

    def read(self, kind: type, value: object) -> U64:
        """A string of digits, or an integer."""
        return read(kind, value)

    def object_id(self, text: str, name: str) -> U64:
        """A string of digits, from 1."""
        return U64(number_in(text, name))

    def sought(self, text: str) -> U64 | None:
        """Digits are an id."""
        try:
            return read(U64, text)
        except ValueError:
            return None

    def learn(self, kind: int, numbers: Iterable[int], externals: Sequence[str]) -> None:
        """Nothing."""

    async def spelled(self, *wanted: Wanted) -> Spelled:
        """Digits."""
        return [[str(int(number)) for number in numbers] for _, numbers in wanted]

    async def check(self, kind: int, stated: U64) -> None:
        """Every number is its own."""

    async def naming(self, batch: Batch, given: Iterable[U64]) -> list[Batch]:
        """Nothing has to be named."""
        return []


NUMBERS = Numbers()


class Texts:
    """Ids are text outside. A text is that of its number for ever, so one that was read is cached without an expiry."""

    is_text = True

    def __init__(self, objects: RockstoreClient, clock: Clock, timeout: float, cache_mb: int) -> None:
        """timeout: seconds for a question to rockstore."""
        self._objects, self._clock, self._timeout = objects, clock, timeout
        self._cache = SecondChanceCache[int, str](cache_mb << 20, lambda text: ENTRY_BYTES + len(text))

    def read(self, kind: type, value: object) -> U64:
        """Text, or an integer as its digits."""
        if kind not in (U64, After):
            raise NotImplementedError(f"{kind} has no reading")
        return self._of(value) if kind is U64 else After(self._of(value))

    def object_id(self, text: str, name: str) -> U64:
        """Any id."""
        try:
            return self._of(text)
        except ValueError:
            raise InvalidArgument(f"{name} = {shown(text)} is not allowed: {RULE}") from None

    def sought(self, text: str) -> U64 | None:
        """Any text may be an id."""
        return self._of(text) if is_id(text) else None

    def _of(self, value: object) -> TextId:
        text = str(value) if type(value) is int else value
        if not isinstance(text, str) or not is_id(text):
            raise ValueError(RULE)
        found = TextId(number_of(text))
        found.text = text
        return found

    def learn(self, kind: int, numbers: Iterable[int], externals: Sequence[str]) -> None:
        """Keep those that are stated."""
        known = [(_key(kind, number), text) for number, text in zip(numbers, externals, strict=True) if text]
        if known:
            self._cache.put(*zip(*known, strict=True))

    async def spelled(self, *wanted: Wanted) -> Spelled:
        """From memory, and the rest by one question to rockstore; None while it is away, and for what was never named."""
        kinds = [kind for kind, numbers in wanted for _ in numbers]
        numbers = [int(number) for _, of in wanted for number in of]
        found = self._cache.get([_key(kind, number) for kind, number in zip(kinds, numbers, strict=True)])
        lacking = [i for i, text in enumerate(found) if text is None and numbers[i]]
        if lacking:
            try:
                texts = await self._ask([kinds[i] for i in lacking], [numbers[i] for i in lacking])
            except MeshError:
                texts = [None] * len(lacking)
            for i, text in zip(lacking, texts, strict=True):
                found[i] = text
        flat = iter(found)
        return [[next(flat) for _ in of] for _, of in wanted]

    async def _ask(self, kinds: list[int], numbers: list[int]) -> list[str | None]:
        """At most 10,000 a call. Raises the MeshErrors of rockstore."""
        texts: list[str | None] = []
        for start in range(0, len(numbers), 10_000):
            some, of = numbers[start : start + 10_000], kinds[start : start + 10_000]
            ids, each = np.array(some, np.uint64), np.array(of, np.uint8)
            known = await self._objects.attributes(each, ids, self._timeout, bare=True, external=True)
            for kind in set(of):
                rows = [i for i, this in enumerate(of) if this == kind]
                self.learn(kind, [some[i] for i in rows], [known.externals[i] for i in rows])
            texts += [text or None for text in known.externals]
        return texts

    async def check(self, kind: int, stated: U64) -> None:
        """From memory, or else by a question; while rockstore is away nothing is refused."""
        text = getattr(stated, "text", None)
        [[known]] = await self.spelled((kind, [stated]))
        if text is not None and known is not None and known != text:
            raise collision(kind, int(stated), known, text)

    async def naming(self, batch: Batch, given: Iterable[U64]) -> list[Batch]:
        """Of each id that no answer of rockstore has had. While rockstore is away all of them are named once more, and it is
        rockstore that finds a collision.
        """
        texts = _texts(given)
        pairs = pairs_of(batch)
        kinds = [kind for kind, numbers in pairs for _ in range(len(numbers))]
        numbers = [number for _, of in pairs for number in of.tolist()]
        known = [text for of in await self.spelled(*((kind, of.tolist()) for kind, of in pairs)) for text in of]
        new = []
        for kind, number, text in zip(kinds, numbers, known, strict=True):
            own = texts.get(number)
            if own is not None and text is not None and text != own:
                raise collision(kind, number, text, own)
            if own is not None and text is None:
                new.append((kind, number, own))
        now_ms = self._clock()
        return [_naming(new[at : at + MAX_NAMES], now_ms) for at in range(0, len(new), MAX_NAMES)]


def _naming(new: list[tuple[int, int, str]], now_ms: int) -> Batch:
    kinds, numbers, texts = zip(*new, strict=True)
    return naming(kinds, np.array(numbers, np.uint64), texts, now_ms)


def _texts(given: Iterable[U64]) -> dict[int, str]:
    """The text of each number. Raises InvalidArgument where one request states two of one number."""
    texts: dict[int, str] = {}
    for of in given:
        text: Any = getattr(of, "text", None)
        if text is not None and texts.setdefault(int(of), text) != text:
            raise InvalidArgument(f"ids {texts[int(of)]!r} and {text!r} have one hash ({int(of)}): choose another id")
    return texts


def _key(kind: int, number: int) -> int:
    return kind << 64 | int(number)
