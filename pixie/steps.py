"""The steps of walkers that step alternately, so that the memory that one waits for comes while the others walk.

Nearly every edge that a walk reads is in no cache. Two things make it wait less:

- An edge says where the run of its node begins and how long that is, so a walk goes from edge to edge and never looks a
  node up: two places to read a step, where offsets and edges apart make four.
- Each walker draws its edge and asks for the cache line; when the last one has asked, the first one's is there (Sun et
  al., "ThunderRW: An In-Memory Graph Random Walk Engine", VLDB 2021: step interleaving).

An edge is `start << 28 | degree` of the run of the node that it leads to, so a side's runs have up to 2 ** 36 words and
a node has fewer than 2 ** 28 edges.
"""

from typing import Any

import numpy as np

from services.kernels.jit import kernel
from services.kernels.prefetch import prefetch

DEGREE_BITS, MAX_DEGREE, MAX_WORDS = 28, (1 << 28) - 1, 1 << 36

GAMMA, _MIX_1, _MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32, _LOW = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32), np.uint64(0xFFFF_FFFF)
_ONE, _START, _DEGREE = np.uint64(1), np.uint64(DEGREE_BITS), np.uint64(MAX_DEGREE)


@kernel
def mixed(z: Any) -> Any:
    """The output of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) for a state, which advances by GAMMA."""
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@kernel
def _place(edge: Any, drawn: Any, last: Any) -> Any:
    """Where the edge is that a draw of 32 bits takes from the run that an edge leads to, as even as 2 ** 32 allows.

    Multiply and shift (Lemire, "Fast Random Integer Generation in an Interval", 2019). Never beyond the last word, so
    that a snapshot that rots on disk can't make a walk read what is not the graph's.
    """
    return min((edge >> _START) + _ONE + (drawn * (edge & _DEGREE) >> _S32), last)


@kernel
def steps(graph: Any, chosen: Any, start: Any, n: Any, count: Any, state: Any, walkers: Any, boards: Any,
           pins: Any) -> Any:  # fmt: skip
    """n steps of so many walkers, alternately; which edges they went over goes to `boards` and `pins`. The rng's state."""
    of_pins, of_boards, restart = graph.pins, graph.boards, chosen.restart
    at, asked, drawn = walkers
    last_pin, last_board = np.uint64(len(of_pins) - 1), np.uint64(len(of_boards) - 1)
    for turn in range(0, n, count):
        some = min(count, n - turn)
        for i in range(2 * some):  # apart from the rest, so that it is done for several at a time
            drawn[i] = mixed(state + GAMMA * np.uint64(i + 1))
        for i in range(some):
            place = _place(at[i], drawn[i] >> _S32, last_pin)
            asked[i] = place
            prefetch(of_pins, np.int64(place))
        for i in range(some):
            edge = of_pins[asked[i]]
            boards[turn + i] = edge
            place = _place(edge, drawn[i] & _LOW, last_board)
            asked[i] = place
            prefetch(of_boards, np.int64(place))
        for i in range(some):
            edge = of_boards[asked[i]]
            pins[turn + i] = edge
            back = drawn[some + i] >> _S32 < restart
            at[i] = start if back else edge
        state += GAMMA * np.uint64(2 * some)
    return state


@kernel
def _interest(others: Any, interests: Any, edge: Any) -> Any:
    """Of the node that an edge leads to."""
    header = others[min(edge >> _START, np.uint64(len(others) - 1))]
    return interests[min(header & _LOW, np.uint64(len(interests) - 1))]


@kernel
def _first(runs: Any, others: Any, interests: Any, start: Any, stop: Any, interest: Any) -> Any:
    """The first edge of a run whose node has this interest, or a higher one."""
    while start < stop:
        middle = (start + stop) // 2
        if _interest(others, interests, runs[middle]) < interest:
            start = middle + 1
        else:
            stop = middle
    return start


@kernel
def _among(runs: Any, others: Any, interests: Any, edge: Any, interest: Any, drawn: Any) -> Any:
    """The place of an edge to a node of this interest, from the sub-range of them; of any edge when there is none.

    Section 3.1, "biasing the walk" (PersonalizedNeighbor).
    """
    start = np.int64(min((edge >> _START) + _ONE, np.uint64(len(runs))))
    stop = min(start + np.int64(edge & _DEGREE), len(runs))
    first = _first(runs, others, interests, start, stop, interest)
    last = _first(runs, others, interests, first, stop, interest + _ONE)
    if first == last:
        return _place(edge, drawn, np.uint64(len(runs) - 1))
    return np.uint64(first) + (drawn * np.uint64(last - first) >> _S32)


@kernel
def biased_steps(graph: Any, chosen: Any, start: Any, n: Any, count: Any, state: Any, walkers: Any, boards: Any,
                  pins: Any) -> Any:  # fmt: skip
    """As `steps`, each half of a step within the interest with the probability of the bias. A search waits anyway."""
    of_pins, of_boards, interest = graph.pins, graph.boards, chosen.interest
    last_pin, last_board = np.uint64(len(of_pins) - 1), np.uint64(len(of_boards) - 1)
    for turn in range(0, n, count):
        some = min(count, n - turn)
        for i in range(some):
            draw = mixed(state + GAMMA * np.uint64(i + 1))
            coins = mixed(state + GAMMA * np.uint64(some + i + 1))
            edge = walkers.at[i]
            if coins >> _S32 < chosen.bias:
                edge = of_pins[_among(of_pins, of_boards, graph.board_interests, edge, interest, draw >> _S32)]
            else:
                edge = of_pins[_place(edge, draw >> _S32, last_pin)]
            boards[turn + i] = edge
            if coins & _LOW < chosen.bias:
                edge = of_boards[_among(of_boards, of_pins, graph.pin_interests, edge, interest, draw & _LOW)]
            else:
                edge = of_boards[_place(edge, draw & _LOW, last_board)]
            pins[turn + i] = edge
            back = mixed(state + GAMMA * np.uint64(2 * some + i + 1)) >> _S32 < chosen.restart
            walkers.at[i] = start if back else edge
        state += GAMMA * np.uint64(3 * some)
    return state
