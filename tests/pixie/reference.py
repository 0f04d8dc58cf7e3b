"""Obvious counterparts of what pixie does with arrays: sets, dictionaries, and one step after the other."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pixie.build import Edges, build
from pixie.counting import Visits
from pixie.kernel import NOTHING, BestNodes, Options, best, visited
from pixie.prune import Pruning, Topics
from pixie.snapshot import Snapshot, open_snapshot
from services.core.columns import Array, ids

Pairs = set[tuple[int, int]]  # (pin, board)
MASK, GAMMA = 2**64 - 1, 0x9E3779B97F4A7C15
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


def neighbours(words: Array) -> list[list[int]]:
    """Of one node of a side after the other, where the runs that its edges lead to begin; headers and degrees are compared."""
    found: list[list[int]] = []
    at = 0
    while at < len(words):
        degree, row = divmod(int(words[at]), 1 << 32)
        assert row == len(found)
        found.append([int(edge) >> 28 for edge in words[at + 1 : at + 1 + degree]])
        at += 1 + degree
    assert at == len(words)
    return found


def adjacent(snapshot: Snapshot) -> tuple[list[list[int]], list[list[int]]]:
    """Rows of the boards of each pin, and of the pins of each board."""
    sides = neighbours(snapshot.graph.pins), neighbours(snapshot.graph.boards)
    begin = [dict(zip(np.cumsum([0, *(1 + len(run) for run in side)]).tolist(), range(len(side)), strict=False))
             for side in sides]  # fmt: skip
    of_pins = [[begin[1][start] for start in run] for run in sides[0]]
    of_boards = [[begin[0][start] for start in run] for run in sides[1]]
    for words, others in ((snapshot.graph.pins, of_boards), (snapshot.graph.boards, of_pins)):
        for edges in (words[at + 1 : at + 1 + len(run)] for at, run in _placed(words)):
            assert [int(edge) & (1 << 28) - 1 for edge in edges] == [
                len(others[(begin[1] if words is snapshot.graph.pins else begin[0])[int(edge) >> 28]]) for edge in edges
            ]
    return of_pins, of_boards


def _placed(words: Array) -> list[tuple[int, list[int]]]:
    runs = neighbours(words)
    starts = np.cumsum([0, *(1 + len(run) for run in runs)]).tolist()
    return list(zip(starts, runs, strict=False))


def pairs_of(snapshot: Snapshot) -> tuple[Pairs, Pairs]:
    """The edges of a snapshot, read from the pins and from the boards."""
    pins, boards = snapshot.pin_ids.tolist(), snapshot.board_ids.tolist()
    of_pins, of_boards = adjacent(snapshot)
    return (
        {(pins[pin], boards[board]) for pin, run in enumerate(of_pins) for board in run},
        {(pins[pin], boards[board]) for board, run in enumerate(of_boards) for pin in run},
    )


def visits_of(snapshot: Snapshot, rows: list[int], shares: list[int], chosen: Options, seed: int = 1
              ) -> tuple[Array, Array, Visits]:  # fmt: skip
    """The rows of the nodes visited, their scores, and all of it, of the side that is wanted."""
    graph = snapshot.graph
    both = visited(graph, np.array(rows), np.array(shares), chosen, seed)
    found, words = (both[0], graph.boards) if chosen.boards else (both[1], graph.pins)
    return words[found.starts.astype(np.int64)] & np.uint64(0xFFFFFFFF), found.scores, found


def walk(snapshot: Snapshot, rows: list[int], shares: list[int], chosen: Options, *, k: int, discount: float = 0.0,
         seed: int = 1, leave_out: Array = NOTHING) -> BestNodes:  # fmt: skip
    """The best of the side that is wanted."""
    found, graph = visits_of(snapshot, rows, shares, chosen, seed)[2], snapshot.graph
    return best(graph.boards if chosen.boards else graph.pins, found, k, discount, leave_out)


class SplitMix:
    """SplitMix64 in whole numbers."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def next(self) -> int:
        self.state = (self.state + GAMMA) & MASK
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
    """Score and seed of each node visited, and the steps taken from each query pin: walkers step alternately, a step each."""
    of_pin, of_board = adjacent(snapshot)
    pin_interests, board_interests = snapshot.graph.pin_interests.tolist(), snapshot.graph.board_interests.tolist()
    visits: list[Counter[int]] = []
    steps = []
    for index, (start, share) in enumerate(zip(pins, shares, strict=True)):
        rng = SplitMix(SplitMix(seed + index * GAMMA & MASK).next())
        counts: Counter[int] = Counter()
        walkers, taken = [start] * min(64, max(1, share // 16)), 0
        while taken < share and sum(v >= options.stop_visits for v in counts.values()) < options.stop_nodes:
            turn = min(len(walkers), share - taken)
            drawn = [rng.next() for _ in range(turn)]
            coins = [rng.next() for _ in range(turn)] if options.bias else [MASK] * turn
            back = [rng.next() >> 32 < options.restart for _ in range(turn)]
            for i in range(turn):
                if sum(v >= options.stop_visits for v in counts.values()) >= options.stop_nodes:
                    break
                first = int(options.interest) if coins[i] >> 32 < options.bias else None
                second = int(options.interest) if coins[i] & 0xFFFFFFFF < options.bias else None
                board = chosen_of(of_pin[walkers[i]], board_interests, first, drawn[i] >> 32)
                pin = chosen_of(of_board[board], pin_interests, second, drawn[i] & 0xFFFFFFFF)
                counts[board if options.boards else pin] += 1
                taken += 1
                walkers[i] = start if back[i] else pin
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


def together(visits: list[dict[int, int]], plain: bool) -> list[tuple[int, float, int]]:
    """Start, score and seed of each node, by starts: of one query pin after the other how often it visited where."""
    boosted = not plain and sum(map(bool, visits)) > 1
    scores: dict[int, float] = defaultdict(float)
    seeds: dict[int, int] = {}
    for pin, counts in enumerate(visits):
        for start, count in counts.items():
            scores[start] += math.sqrt(count) if boosted else count
            if count > (visits[seeds[start]][start] if start in seeds else 0):
                seeds[start] = pin
    return [(start, scores[start] * (scores[start] if boosted else 1.0), seeds[start]) for start in sorted(scores)]


def best_of(rows: Sequence[int], scores: Array, degrees: list[int], k: int, discount: float, leave_out: list[int]
            ) -> list[tuple[int, float]]:  # fmt: skip
    """Which of the rows come first, and their scores as float32: sorted by score, then row."""
    raised = np.array(degrees, np.float64)[list(rows)] ** discount
    final = (scores / raised).tolist()
    order = sorted((at for at, row in enumerate(rows) if row not in leave_out), key=lambda at: (-final[at], rows[at]))
    return [(at, float(np.float32(final[at]))) for at in order[:k]]
