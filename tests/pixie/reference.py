"""Obvious counterparts of what pixie does with arrays: sets, dictionaries, and one step after the other."""

import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from pixie.build import Edges, build
from pixie.kernel import Options
from pixie.prune import Pruning, Topics
from pixie.snapshot import Snapshot, open_snapshot
from services.columns import Array, ids

Pairs = set[tuple[int, int]]  # (pin, board)
MASK = 2**64 - 1
NO_PRUNING = Pruning()
BUILT_MS = 1_760_000_000_000


def topics_of(interests: dict[int, list[int]]) -> Topics:
    """The interests of pins, the main one first."""
    flat = [(pin, interest) for pin, of in interests.items() for interest in of]
    return Topics(ids([pin for pin, _ in flat]), ids([interest for _, interest in flat]))


def edges_of(pairs: Pairs) -> Edges:
    return Edges(ids([pin for pin, _ in sorted(pairs)]), ids([board for _, board in sorted(pairs)]))


def built(folder: Path, pairs: Pairs, interests: dict[int, list[int]] | None = None,
          pruning: Pruning = NO_PRUNING) -> Snapshot:  # fmt: skip
    """A snapshot of these pairs, opened."""
    version = build(folder, edges_of(pairs), topics_of(interests or {}), pruning, built_ms=BUILT_MS, source="a test",
                    durable=False)  # fmt: skip
    return open_snapshot(folder / version)


def pairs_of(snapshot: Snapshot) -> tuple[Pairs, Pairs]:
    """The edges of a snapshot, read from the pins and from the boards."""
    graph, pins, boards = snapshot.graph, snapshot.pin_ids.tolist(), snapshot.board_ids.tolist()
    of_pins = {
        (pin, boards[board])
        for row, pin in enumerate(pins)
        for board in graph.pin_edges[graph.pin_offsets[row] : graph.pin_offsets[row + 1]].tolist()
    }
    of_boards = {
        (pins[pin], board)
        for row, board in enumerate(boards)
        for pin in graph.board_edges[graph.board_offsets[row] : graph.board_offsets[row + 1]].tolist()
    }
    return of_pins, of_boards


class SplitMix:
    """SplitMix64 in whole numbers."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        return z ^ (z >> 31)


def chosen_of(neighbours: list[int], interests: list[int], interest: int | None, drawn: int) -> int:
    """One of the neighbours, of the interest if there are any."""
    of_it = [node for node in neighbours if interests[node] == interest] if interest is not None else []
    among = of_it or neighbours
    return among[drawn * len(among) >> 32]


def walked(snapshot: Snapshot, pins: list[int], shares: list[int], options: Options, seed: int
           ) -> tuple[dict[int, float], dict[int, int], list[int]]:  # fmt: skip
    """Score and seed of each node visited, and the steps taken from each query pin."""
    g, rng = snapshot.graph, SplitMix(seed)
    of_pin = [g.pin_edges[a:b].tolist() for a, b in zip(g.pin_offsets[:-1], g.pin_offsets[1:], strict=True)]
    of_board = [g.board_edges[a:b].tolist() for a, b in zip(g.board_offsets[:-1], g.board_offsets[1:], strict=True)]
    pin_interests, board_interests = g.pin_interests.tolist(), g.board_interests.tolist()
    visits: list[Counter[int]] = []
    steps = []
    for start, share in zip(pins, shares, strict=True):
        counts: Counter[int] = Counter()
        pin, taken = start, 0
        while taken < share and sum(v >= options.stop_visits for v in counts.values()) < options.stop_nodes:
            drawn = rng.next()
            coins = rng.next() if options.bias else 0
            first = int(options.interest) if options.bias and coins >> 32 < options.bias else None
            second = int(options.interest) if options.bias and coins & 0xFFFFFFFF < options.bias else None
            board = chosen_of(of_pin[pin], board_interests, first, drawn >> 32)
            pin = chosen_of(of_board[board], pin_interests, second, drawn & 0xFFFFFFFF)
            counts[board if options.boards else pin] += 1
            taken += 1
            if rng.next() >> 32 < options.restart:
                pin = start
        visits.append(counts)
        steps.append(taken)
    scores: dict[int, float] = defaultdict(float)
    seeds: dict[int, int] = {}
    for index, counts in enumerate(visits):
        for node, count in counts.items():
            scores[node] += count if options.plain else math.sqrt(count)
            if count > (visits[seeds[node]][node] if node in seeds else 0):
                seeds[node] = index
    if not options.plain:
        scores = {node: score**2 for node, score in scores.items()}
    return dict(scores), seeds, steps


def transition(snapshot: Snapshot) -> Array:
    """float64[pins, pins]: the probability of a step from each pin to each."""
    of_pins, _ = pairs_of(snapshot)
    pins, boards = snapshot.pin_ids.tolist(), snapshot.board_ids.tolist()
    matrix = np.zeros((len(pins), len(boards)))
    for pin, board in of_pins:
        matrix[pins.index(pin), boards.index(board)] = 1
    return np.asarray((matrix / matrix.sum(1, keepdims=True)) @ (matrix / matrix.sum(0)).T)
