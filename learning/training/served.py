"""Samples from pages that were served: feedgen logs each page with its features, and the log has the actions afterwards."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.catalogue import CATALOGUE
from learning.training.events import EventHistory, Progress
from learning.training.samples import FEATURES, Deeds, Periods, Samples, Wanted
from scorpion import registry
from services.core.columns import F32, Array
from services.core.errors import MeshError
from services.core.events import Batch

ENOUGH = 300  # requests with an engagement, from which on served pages are worth learning from
AS_SERVED = "as served"  # the order of the page, which people also followed because it was the order


def models(data: Path) -> dict[int, list[str]]:
    """The columns of every model in the registry, by its fingerprint: the names of logged features."""
    found = {}
    for ref in registry.models(data):
        try:
            found[registry.fingerprint_of(data, ref)] = list(registry.manifest_of(data, ref).columns)
        except (MeshError, OSError):
            continue  # a version that can't be read explains nothing
    return found


def collect(history: EventHistory, columns: Mapping[int, list[str]], wanted: Wanted, progress: Progress) -> Periods:
    """The pages whose horizon has passed, taken apart by time; no rows when there are none.

    columns: by model, as `models` has them; pages of other models have no meaning and are left out.
    """
    served, events = history.served, history.events
    last = int(events.at_ms[-1]) if len(events) else 0
    usable = np.isin(served.model, np.array(list(columns), np.uint64)) & (served.features.lengths() > 0)
    usable &= served.at_ms + wanted.horizon_ms <= last
    if wanted.until_ms:
        usable &= served.at_ms < wanted.until_ms
    pages = _pages(served.take(usable))
    deeds = Deeds(events, wanted.positive)
    parts = []
    for i, page in enumerate(pages):
        if i % 100 == 0:
            progress("reading served pages", i, len(pages))
        parts.append(_samples(page, columns, deeds, wanted.horizon_ms))
    progress("reading served pages", len(pages), len(pages))
    return _periods(Samples.concat(parts), wanted)


def enough(periods: Periods) -> bool:
    """Whether they are worth learning from."""
    return sum(part.answered for part in (periods.train, periods.valid, periods.test)) >= ENOUGH


def _pages(served: Batch) -> list[Batch]:
    """The rows of each page, in order of time: of one user, surface and moment."""
    order = np.lexsort((served.position, served.surface, served.user, served.at_ms))
    ordered = served.take(order)
    keys = np.stack([ordered.at_ms.astype(np.uint64), ordered.user, ordered.surface.astype(np.uint64), ordered.model])
    if not len(ordered):
        return []
    cuts = np.flatnonzero((np.diff(keys, axis=1) != 0).any(axis=0)) + 1
    edges = [0, *cuts.tolist(), len(ordered)]
    return [ordered.slice(a, b) for a, b in itertools.pairwise(edges)]


def _samples(page: Batch, columns: Mapping[int, list[str]], deeds: Deeds, horizon_ms: int) -> Samples:
    at_ms, names = int(page.at_ms[0]), columns[int(page.model[0])]
    did = deeds.after(int(page.user[0]), at_ms, horizon_ms)
    weight = np.array([did.get(pin, 0.0) for pin in page.pin.tolist()], np.float32)
    n = len(page)
    return Samples(
        rows=_rows(page, names),
        label=(weight > 0).astype(np.uint8),
        weight=np.where(weight > 0, weight, np.float32(1)),
        light=-page.position.astype(np.float32),
        sizes=np.array([n], np.int64),
        at_ms=np.array([at_ms], np.int64),
        user=page.user[:1].copy(),
        pin=page.pin.copy(),
        light_name=AS_SERVED,
    )


def _rows(page: Batch, names: list[str]) -> F32:
    """The features of the catalogue, NaN where the model that served did not know one."""
    n = len(page)
    rows = np.full((n, len(FEATURES)), np.nan, np.float32)
    if (page.features.lengths() != len(names)).any():
        return rows
    logged = page.features.values.reshape(n, len(names))
    for i, name in enumerate(names):
        if name in CATALOGUE:
            rows[:, FEATURES.index(name)] = logged[:, i]
    return rows


def _periods(samples: Samples, wanted: Wanted) -> Periods:
    """By the shares of the requests, with a horizon's gap before validation and test."""
    at = samples.at_ms
    if not len(at):
        return Periods(samples, samples, samples)
    first, second = (int(len(at) * share) for share in np.cumsum(wanted.shares))
    valid_ms, test_ms = int(at[first]), int(at[min(second, len(at) - 1)])
    keeps: list[Array] = [
        at + wanted.horizon_ms <= valid_ms,
        (at >= valid_ms) & (at + wanted.horizon_ms <= test_ms),
        at >= test_ms,
    ]
    train, valid, test = (samples.requests(keep) for keep in keeps)
    return Periods(train, valid, test)
