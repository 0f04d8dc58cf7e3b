"""The partition of one key is that of an array of it."""

from hypothesis import given
from hypothesis import strategies as st

from services.columns import ids
from services.hashing import partition_of_one
from services.topics import partition_of


@given(st.integers(0, 2**64 - 1), st.integers(1, 1024))
def test_it_is_where_the_log_has_it(key: int, partitions: int) -> None:
    assert partition_of_one(key, partitions) == int(partition_of(ids([key]), partitions)[0])
