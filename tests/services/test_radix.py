"""Sorting by digits against sorting in plain Python: in order, equals as they stood."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.columns import U64, ids
from services.kernels import radix
from services.kernels.radix import ascending, in_order

LOW = [0, 3, 28, 32, 63]
keys_of_any_size = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=60)


def tagged(keys: U64, low: int) -> list[tuple[int, int]]:
    """(tag, key) in the order of `in_order`, when each key's tag is its row."""
    found, tags = in_order(keys.copy(), np.arange(len(keys), dtype=np.uint32), low)
    assert found.dtype == np.uint64
    assert tags.dtype == np.uint32
    return list(zip(tags.tolist(), found.tolist(), strict=True))


def alone(keys: U64, low: int) -> list[int]:
    found: list[int] = ascending(keys.copy(), np.empty_like(keys), low).tolist()
    return found


@given(keys_of_any_size, st.sampled_from(LOW))
def test_keys_come_in_order_and_equals_as_they_stood(keys: list[int], low: int) -> None:
    expected = sorted(enumerate(keys), key=lambda each: each[1] >> low)
    assert tagged(ids(keys), low) == expected
    assert alone(ids(keys), low) == [key for _, key in expected]


@given(
    st.lists(st.integers(0, 63), max_size=6, unique=True),
    st.lists(st.integers(0, 63), max_size=100),
    st.integers(0, 2**64 - 1),
    st.sampled_from(LOW),
)
def test_keys_that_differ_in_few_bits_are_told_apart(bits: list[int], drawn: list[int], same: int, low: int) -> None:
    """A digit begins wherever keys differ, and the last one may end beyond bit 63."""
    keys = [same ^ sum((value >> i & 1) << bit for i, bit in enumerate(bits)) for value in drawn]
    expected = sorted(enumerate(keys), key=lambda each: each[1] >> low)
    assert tagged(ids(keys), low) == expected
    assert alone(ids(keys), low) == [key for _, key in expected]


@pytest.mark.parametrize("n", [radix.FEW - 1, radix.FEW, 50_000])
@pytest.mark.parametrize("most", [1, 2, 1_000, 2**24, 2**63])
@pytest.mark.parametrize("low", [0, 7])
def test_many_keys_come_in_order(n: int, most: int, low: int) -> None:
    keys = np.random.default_rng(n).integers(0, most, n, np.uint64)
    expected = sorted(enumerate(keys.tolist()), key=lambda each: each[1] >> low)
    assert tagged(keys, low) == expected
    assert alone(keys, low) == [key for _, key in expected]


@given(keys_of_any_size)
def test_tags_may_be_of_any_type(keys: list[int]) -> None:
    rows = np.arange(len(keys), dtype=np.float64)
    _, tags = in_order(ids(keys), rows, 0)
    assert tags.tolist() == sorted(range(len(keys)), key=keys.__getitem__)
