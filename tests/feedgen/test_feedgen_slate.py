"""The slate against one that walks over the candidates in the obvious way."""

from collections import Counter
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.candidates import Candidates
from feedgen.kernel import FILLER, GAVE_WAY, WITHIN
from feedgen.slate import Slate
from services.core.columns import ids


def candidates_of(rows: list[tuple[int, int, int, int, int]], extra: dict[int, int] | None = None) -> Candidates:
    """source, board, owner, interest and score of each; `extra`: more bits of found_by, by row."""
    source, board, owner, interest, score = np.array(rows, np.int64).reshape(-1, 5).T
    made = Candidates.of(
        np.arange(1, len(rows) + 1, dtype=np.uint64), source=source, board=board, owner=owner, interest=interest
    )
    found_by = np.array([1 << s for s in source], np.uint32)
    for row, bits in (extra or {}).items():
        found_by[row] |= np.uint32(bits)
    return made.adding({"score": np.array(score, np.float64), "found_by": found_by})


def slow(slate: Slate, candidates: Candidates, size: int) -> list[tuple[int, int, int]]:
    """(why, place among all by score, row) of the page, by walking over the candidates for each slot."""
    score, found_by = candidates.column("score"), candidates.column("found_by")
    order = sorted(range(len(candidates)), key=lambda row: (-score[row], candidates.pin[row]))
    sources = int(max(found_by, default=0)).bit_length()
    rates = [*slate.rates, *[0.0] * sources][:sources]
    limits = {"board": slate.per_board, "owner": slate.per_owner, "interest": slate.per_interest}
    on_page: Counter[tuple[str, int]] = Counter()
    filled: Counter[int] = Counter()
    page: dict[int, tuple[int, int]] = {}

    def fits(row: int) -> bool:
        for name, limit in limits.items():
            key = int(candidates.column(name)[row])
            if limit and key and on_page[name, key] >= limit:
                return False
        return True

    def best(source: int, limited: bool) -> int | None:
        for row in order:
            if row not in page and int(found_by[row]) >> source & 1 and (fits(row) or not limited):
                return row
        return None

    rated = {s: r for s, r in enumerate(rates) if r > 0}
    fillers = {s: 1.0 for s, r in enumerate(rates) if r == 0}
    for of, why, limited in (
        (rated, WITHIN, True), (rated, GAVE_WAY, False), (fillers, FILLER, True), (fillers, FILLER, False),
    ):  # fmt: skip
        left, total = dict(of), reduce(float.__add__, of.values(), 0.0)  # one after the other, as the kernel does
        while left and len(page) < size:
            source = max(left, key=lambda s: left[s] * ((len(page) + 1) / total) - filled[s])
            row = best(source, limited)
            if row is None:
                del left[source]
                continue
            page[row] = (why, source)
            filled[source] += 1
            for name in limits:
                on_page[name, int(candidates.column(name)[row])] += 1
    return sorted((why, order.index(row), row) for row, (why, _) in page.items())


rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3), st.integers(-5, 5)),
    max_size=40,
)
limits = st.integers(0, 3)
rates = st.lists(st.sampled_from([0.0, 0.1, 0.35, 1.0]), min_size=1, max_size=4)


@settings(deadline=None)
@given(rows, st.dictionaries(st.integers(0, 39), st.integers(0, 15)), limits, limits, limits, rates, st.integers(1, 30))
def test_it_chooses_what_the_slow_one_does(
    found: list[tuple[int, int, int, int, int]],
    extra: dict[int, int],
    per_board: int,
    per_owner: int,
    per_interest: int,
    rated: list[float],
    size: int,
) -> None:
    candidates = candidates_of(found, {row: bits for row, bits in extra.items() if row < len(found)})
    slate = Slate(per_board, per_owner, per_interest, rated)
    chosen = slate.choose(candidates, size)
    assert chosen.rows.tolist() == [row for _, _, row in slow(slate, candidates, size)]
    assert len(chosen.rows) == min(size, len(found))
    assert (candidates.column("found_by")[chosen.rows] >> chosen.slots & 1).all()


def test_a_page_is_blended_by_the_rates_and_best_first() -> None:
    found = [(source, 0, 0, 0, 100 * source - place) for source in range(3) for place in range(50)]
    slate = Slate(rates=(0.5, 0.3, 0.2))
    chosen = slate.choose(candidates_of(found), 20)
    assert Counter(chosen.slots.tolist()) == {0: 10, 1: 6, 2: 4}
    scores = candidates_of(found).column("score")[chosen.rows]
    assert scores.tolist() == sorted(scores, reverse=True)
    assert chosen.why.tolist() == [WITHIN] * 20


def test_a_pin_that_two_sources_found_may_fill_a_slot_of_either() -> None:
    found = [(0, 0, 0, 0, 9), (0, 0, 0, 0, 8), (0, 0, 0, 0, 7)]
    chosen = Slate(rates=(0.5, 0.5)).choose(candidates_of(found, {1: 2}), 2)
    assert chosen.rows.tolist() == [0, 1]
    assert chosen.slots.tolist() == [0, 1]


def test_limits_give_way_before_fillers_do() -> None:
    """A user who likes one interest alone gets a page of it, not one of popular pins."""
    found = [(0, 0, 0, 7, 10 - i) for i in range(6)] + [(1, 0, 0, 8, 99)] * 6
    chosen = Slate(per_interest=2, rates=(1.0,)).choose(candidates_of(found), 9)
    assert chosen.why.tolist() == [WITHIN] * 2 + [GAVE_WAY] * 4 + [FILLER] * 3
    assert chosen.slots.tolist() == [0] * 6 + [1] * 3


@pytest.mark.parametrize("size", [1, 25])
def test_nothing_makes_an_empty_page(size: int) -> None:
    chosen = Slate(rates=(1.0, 0.0)).choose(candidates_of([]), size)
    assert len(chosen.rows) == len(chosen.slots) == len(chosen.why) == 0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from([0.5, -0.5, 0.0, -0.0, np.inf, -np.inf, np.nan])), max_size=30
    )
)
def test_a_page_is_best_first_then_by_pin_then_by_row(found: list[tuple[int, float]]) -> None:
    pin, score = ids([row[0] for row in found]), np.array([row[1] for row in found], np.float64)
    candidates = Candidates.of(pin).adding({"score": score, "found_by": np.ones(len(pin), np.uint32)})
    order = np.lexsort((pin, -score))
    assert Slate().choose(candidates, 30).rows.tolist() == order.tolist()


def test_a_slate_of_thousands_is_the_slow_ones() -> None:
    rng = np.random.default_rng(5)
    n = 3_000
    columns = (rng.integers(0, top, n) for top in (7, 300, 200, 40))
    found = [tuple(row) for row in np.stack([*columns, rng.integers(-500, 500, n)], 1).tolist()]
    extra = {int(row): 1 << int(rng.integers(0, 7)) for row in rng.integers(0, n, 900)}
    candidates = candidates_of(found, extra)
    slate = Slate(2, 3, 4, (0.35, 0.2625, 0.0875, 0.2, 0.05, 0.05))
    assert slate.choose(candidates, 60).rows.tolist() == [row for _, _, row in slow(slate, candidates, 60)]


def test_scores_that_are_none_come_last() -> None:
    candidates = candidates_of([(0, 0, 0, 0, 0), (0, 0, 0, 0, -5)])
    candidates = candidates.adding({"score": np.array([np.nan, -5.0])})
    assert Slate().choose(candidates, 2).rows.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["score", "found_by", "interest"])
def test_a_column_that_is_not_of_the_candidates_is_refused(name: str) -> None:
    candidates = candidates_of([(0, 1, 1, 1, 5), (0, 2, 2, 2, 4)])
    cut = {**candidates.more, name: candidates.column(name)[:1]}
    with pytest.raises(ValueError, match=f"^{name}: 1 rows, expected 2$"):
        Slate().choose(Candidates(candidates.rows, cut), 2)
