"""The question that polaris is measured with: 3,000 boards of 100 pins each, some of them asked for the best pins that are
not in a filter; and its slow, obvious answer, which knows nothing of polaris but the light score's coefficients.
"""

from typing import NamedTuple

import numpy as np

from polaris.kernel import Light
from services.core.clock import DAY_MS, wall_clock
from services.core.columns import F32, I64, U32, U64
from services.core.events import Action, Batch, events
from services.kernels import bloom

BOARDS, PINS, SEEN, K = 3_000, 100, 10_000, 1_000
ALL_PINS = 2_000_000


class Question(NamedTuple):
    """The best K of some boards now. boards: uint64[n]. weights: float32[n]."""

    boards: U64
    weights: F32
    now_ms: int


class Best(NamedTuple):
    """The answer, best first. pins: uint64[k]. scores: float32[k]."""

    pins: U64
    scores: F32


class List(NamedTuple):
    """A board's pins, each once: as saved last."""

    pins: U64
    at_ms: I64
    quality: F32


def saved() -> list[Batch]:
    """100 saves to each of 3,000 boards, ten of a board in one batch."""
    rng, n, now = np.random.default_rng(1), BOARDS * 10, wall_clock()
    return [
        events(
            n,
            user=1,
            action=Action.SAVE,
            pin=rng.integers(1, ALL_PINS, n),
            board=np.repeat(np.arange(1, BOARDS + 1), 10),
            at_ms=now - rng.integers(0, 365 * DAY_MS, n),
            quality=rng.random(n),
            id=rng.integers(1, 2**63, n),
        )
        for _ in range(PINS // 10)
    ]


def lists_of(saves: list[Batch]) -> dict[int, List]:
    """The pins on each board, recounted: of two saves of a pin the last stands."""
    on: dict[int, dict[int, tuple[int, float]]] = {board: {} for board in range(1, BOARDS + 1)}
    for batch in saves:
        columns = (getattr(batch, name).tolist() for name in ("board", "pin", "at_ms", "quality"))
        for board, pin, at_ms, quality in zip(*columns, strict=True):
            on[board][pin] = (at_ms, quality)
    made = {}
    for board, rows in on.items():
        at_ms, quality = zip(*rows.values(), strict=True)
        made[board] = List(np.array(list(rows), np.uint64), np.array(at_ms), np.array(quality, np.float32))
    return made


def best_of(lists: dict[int, List], question: Question, seen: U64) -> Best:
    """The slow and obvious answer: every posting scored, all put in order, of each pin the first. seen: pins left out."""
    found = [lists[board] for board in question.boards.tolist()]
    pins, at_ms, quality = (np.concatenate(column) for column in zip(*found, strict=True))
    weights = np.repeat(np.log(question.weights.astype(np.float64)), [len(one.pins) for one in found])
    light, ages = Light(), np.maximum(0, question.now_ms - at_ms)
    scores = (weights + light.quality * quality.astype(np.float64) - ages / light.scale_ms).astype(np.float32)
    order = np.lexsort((pins, -scores))
    order = order[~np.isin(pins[order], seen)]
    _, first = np.unique(pins[order], return_index=True)
    chosen = order[np.sort(first)][:K]
    return Best(pins[chosen], scores[chosen])


def filter_of(lists: dict[int, List]) -> tuple[U32, U64]:
    """A filter of SEEN pins; and those, with the pins of the lists that it takes for seen, ascending."""
    pins = np.random.default_rng(3).integers(1, ALL_PINS, SEEN).astype(np.uint64)
    seen, every = bloom.build(pins, 0.01), np.concatenate([one.pins for one in lists.values()])
    return seen, np.union1d(pins, every[bloom.probe(seen, every)])


def questions(boards: int, n: int) -> list[Question]:
    """n questions to so many of the boards."""
    rng, now, made = np.random.default_rng(boards), wall_clock(), []
    for _ in range(n):
        asked = rng.choice(BOARDS, boards, replace=False).astype(np.uint64) + np.uint64(1)
        made.append(Question(asked, rng.choice(np.array([0.7, 1.0], np.float32), boards), now))
    return made
