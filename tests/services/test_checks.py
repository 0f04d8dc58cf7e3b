"""Checks of columns before kernels and stores index by them: each names what is wrong, and passes what is right."""

import numpy as np
import pytest

from services.core.checks import check_ascending, check_ends, check_lengths, check_partitions, check_shapes
from services.core.columns import ids
from services.core.topics import partition_of


def test_lengths() -> None:
    check_lengths(2, a=[1, 2], b=b"ab")
    with pytest.raises(ValueError, match="^b: 1 rows, expected 2$"):
        check_lengths(2, a=[1, 2], b=b"a")


@pytest.mark.parametrize("dtype", [np.int64, np.uint32])
def test_ends(dtype: type) -> None:
    for right, n in (([], 0), ([0], 0), ([2, 2, 5], 5)):
        check_ends(np.array(right, dtype), n)
    for wrong, message in (([3, 2, 5], "list 1 ends at row 2"), ([2, 5, 4, 5], "list 2 ends at row 4")):
        with pytest.raises(ValueError, match=f"^ends: {message}, before it begins$"):
            check_ends(np.array(wrong, dtype), 5)
    for wrong in ([], [4], [2, 6]):
        with pytest.raises(ValueError, match=f"^ends: the last list ends at row {[0, *wrong][-1]}, expected 5$"):
            check_ends(np.array(wrong, dtype), 5)


def test_the_first_list_ends_at_row_0_or_later() -> None:
    with pytest.raises(ValueError, match="^ends: list 0 ends at row -1, before it begins$"):
        check_ends(np.array([-1, 5]), 5)


def test_shapes() -> None:
    check_shapes((2, 3), a=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"^b: shape \(6,\), expected \(2, 3\)$"):
        check_shapes((2, 3), a=np.zeros((2, 3)), b=np.zeros(6))


def test_ascending() -> None:
    for right in ([], [7], [1, 2, 2**64 - 1]):
        check_ascending(keys=ids(right))
    for wrong, message in (([1, 1], "row 1 is 1, not above 1"), ([0, 5, 2**64 - 1, 3], "row 3 is 3, not above")):
        with pytest.raises(ValueError, match=f"^keys: {message}"):
            check_ascending(keys=ids(wrong))


def test_partitions() -> None:
    keys = ids(range(50))
    partition = partition_of(keys, 4)
    check_partitions(partition, keys, 4)
    check_partitions(partition[:0], keys[:0], 4)
    partition[7] = (partition[7] + 1) % 4
    with pytest.raises(ValueError, match=f"^partition: key 7 is in {partition[7]}, not where 4 partitions have it$"):
        check_partitions(partition, keys, 4)
    with pytest.raises(ValueError, match="^partition: 49 rows, expected 50$"):
        check_partitions(partition[1:], keys, 4)
