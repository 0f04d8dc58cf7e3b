"""Prunes the graph as the paper does (Eksombatchai et al., WWW 2018, section 3.2): a smaller graph of better edges.

Boards that are about everything say nothing: those of the highest entropy of topics are dropped. Pins that are on very
many boards keep the |E(p)| ** delta of them that are nearest in topics. Topics here are the interests of pins: a pin's
vector is even over its interests, a board's is the mean of its pins'.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from services.core.columns import I64, U32, U64, Array
from services.core.errors import InvalidArgument

CHUNK = 1 << 20  # edges compared at a time


class Topics(NamedTuple):
    """Pin i of uint64[t] has interest i; the first of a pin is its main one."""

    pins: U64
    interests: U64

    def rows_of(self, pin_ids: U64) -> tuple[I64, Array]:
        """int64[t]: the row of each entry's pin among ascending ids; bool[t]: whether it is there."""
        at = np.minimum(np.searchsorted(pin_ids, self.pins), len(pin_ids) - 1)
        return at, np.asarray(pin_ids[at] == self.pins)


NO_TOPICS = Topics(np.empty(0, np.uint64), np.empty(0, np.uint64))


class Pruning(NamedTuple):
    """entropy_fraction: part of the boards to drop, 0..1. delta: 1 keeps all boards of a pin; the paper's best is 0.91."""

    entropy_fraction: float = 0.0
    delta: float = 1.0

    @property
    def asked(self) -> bool:
        """Whether anything may be dropped."""
        return self.entropy_fraction > 0 or self.delta < 1

    def check(self) -> None:
        """Raise InvalidArgument for values that are not allowed."""
        if not 0 <= self.entropy_fraction < 1:
            raise InvalidArgument(f"entropy_fraction = {self.entropy_fraction}: allowed are 0 to below 1")
        if not 0 < self.delta <= 1:
            raise InvalidArgument(f"delta = {self.delta}: allowed are above 0 to 1")


def pruned(pins: U32, boards: U32, pin_ids: U64, n_boards: int, topics: Topics, pruning: Pruning) -> Array:
    """bool[e]: which edges stay. pins, boards: rows of both sides, each pair once. Raises InvalidArgument."""
    fraction, delta = pruning
    if not topics.rows_of(pin_ids)[1].any():
        raise InvalidArgument("pruning compares interests, and no pin of the graph has one")
    of_pins = _vectors(pin_ids, topics)
    of_boards = _means(pins, boards, of_pins, n_boards)
    keep = ~_most_diverse(entropies(of_boards), fraction)[boards]
    if delta < 1:
        rows = np.flatnonzero(keep)
        keep[rows] = _nearest(pins[rows], boards[rows], _similar(pins[rows], boards[rows], of_pins, of_boards), delta)
    return keep


def entropies(vectors: sparse.csr_matrix) -> Array:
    """float64[n]: Shannon entropy in nats of each row, which sums to 1; 0 for a row of nothing."""
    values = vectors.copy()
    values.data = -values.data * np.log(values.data)
    return np.asarray(values.sum(axis=1)).ravel()


def _vectors(pin_ids: U64, topics: Topics) -> sparse.csr_matrix:
    """Pins by topics, each row even over the pin's interests and of sum 1, or of nothing."""
    rows, known = topics.rows_of(pin_ids)
    rows, (names, columns) = rows[known], np.unique(topics.interests[known], return_inverse=True)
    matrix = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(pin_ids), len(names)))
    matrix.data[:] = 1.0  # an interest that was named twice counts once
    return _of_sum_one(matrix)


def _means(pins: U32, boards: U32, of_pins: sparse.csr_matrix, n_boards: int) -> sparse.csr_matrix:
    incidence = sparse.csr_matrix((np.ones(len(pins)), (boards, pins)), shape=(n_boards, of_pins.shape[0]))
    return _of_sum_one((incidence @ of_pins).tocsr())


def _of_sum_one(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    matrix.data /= np.repeat(np.where(sums > 0, sums, 1.0), np.diff(matrix.indptr))
    return matrix


def _most_diverse(entropy: Array, fraction: float) -> Array:
    """bool[n]: the boards of the highest entropy; none of entropy 0, which is about one thing, or nothing known."""
    count = int(len(entropy) * fraction)
    chosen = np.zeros(len(entropy), bool)
    chosen[np.argsort(-entropy, kind="stable")[:count]] = True
    return chosen & (entropy > 0)


def _similar(pins: U32, boards: U32, of_pins: sparse.csr_matrix, of_boards: sparse.csr_matrix) -> Array:
    """float64[e]: cosine of the vectors of each edge's pin and board."""
    pin_norms, board_norms = linalg.norm(of_pins, axis=1), linalg.norm(of_boards, axis=1)
    found = np.empty(len(pins))
    for start in range(0, len(pins), CHUNK):
        part = slice(start, start + CHUNK)
        dots = np.asarray(of_pins[pins[part]].multiply(of_boards[boards[part]]).sum(axis=1)).ravel()
        norms = pin_norms[pins[part]] * board_norms[boards[part]]
        found[part] = dots / np.where(norms > 0, norms, 1.0)
    return found


def _nearest(pins: U32, boards: U32, similar: Array, delta: float) -> Array:
    """bool[e]: of each pin's d edges the ceil(d ** delta) most similar; of equals, the smaller board."""
    order = np.lexsort((boards, -similar, pins))
    degrees = np.bincount(pins)
    starts = np.cumsum(degrees) - degrees
    rank = np.arange(len(pins)) - starts[pins[order]]
    keep = np.empty(len(pins), bool)
    keep[order] = rank < np.ceil(degrees**delta)[pins[order]]
    return keep
