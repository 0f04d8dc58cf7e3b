"""P3alpha and RP3beta computed exactly, and the walk whose samples Pixie's single steps are.

P3alpha (Cooper et al., WWW 2014) ranks the pins for a board by the probability of three edges of a walk, board to pin to
board to pin, each transition probability to the power of alpha. RP3beta (Paudel et al., TiiS 2017) divides that by the
pin's degree to the power of beta. All pins are neighbours of all: nothing is cut off.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from services.core.columns import I64, Array

CHUNK = 256  # boards whose scores of all pins are held at a time


def incidence(boards: I64, pins: I64, n_boards: int, n_pins: int) -> Any:
    """Sparse float32 boards by pins, 1 where a pin is on a board. boards, pins: rows, each pair once."""
    return sparse.csr_matrix((np.ones(len(boards), np.float32), (boards, pins)), shape=(n_boards, n_pins))


def degrees(saves: Any) -> Array:
    """float64[pins]: on how many boards each pin is, at least 1."""
    return np.maximum(np.asarray(saves.sum(axis=0), np.float64).ravel(), 1.0)


def transitions(saves: Any, alpha: float = 1.0) -> Any:
    """Sparse pins by pins: the probability of a step over a board from each pin to each, of powers of alpha."""
    return (_even(saves.T.tocsr(), alpha) @ _even(saves, alpha)).tocsr()


def _even(matrix: Any, alpha: float) -> Any:
    """Each row even over its entries, to the power of alpha."""
    counts = np.diff(matrix.indptr)
    values = np.repeat(np.where(counts, counts, 1).astype(np.float32), counts) ** np.float32(-alpha)
    return sparse.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def weighted(saves: Any, weights: Array) -> Any:
    """The boards' pins by weight (float64[pins]), each row of sum 1: where walks begin."""
    starts = (saves @ sparse.diags(weights)).tocsr()
    sums = np.asarray(starts.sum(axis=1)).ravel()
    return (sparse.diags(1.0 / np.where(sums > 0, sums, 1.0)) @ starts).tocsr()


def scores_of(starts: Any, steps: Any, candidates: I64) -> Array:
    """float64[n, c]: the scores of each row's candidates (int64[n, c]). starts: n by pins, steps: pins by pins."""
    parts = [
        np.take_along_axis(_dense(starts, steps, at), candidates[at : at + CHUNK], 1)
        for at in range(0, len(candidates), CHUNK)
    ]
    return np.concatenate(parts)


def best_of(starts: Any, steps: Any, discounts: Sequence[Array], k: int) -> list[I64]:
    """For each of the discounts (float64[pins] factors), int64[n, k]: the best k pins of each row, best first, its own
    pins left out.
    """
    found: list[list[Array]] = [[] for _ in discounts]
    for at in range(0, starts.shape[0], CHUNK):
        scores = _dense(starts, steps, at)
        own = starts[at : at + CHUNK].tocoo()
        scores[own.row, own.col] = -1.0
        for parts, discount in zip(found, discounts, strict=True):
            less = scores * discount
            top = np.argpartition(-less, k, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(less, top, 1), axis=1, kind="stable")
            parts.append(np.take_along_axis(top, order, 1))
    return [np.concatenate(parts) for parts in found]


def _dense(starts: Any, steps: Any, at: int) -> Array:
    return np.asarray((starts[at : at + CHUNK] @ steps).toarray(), np.float64)
