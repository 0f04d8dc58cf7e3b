"""The bloom filter against an obvious slow one, bit for bit, and against pybloom-live's rates."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pybloom_live import BloomFilter

from services.core.columns import U64, ids
from services.core.errors import InvalidArgument
from services.kernels import bloom

ANY_IDS = st.lists(st.integers(0, 2**64 - 1), max_size=200)
RATES = st.sampled_from([1e-6, 0.001, 0.01, 0.1, 0.5])
SALTS = [0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31]


def slow_bits(key: int, blocks: int) -> list[tuple[int, int]]:
    """The (word, bit) pairs of a key, in Python's unbounded integers."""
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        key = (key ^ (key >> 33)) * multiplier % 2**64
    key ^= key >> 33
    block = ((key >> 32) * blocks) >> 32
    return [(8 * block + i, (key % 2**32 * salt % 2**32) >> 27) for i, salt in enumerate(SALTS)]


def slow_filter(keys: list[int], blocks: int) -> list[int]:
    words = [0] * (8 * blocks)
    for key in keys:
        for word, bit in slow_bits(key, blocks):
            words[word] |= 1 << bit
    return words


def spread(n: int, seed: int) -> U64:
    return np.random.default_rng(seed).integers(1, 2**63, n, dtype=np.uint64)


@settings(deadline=None)
@given(ANY_IDS, RATES)
def test_every_id_added_is_found(keys: list[int], rate: float) -> None:
    assert bloom.probe(bloom.build(ids(keys), rate), ids(keys)).all()


@settings(deadline=None)
@given(ANY_IDS, ANY_IDS, RATES)
def test_equals_the_slow_filter_bit_for_bit(keys: list[int], others: list[int], rate: float) -> None:
    words = bloom.build(ids(keys), rate)
    blocks = len(words) // 8
    slow = slow_filter(keys, blocks)
    assert words.tolist() == slow
    expected = [bool(blocks) and all(slow[w] >> b & 1 for w, b in slow_bits(key, blocks)) for key in others]
    assert bloom.probe(words, ids(others)).tolist() == expected


@settings(deadline=None)
@given(ANY_IDS, ANY_IDS)
def test_adding_later_is_building_at_once(before: list[int], after: list[int]) -> None:
    words = np.zeros(8 * 16, np.uint32)
    bloom.add(words, ids(before))
    bloom.add(words, ids(after))
    assert words.tolist() == slow_filter(before + after, 16)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_filter_larger_than_the_caches_is_the_same(beyond: int) -> None:
    blocks = bloom._LARGE // 8 + beyond
    keys, others = spread(2_000, seed=blocks), spread(2_000, seed=blocks + 1)
    words = np.zeros(8 * blocks, np.uint32)
    bloom.add(words, keys)
    set_ = {bit for key in keys.tolist() for bit in slow_bits(key, blocks)}
    assert {(w, b) for w in np.flatnonzero(words).tolist() for b in range(32) if int(words[w]) >> b & 1} == set_
    expected = [all(bit in set_ for bit in slow_bits(key, blocks)) for key in others.tolist()]
    assert bloom.probe(words, others).tolist() == expected
    assert bloom.probe(words, keys).all()


def test_no_ids_are_no_words_and_hold_nothing() -> None:
    words = bloom.build(ids([]))
    assert len(words) == 0
    assert bloom.to_bytes(words) == b""
    assert not bloom.probe(words, ids([0, 1, 2**64 - 1])).any()
    bloom.add(words, ids([]))
    with pytest.raises(ValueError, match="without blocks"):
        bloom.add(words, ids([1]))


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("n", [100, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("sequential", [True, False])
def test_measured_rate_is_at_or_below_the_asked(n: int, rate: float, sequential: bool) -> None:
    held = np.arange(1, n + 1, dtype=np.uint64) if sequential else spread(n, seed=n)
    absent = np.arange(n + 1, n + 400_001, dtype=np.uint64) if sequential else spread(400_000, seed=n + 1)
    measured = float(bloom.probe(bloom.build(held, rate), absent).mean())
    noise = 4 * (rate / len(absent)) ** 0.5 + rate * 3 / n**0.5  # of the sample, and of one filter's luck
    assert measured <= rate + noise
    if n >= 10_000:
        assert measured > rate / 2, "the filter is larger than it needs to be"


@pytest.mark.parametrize("rate", [0.05, 0.01, 0.001])
def test_rate_compares_with_pybloom_live(rate: float) -> None:
    held, absent = spread(5_000, seed=1), spread(50_000, seed=2)
    reference = BloomFilter(capacity=len(held), error_rate=rate)
    for key in held.tolist():
        reference.add(key)
    theirs = sum(key in reference for key in absent.tolist()) / len(absent)
    ours = float(bloom.probe(bloom.build(held, rate), absent).mean())
    assert ours <= max(1.5 * theirs, theirs + 4 * (rate / len(absent)) ** 0.5)
    assert len(bloom.to_bytes(bloom.build(held, rate))) * 8 < 1.35 * reference.num_bits, "cache lines cost few bits"


def test_expected_rate_is_the_poisson_mixture() -> None:
    load, term, mixture = 24.0, np.exp(-24.0), 0.0
    for j in range(400):
        mixture += term * (1 - (31 / 32) ** j) ** 8
        term *= load / (j + 1)
    assert bloom.expected_rate(load) == pytest.approx(mixture, rel=1e-9)


def test_sizes() -> None:
    for n in (1_000, 10_000, 1_000_000):
        assert 32 * 8 * bloom.blocks_for(n, 0.01) / n <= 11.5
    assert all(a <= b for a, b in pairwise(bloom.blocks_for(n) for n in range(2_000)))
    assert bloom.blocks_for(0) == 0
    assert bloom.blocks_for(1) == 1


@settings(deadline=None)
@given(ANY_IDS)
def test_bytes_round_trip(keys: list[int]) -> None:
    words = bloom.build(ids(keys))
    back = bloom.of_bytes(bloom.to_bytes(words), "seen")
    assert back.tolist() == words.tolist()
    assert bloom.probe(back, ids(keys)).all()


def test_bytes_that_are_no_filter_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^seen: 33 bytes"):
        bloom.of_bytes(b"x" * 33, "seen")
    with pytest.raises(InvalidArgument, match=r"^seen: 67108896 bytes, at most 67108864"):
        bloom.of_bytes(bytes(bloom.MAX_BYTES + 32), "seen")
    assert len(bloom.of_bytes(bytes(bloom.MAX_BYTES), "seen")) == bloom.MAX_BYTES // 4


@pytest.mark.parametrize("rate", [0.0, -1.0, 0.6, 1.0, 1e-7, float("nan")])
def test_rates_that_make_no_filter_are_refused(rate: float) -> None:
    with pytest.raises(InvalidArgument, match="false_positive_rate"):
        bloom.build(ids([1]), rate)


def test_too_many_ids_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(InvalidArgument, match="bloom filter"):
        bloom.blocks_for(10**9)
