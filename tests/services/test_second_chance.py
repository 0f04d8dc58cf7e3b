"""The cache beside a dictionary that does the same slowly, and within its bytes."""

from hypothesis import given
from hypothesis import strategies as st

from services.state.second_chance import SecondChanceCache

keys = st.lists(st.integers(0, 9), max_size=5)
Steps = list[tuple[str, list[int]]]


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "drop", "clear"]), keys), max_size=60), st.integers(0, 60))
def test_a_value_is_the_last_that_was_put_or_none(steps: Steps, most: int) -> None:
    kept, all_ = SecondChanceCache[int, bytes](most, len), dict[int, bytes]()
    for i, (what, named) in enumerate(steps):
        if what == "put":
            values = [bytes(1 + (i + key) % 7) for key in named]
            kept.put(named, values)
            all_ |= dict(zip(named, values, strict=True))
        elif what == "drop":
            kept.drop(named)
            for key in named:
                all_.pop(key, None)
        elif what == "clear":
            kept.clear()
            all_.clear()
        found = kept.get(list(range(10)) if what != "get" else named)
        asked = list(range(10)) if what != "get" else named
        there = {key: value for key, value in zip(asked, found, strict=True) if value is not None}
        assert there.items() <= all_.items()
        assert kept.bytes() <= most
        if most >= 70:
            assert there == {key: all_[key] for key in asked if key in all_}
    held = [value for value in kept.get(range(10)) if value is not None]
    assert (len(kept), kept.bytes()) == (len(held), sum(map(len, held)))


def test_a_cache_large_enough_for_all_evicts_nothing() -> None:
    kept = SecondChanceCache[int, bytes](100, len)
    kept.put(range(100), [b"x"] * 100)
    assert None not in kept.get(range(100))


def test_entries_that_are_read_stay_and_others_are_evicted() -> None:
    kept = SecondChanceCache[int, bytes](10, len)
    kept.put(range(10), [b"x"] * 10)
    kept.put([10], [b"x"])
    assert kept.get([0]) == [None], "the first that came"
    for new in range(100, 150):
        assert kept.get([5]) == [b"x"]
        kept.put([new], [b"x"])
    assert kept.get([5, 149, 6]) == [b"x", b"x", None]
    assert len(kept) == 10


def test_asking_in_vain_takes_no_memory() -> None:
    kept = SecondChanceCache[int, bytes](2, len)
    kept.put(range(3), [b"x"] * 3)
    for key in range(1000):
        kept.get([key])
    assert len(kept._read) <= 2 * len(kept) + 1
