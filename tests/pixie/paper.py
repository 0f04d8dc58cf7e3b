"""Pixie as its paper has it: one walker, one step after the other, Python's random numbers and dictionaries.

Eksombatchai et al., WWW 2018, section 3.1. It shares no random numbers, no turns and no table with the kernel, so what
the two visit can be compared in distribution alone. Where text and pseudo-code of the paper part it goes by the text: a
walk ends with the very visit that makes n_p nodes visited n_v times, or with its budget, where algorithm 2 would first
walk the present excursion to its end. C of the scaling factor is 1 + log of the highest degree (see `kernel.budgets`).
"""

import math
from collections import Counter, defaultdict
from random import Random
from typing import NamedTuple

from tests.pixie.reference import Pairs

Neighbours = dict[int, list[int]]


class Rules(NamedTuple):
    """How to walk: the paper's alpha, N, n_p and n_v."""

    restart: float
    steps: int
    stop_nodes: int
    stop_visits: int


class Tally:
    """Visits of one kind of node from one query pin, up to the early stop."""

    def __init__(self, rules: Rules) -> None:
        self.visits: Counter[int] = Counter()
        self.steps, self.high, self.stopped = 0, 0, False
        self._rules = rules

    def add(self, node: int) -> None:
        if self.stopped:
            return
        self.visits[node] += 1
        self.steps += 1
        if self.visits[node] == self._rules.stop_visits:
            self.high += 1
            self.stopped = self.high == self._rules.stop_nodes


class Paper:
    """A graph to walk over, by the ids of its nodes."""

    def __init__(self, pairs: Pairs) -> None:
        boards_of, pins_of = defaultdict(list), defaultdict(list)
        for pin, board in sorted(pairs):
            boards_of[pin].append(board)
            pins_of[board].append(pin)
        self.boards_of: Neighbours = dict(boards_of)
        self.pins_of: Neighbours = dict(pins_of)

    def budgets(self, queries: list[int], steps: int) -> list[int]:
        """Equations 1 and 2, query pins of equal weight: s_q = |E(q)| (C - log |E(q)|), N_q = N s_q / sum s."""
        most = 1 + math.log(max(map(len, self.boards_of.values())))
        factors = [len(self.boards_of[q]) * (most - math.log(len(self.boards_of[q]))) for q in queries]
        return [round(steps * factor / sum(factors)) for factor in factors]

    def walk(self, query: int, budget: int, rules: Rules, random: Random) -> tuple[Tally, Tally]:
        """Algorithm 2: excursions from the query pin until the budget is spent, or both kinds have stopped early.

        Boards and pins are counted, each as if it alone were: the visits of the walk do not depend on the kind that is counted.
        """
        boards, pins = Tally(rules), Tally(rules)
        taken = 0
        while True:
            pin = query
            for _ in range(_excursion(rules.restart, random)):
                if taken == budget or (boards.stopped and pins.stopped):
                    return boards, pins
                board = _one_of(self.boards_of[pin], random)
                pin = _one_of(self.pins_of[board], random)
                boards.add(board)
                pins.add(pin)
                taken += 1

    def recommend(self, queries: list[int], rules: Rules, random: Random) -> tuple[list[Tally], list[Tally]]:
        """Algorithm 3: a walk from each query pin with its part of the budget; boards, then pins."""
        walks = [self.walk(query, budget, rules, random)
                 for query, budget in zip(queries, self.budgets(queries, rules.steps), strict=True)]  # fmt: skip
        return [boards for boards, _ in walks], [pins for _, pins in walks]


def boosted(tallies: list[Tally]) -> dict[int, float]:
    """Equation 3, the multi-hit booster: (sum over query pins of sqrt(V_q)) ** 2 of each node."""
    nodes: set[int] = set().union(*(tally.visits for tally in tallies))
    return {node: sum(math.sqrt(tally.visits[node]) for tally in tallies) ** 2 for node in nodes}


def _excursion(restart: float, random: Random) -> int:
    """SampleWalkLength: steps until the walk goes back to its query pin."""
    steps = 1
    while random.random() >= restart:
        steps += 1
    return steps


def _one_of(nodes: list[int], random: Random) -> int:
    return nodes[int(random.random() * len(nodes))]
