"""Arrays on the wire, and runs of values against lists of lists."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.columns import Ragged, among, ids, pack, unpack
from services.core.errors import InvalidArgument
from tests.services.batches import any_u64, runs

lists = st.lists(st.lists(any_u64, max_size=5), max_size=8)


@given(lists)
def test_runs_are_the_lists_they_were_made_of(values: list[list[int]]) -> None:
    ragged = Ragged.of_lists(values)
    assert runs(ragged) == values
    assert ragged.lengths().tolist() == [len(run) for run in values]
    assert len(ragged) == len(values)


@given(lists, st.data())
def test_slice_is_a_slice(values: list[list[int]], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    assert runs(Ragged.of_lists(values).slice(start, stop)) == values[start:stop]


@given(lists, st.data())
def test_take_takes_in_any_order_and_again(values: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=12)) if values else []
    taken = Ragged.of_lists(values).take(np.array(rows, np.int64))
    assert runs(taken) == [values[row] for row in rows]


@given(st.lists(lists, min_size=1, max_size=4))
def test_concat_is_all_runs_in_order(parts: list[list[list[int]]]) -> None:
    assert runs(Ragged.concat([Ragged.of_lists(part) for part in parts])) == [run for part in parts for run in part]


@given(lists, st.data())
def test_what_was_sliced_can_be_taken_and_joined(values: list[list[int]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    ragged = Ragged.of_lists(values)
    joined = Ragged.concat([ragged.slice(0, cut), ragged.slice(cut, len(values))])
    assert runs(joined.take(np.arange(len(values))[::-1])) == values[::-1]


@given(st.lists(st.text(max_size=5), max_size=6))
def test_strings_come_back(texts: list[str]) -> None:
    assert Ragged.of_strings(texts).strings() == texts


def test_what_is_not_utf8_is_replaced() -> None:
    broken = Ragged(np.array([1, 3], np.uint32), np.frombuffer(b"\xffok", np.uint8))
    assert broken.strings() == ["\N{REPLACEMENT CHARACTER}", "ok"]
    halves = Ragged(np.array([2, 4], np.uint32), np.frombuffer("aß!".encode(), np.uint8))
    assert halves.strings() == ["a\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}!"], "each run is read alone"


def test_empty_runs() -> None:
    assert runs(Ragged.empty(3)) == [[], [], []]
    assert Ragged.empty(2).strings() == ["", ""]


@pytest.mark.parametrize("dtype", ["<u8", "<i8", "<u4", "<f4", "<u1"])
@given(values=st.lists(st.integers(0, 200), max_size=9))
def test_packed_arrays_come_back_without_a_copy(dtype: str, values: list[int]) -> None:
    data = pack(np.array(values, dtype), dtype)
    array = unpack(data, dtype, "f", len(values))
    assert array.tolist() == values
    assert not array.flags.writeable
    assert not array.flags.owndata


def test_strided_arrays_are_packed_in_order() -> None:
    assert unpack(pack(np.arange(10)[::-3], "<u4"), "<u4", "f").tolist() == [9, 6, 3, 0]


@pytest.mark.parametrize(
    ("data", "n", "message"),
    [
        (b"1234567", None, r"pins: 7 bytes are not a whole number of 8-byte items \(<u8\)"),
        (bytes(16), 3, "pins: 2 values, expected 3"),
        (b"", 1, "pins: 0 values, expected 1"),
    ],
)
def test_wrong_lengths_are_refused_by_name(data: bytes, n: int | None, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        unpack(data, "<u8", "pins", n)


@given(st.lists(any_u64, max_size=9), st.sets(any_u64, max_size=9))
def test_among_is_membership(values: list[int], held: set[int]) -> None:
    found: Any = among(ids(values), ids(sorted(held)))
    assert found.tolist() == [value in held for value in values]
