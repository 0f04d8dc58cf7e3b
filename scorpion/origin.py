"""Where features of pins come from: rockstore's attributes and datasets, and counters' counts, all asked at once."""

import asyncio
from collections.abc import Awaitable
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from counters.client import CountersClient
from features import pins
from features.pins import ACTIONS, KEPT, WINDOWS_MS
from rockstore.client import NO_POSITION, PIN, Attributes, RockstoreClient
from services.core.columns import F32, U8, U32, U64, Array
from services.core.errors import MeshError
from services.rpc.bridge import Bridge
from services.rpc.mesh import Mesh
from services.state.change_feed import ViewPosition

ROCKSTORE, COUNTERS = "rockstore", "counters"
STANDING = "standing"  # a column that is kept beside those of datasets: see `standing`
UP, TAKEN_DOWN, UNDESCRIBED = range(3)
SPARE_S = 0.1  # for an answer that is on its way when its time runs out
T = TypeVar("T")


class Fetched(NamedTuple):
    """Of m pins, NaN where nothing is known. lost: the services that could not be asked, ROCKSTORE or COUNTERS."""

    values: F32  # [m, len(KEPT) + columns]
    interests: U64  # [m, pins.INTERESTS]
    lost: frozenset[str]
    position: ViewPosition = NO_POSITION  # how far rockstore had applied the log, before all that is of it was read


class PinOrigin(Protocol):
    """The services that are asked for pins that the cache does not hold."""

    def fetch(self, whole: U64, renewed: U64, columns: tuple[str, ...], now_ms: int, timeout: float) -> Fetched:
        """Rows of the pins of `whole`, then of `renewed`, of which the counts alone are asked.

        columns: of datasets, as `dataset.column`, and STANDING; now_ms: the moment of the counts. Never raises a MeshError.
        """
        ...


class MeshOrigin:
    """Asks the mesh, from any thread."""

    def __init__(self, bridge: Bridge, mesh: Mesh) -> None:
        self._bridge = bridge
        self._rockstore = bridge.make(lambda: RockstoreClient(mesh))
        self._counters = bridge.make(lambda: CountersClient(mesh))

    def fetch(self, whole: U64, renewed: U64, columns: tuple[str, ...], now_ms: int, timeout: float) -> Fetched:
        """As PinOrigin says."""
        try:
            return self._bridge.run(self._fetch(whole, renewed, columns, now_ms, timeout), timeout + SPARE_S)
        except MeshError:
            m = len(whole) + len(renewed)
            return Fetched(*_nothing(m, len(columns)), frozenset({ROCKSTORE, COUNTERS}))

    async def _fetch(self, whole: U64, renewed: U64, columns: tuple[str, ...], now_ms: int, timeout: float) -> Fetched:
        n, m = len(whole), len(whole) + len(renewed)
        datasets = sorted({column.partition(".")[0] for column in columns if column != STANDING}) if n else []
        everyone = np.concatenate([whole, renewed])
        wanted = self._counters.counts(PIN, everyone, ACTIONS, WINDOWS_MS, now_ms=now_ms, timeout=timeout)
        known = self._rockstore.attributes(PIN, whole, timeout, bare=True, reached=True)
        of_datasets = [self._rockstore.rows(dataset, whole, timeout, reached=True) for dataset in datasets]
        (attributes, counted), rows = await asyncio.gather(
            asyncio.gather(_or_none(known), _or_none(wanted)), asyncio.gather(*map(_or_none, of_datasets))
        )
        lost = {ROCKSTORE} if attributes is None or any(found is None for found in rows) else set()
        values, interests = _nothing(m, len(columns))
        counts: Array = np.full((m, len(ACTIONS), len(WINDOWS_MS)), np.nan, np.float32)
        if counted is None:
            lost.add(COUNTERS)
        else:
            counts = counted
        if attributes is not None:
            a = attributes
            stated = pins.stored_features(a.found, a.quality, a.at_ms, a.interests, counts[:n])
            values[:n, : len(KEPT)], interests[:n] = stated
            if STANDING in columns:
                values[:n, len(KEPT) + columns.index(STANDING)] = standing(a)
        values[:, len(pins.ATTRIBUTES) : len(KEPT)] = counts.reshape(m, -1)
        for dataset, found in zip(datasets, rows, strict=True):
            if found is not None:
                _fill(values[:n], dataset, found.columns, found.values, columns)
        position = attributes.position if attributes is not None else NO_POSITION
        for found in rows:
            position = position.least(found.position if found is not None else NO_POSITION)
        return Fetched(values, interests, frozenset(lost), position)

    def known_datasets(self, timeout: float = 2.0) -> dict[str, list[str]] | None:
        """The columns of each dataset of rockstore; None when it can't be asked."""
        try:
            found = self._bridge.run(self._rockstore.datasets(timeout), timeout + SPARE_S)
        except MeshError:
            return None
        return {dataset.name: list(dataset.columns) for dataset in found}

    def close(self) -> None:
        """Close the channels."""

        async def close() -> None:
            await asyncio.gather(self._rockstore.close(), self._counters.close())

        self._bridge.run(close(), 5.0)


def standing(known: Attributes) -> F32:
    """float32[n], whole numbers below 2^24: UP, TAKEN_DOWN or UNDESCRIBED, and four times the mark of the creator.

    One number, so that a row of the cache stays within three lines of memory.
    """
    status = np.where(known.taken_down, TAKEN_DOWN, np.where(known.described, UP, UNDESCRIBED))
    return (4 * pins.creator_marks(known.owners) + status).astype(np.float32)


def of_standing(standing: F32) -> tuple[U8, U32]:
    """Status (UP where nothing is known: NaN) and mark of the creator of each."""
    packed = np.nan_to_num(standing).astype(np.uint32)
    return (packed & 3).astype(np.uint8), packed >> np.uint32(2)


async def _or_none(answer: Awaitable[T]) -> T | None:
    try:
        return await answer
    except MeshError:
        return None


def _nothing(m: int, columns: int) -> tuple[F32, U64]:
    return np.full((m, len(KEPT) + columns), np.nan, np.float32), np.zeros((m, pins.INTERESTS), np.uint64)


def _fill(values: F32, dataset: str, has: list[str], rows: Array, columns: tuple[str, ...]) -> None:
    for i, column in enumerate(columns):
        of, _, name = column.partition(".")
        if of == dataset and name in has:
            values[:, len(KEPT) + i] = rows[:, has.index(name)]
