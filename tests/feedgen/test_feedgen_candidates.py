"""Candidates, their joined rows and the rows that filters keep, against plain numpy and plain Python."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.requests import CandidateOrigin
from feedgen.candidates import Candidates
from feedgen.filters.already_seen import AlreadySeen
from feedgen.filters.duplicate import Duplicate
from feedgen.filters.shown import ShownBefore
from feedgen.pipeline import _filtered
from feedgen.query import Query, SeenFilter
from feedgen.rows import ROW
from feedgen.shown import Shown
from feedgen.stages import Filter, SourceFindings
from feedgen.xray import Xray
from services.core.columns import F32, U32, U64, ids
from services.core.events import Surface

FILTERS: Sequence[Filter] = (Duplicate(), ShownBefore(), AlreadySeen())
Row = tuple[int, int, float]  # pin, origin, weight

pins = st.one_of(st.integers(1, 12), st.sampled_from([2**63, 2**64 - 1]))
rows = st.lists(
    st.tuples(
        pins, st.sampled_from([CandidateOrigin.PICKED, CandidateOrigin.WALKED]), st.sampled_from([0.125, 0.5, 1.0])
    ),
    max_size=12,
)
sources = st.lists(rows, max_size=6)
some_pins = st.sets(pins, max_size=6)


def made(parts: list[list[Row]]) -> list[Candidates]:
    """The candidates of each source."""
    return [
        Candidates.of(
            ids([pin for pin, _, _ in part]),
            source=source,
            origin=np.array([origin for _, origin, _ in part], np.uint8),
            weight=np.array([weight for _, _, weight in part], np.float32),
        )
        for source, part in enumerate(parts)
    ]


def asked(shown: U64, seen: U64) -> Query:
    return Query(
        user=1,
        surface=Surface.HOME,
        limit=25,
        now_ms=0,
        request_id="",
        shown=Shown.of(shown),
        seen=SeenFilter(b"", seen),
    )


def counted(candidates: Candidates) -> tuple[U32, F32]:
    """found_by and nearness in plain numpy."""
    each, pin_of = np.unique(candidates.pin, return_inverse=True)
    by_pin, nearest = np.zeros(len(each), np.uint32), np.full(len(each), np.nan, np.float32)
    np.bitwise_or.at(by_pin, pin_of, np.left_shift(np.uint32(1), candidates.source, dtype=np.uint32))
    near = np.where(candidates.origin == CandidateOrigin.WALKED, candidates.weight, np.float32(np.nan))
    np.fmax.at(nearest, pin_of, near)
    return by_pin[pin_of], nearest[pin_of]


@settings(deadline=None)
@given(sources, some_pins, some_pins)
def test_rows_of_a_pin_are_counted_together_and_filtered_as_plain_numpy_does(
    parts: list[list[Row]], shown: set[int], seen: set[int]
) -> None:
    together = Candidates.concat(made(parts)).counted()
    found_by, nearness = counted(together)
    assert together.column("found_by").tolist() == found_by.tolist()
    assert np.array_equal(together.column("nearness"), nearness, equal_nan=True)
    query = asked(ids(sorted(shown)), ids(sorted(seen)))
    first = np.zeros(len(together), bool)
    first[np.unique(together.pin, return_index=True)[1]] = True
    keeps = [stage.keep(query, together).tolist() for stage in FILTERS]
    assert keeps == [
        first.tolist(),
        [pin not in shown for pin in together.pin.tolist()],
        [pin not in seen for pin in together.pin.tolist()],
    ]


class Sent:
    """The part of a pipeline that filters see."""

    filters = FILTERS


@settings(deadline=None)
@given(sources, some_pins, some_pins)
def test_the_xray_says_of_each_pin_which_filter_dropped_it_first(
    parts: list[list[Row]], shown: set[int], seen: set[int]
) -> None:
    xray = Xray(explain=True)
    found = [SourceFindings(part) for part in made(parts)]
    left = _filtered(Sent, asked(ids(sorted(shown)), ids(sorted(seen))), found, xray)  # type: ignore[arg-type]
    pins, dropped, on_page = [pin for part in parts for pin, _, _ in part], dict.fromkeys(range(3), 0), []
    for i, pin in enumerate(pins):
        by = 0 if pin in pins[:i] else 1 if pin in shown else 2 if pin in seen else None
        if by is None:
            on_page.append(pin)
        else:
            dropped[by] += 1
    assert left.pin.tolist() == on_page
    assert [trace.dropped for trace in xray.stages] == list(dropped.values())
    assert [trace.kept for trace in xray.stages] == [len(pins) - sum(list(dropped.values())[: i + 1]) for i in range(3)]
    for text, ray in xray.pins.items():
        stages = {"duplicate"} if int(text) in on_page else {"duplicate", "shown_before", "already_seen"}
        assert ray["dropped"]["stage"] in stages
    assert set(xray.pins) >= {str(pin) for pin in pins if pin not in on_page}


def test_a_row_is_a_cache_line() -> None:
    assert ROW.itemsize == 64


def test_columns_are_stated_or_have_their_defaults() -> None:
    candidates = Candidates.of(ids([7, 8]), board=ids([1, 2]), source=3, light=[0.5, -1])
    assert candidates.board.tolist() == [1, 2]
    assert (candidates.source.tolist(), candidates.light.tolist()) == ([3, 3], [0.5, -1])
    assert (candidates.weight.tolist(), candidates.at_ms.tolist()) == ([1, 1], [0, 0])
    assert np.isnan(candidates.quality).all()
    both = Candidates.concat([candidates, candidates.take(np.array([True, False]))])
    assert both.pin.tolist() == [7, 8, 7]
    assert both.take(np.array([2, 1])).board.tolist() == [1, 2]
    with pytest.raises(ValueError, match="broadcast"):
        Candidates.of(ids([7, 8]), board=ids([1, 2, 3]))


def test_columns_of_stages_hide_those_stated_and_go_with_their_rows() -> None:
    candidates = Candidates.of(ids([7, 8]), interest=5).adding({"interest": ids([1, 2]), "score": np.array([0.5, 1])})
    assert candidates.column("interest").tolist() == [1, 2]
    assert candidates.interest.tolist() == [5, 5]
    assert candidates.take(np.array([1])).column("score").tolist() == [1]
    matrix = candidates.adding({"features": np.eye(2)}).take(np.array([1]))
    assert matrix.column("features").tolist() == [[0, 1]]
    with pytest.raises(KeyError):
        candidates.column("colour")
    both = Candidates.concat([candidates, candidates.adding({"more": ids([1, 1])})])
    assert sorted(both.more) == ["interest", "score"]
    assert not len(Candidates.concat([]))
