"""The ranking after the walk: entries put in order and together, and the best of them, against sorting in plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixie import ranking
from pixie.counting import Tally, Visits, scored
from pixie.kernel import best
from services.core.columns import I64, U64, ids
from tests.pixie.reference import best_of, together

starts = st.integers(1, 2**36 - 1) | st.integers(1, 9)
counts = st.integers(1, 9) | st.integers(1, 2**28 - 1)


@given(st.lists(st.dictionaries(starts, counts, max_size=9), max_size=6), st.booleans())
def test_visits_of_several_query_pins_are_put_together(visits: list[dict[int, int]], plain: bool) -> None:
    """To the last bit: sums go from the first query pin to the last."""
    entries = ids([start << 28 | count for of_pin in visits for start, count in of_pin.items()])
    ends = np.cumsum([len(of_pin) for of_pin in visits], dtype=np.int64)
    entries_and_end = np.append(entries, np.uint64(0))
    found = scored(Tally(ids([0]), entries_and_end, ends, np.zeros(len(ends), np.int64), np.zeros(6, np.int64)), plain)
    assert list(zip(*(column.tolist() for column in found[:3]), strict=True)) == together(visits, plain)


def a_side(degrees: list[int]) -> tuple[U64, I64]:
    """The runs of nodes of these degrees, of which edges are not looked at, and where each begins."""
    begins = np.cumsum([0, *(1 + degree for degree in degrees)])
    runs = np.full(begins[-1], 2**64 - 1, np.uint64)
    runs[begins[:-1]] = [degree << 32 | row for row, degree in enumerate(degrees)]
    return runs, begins[:-1]


@given(st.lists(st.tuples(st.integers(1, 5), st.none() | st.sampled_from([1.0, 2.0, 4.0]) | st.floats(1, 1e9)),
                min_size=1, max_size=40),
       st.integers(1, 45), st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.7]), st.lists(st.integers(0, 39), max_size=9))  # fmt: skip
def test_the_best_are_what_sorting_gives(nodes: list[tuple[int, float | None]], k: int, discount: float,
                                         leave_out: list[int]) -> None:  # fmt: skip
    """Nodes of a degree and a score each, None: not visited; any of them may be left out, visited or not."""
    degrees = [degree for degree, _ in nodes]
    rows = [row for row, (_, score) in enumerate(nodes) if score is not None]
    scores = np.array([score for _, score in nodes if score is not None], np.float64)
    runs, begins = a_side(degrees)
    visits = Visits(ids(begins[rows]), scores, np.arange(len(rows), dtype=np.uint32) + np.uint32(7), ids([1]))
    answer = best(runs, visits, k, discount, np.array(leave_out, np.int64))
    expected = best_of(rows, scores, degrees, k, discount, leave_out)
    assert answer.nodes.tolist() == [rows[at] for at, _ in expected]
    assert answer.scores.tolist() == [score for _, score in expected]
    assert answer.seeds.tolist() == [at + 7 for at, _ in expected]


@pytest.mark.parametrize("hub", [1, ranking.RAISED - 1, ranking.RAISED, 40_000])
@pytest.mark.parametrize("k", [1, 300, 6_000, 12_000])
def test_the_best_of_many_with_equals(hub: int, k: int) -> None:
    """Scores of few values, so that many are equal; and degrees beyond those that are raised beforehand."""
    rng = np.random.default_rng(k)
    degrees = [*rng.integers(1, 4, 9_999).tolist(), hub]
    scores = rng.choice([1.0, 2.0, 1 + 2**-52, 8.0, 1e6], 10_000)
    runs, begins = a_side(degrees)
    visits = Visits(ids(begins), scores, np.zeros(10_000, np.uint32), ids([1]))
    answer = best(runs, visits, k, 0.3, np.array([9_000, 3, 3]))
    expected = best_of(range(10_000), scores, degrees, k, 0.3, [3, 9_000])
    assert list(zip(answer.nodes.tolist(), answer.scores.tolist(), strict=True)) == expected
