"""Beliefs of the loader about pyarrow: which casts are checked, which are not, and the faults in them."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest


def test_checked_casts_say_what_does_not_fit() -> None:
    for array in (pa.array([1.5]), pa.array([-1]), pa.array([float("nan")]), pa.array(["x"]), pa.array([2.0**64])):
        with pytest.raises(pa.ArrowInvalid):
            array.cast(pa.uint64())


def test_text_is_cast_to_numbers_more_freely_than_ids_may_be() -> None:
    """Why the loader looks at the digits first."""
    assert pa.array(["0x1F", "007"]).cast(pa.uint64()).to_pylist() == [31, 7]


def test_only_a_cast_from_bytes_looks_at_utf8() -> None:
    wrong = pa.array([b"caf\xe9"]).cast(pa.string(), safe=False)
    assert wrong.cast(pa.large_string()).null_count == 0, "not looked at"
    with pytest.raises(pa.ArrowInvalid, match="Invalid UTF8"):
        wrong.cast(pa.large_binary()).cast(pa.large_string())


def test_an_unchecked_cast_of_dates_wraps_around() -> None:
    """Why the loader multiplies dates itself, within bounds."""
    far = pa.array([2**62], pa.timestamp("s"))
    assert far.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_pylist() == [0]


def test_a_cast_of_a_list_view_loses_values() -> None:
    """Why the loader takes lists apart by their lengths: this should be [[1], [2]]."""
    views = pa.array([[1], [2]], pa.list_view(pa.int64()))
    assert views.cast(pa.large_list(pa.int64())).to_pylist() != [[1], [2]]
    assert views.flatten().to_pylist() == [1, 2]
    assert pc.list_value_length(views).to_pylist() == [1, 1]


def test_narrow_decimals_are_cast_to_wide_integers_only_through_wide_ones() -> None:
    narrow = pa.array([1], pa.decimal32(3, 0))
    with pytest.raises(pa.ArrowInvalid):
        narrow.cast(pa.uint64())
    assert narrow.cast(pa.decimal256(76, 0)).cast(pa.uint64()).to_pylist() == [1]
