"""The cursor: the pins it remembers, its length, and its refusals."""

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen import kernel
from feedgen.candidates import Candidates
from feedgen.cursor import MAX_SHOWN, Cursors
from feedgen.shown import MAX_BITS, MOST_BITS, NOTHING, Shown, Steps, mixed
from services.core.columns import U64, Array, ids
from services.core.errors import InvalidArgument
from services.core.events import Surface
from services.kernels.bloom import mix
from services.kernels.jit import kernel as compiled

HOME = Surface.HOME
CURSORS = Cursors(b"secret")
LONGEST = 1_500  # characters


@compiled
def _mix_all(pins: U64, found: U64) -> None:
    for i in range(len(pins)):
        found[i] = mix(pins[i])


def random_pins(n: int, seed: int = 1) -> U64:
    return np.random.default_rng(seed).integers(1, 2**64, n, np.uint64)


def scrolled(pins: U64, page: int) -> tuple[Shown, list[str]]:
    """Page after page, each begun from the cursor of the one before."""
    shown, texts = NOTHING, []
    for start in range(0, len(pins), page):
        texts.append(CURSORS.make(7, HOME, shown.adding(pins[start : start + page])))
        shown = CURSORS.read(texts[-1], 7, HOME)
    return shown, texts


@pytest.mark.parametrize("kind", ["random", "dense", "neighbours", "high"])
@pytest.mark.parametrize("page", [1, 25, 100])
def test_R19_a_cursor_is_short_whatever_was_shown_and_forgets_nothing(kind: str, page: int) -> None:
    n = MAX_SHOWN if page > 1 else 200
    pins = {
        "random": random_pins(n),
        "dense": np.random.default_rng(2).choice(10_000_000, n, replace=False).astype(np.uint64) + np.uint64(1),
        "neighbours": np.arange(5, 5 + n, dtype=np.uint64),
        "high": np.uint64(2**64 - 2**20 - 1) - np.arange(n, dtype=np.uint64) * np.uint64(1 << 30),
    }[kind]
    shown, texts = scrolled(pins, page)
    assert max(map(len, texts)) <= LONGEST
    assert shown.count == n
    assert shown.among(pins).all(), "no pin comes again"
    if n == MAX_SHOWN:
        assert CURSORS.make(7, HOME, shown.adding(ids([1]))) == "", "then a reader begins anew"


#: Pins shown, and the most of a million others that are taken for shown. Measured; the decision has the same table.
TAKEN = [(25, 0), (200, 0), (400, 10), (800, 5_000), (1_000, 20_000), (1_500, 100_000), (2_000, 250_000)]


@pytest.mark.parametrize(("n", "most"), TAKEN)
def test_R19_few_others_are_taken_for_shown(n: int, most: int) -> None:
    shown, _ = scrolled(random_pins(n), 25)
    others = np.arange(1, 1_000_001, dtype=np.uint64)
    assert int(shown.among(others).sum()) <= most
    if n <= 200:
        assert shown.bits == MOST_BITS


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=60), max_size=12))
def test_a_cursor_read_is_what_was_made(pages: list[list[int]]) -> None:
    shown = NOTHING
    for page in pages:
        shown = shown.adding(ids(page))
        again = CURSORS.read(CURSORS.make(7, HOME, shown), 7, HOME)
        assert (again.count, again.bits) == (shown.count, shown.bits)
        np.testing.assert_array_equal(again.marks, shown.marks)
        assert shown.steps.size_bits <= MAX_BITS
        assert shown.among(ids(page)).all()


@given(st.lists(st.integers(0, 2**40), unique=True, max_size=50))
def test_numbers_are_packed_and_unpacked(numbers: list[int]) -> None:
    marks = np.sort(ids(numbers))
    steps = Steps.of(marks)
    np.testing.assert_array_equal(Steps.unpack(steps.packed(), len(marks), steps.low), marks)
    assert len(steps.packed()) == -(-steps.size_bits // 8)


def test_hashes_are_those_of_the_kernels() -> None:
    pins = np.concatenate([random_pins(1000), ids([0, 1, 2**64 - 1])])
    found = np.empty_like(pins)
    _mix_all(pins, found)
    np.testing.assert_array_equal(mixed(pins), found)
    shown: Shown = Shown.of(pins[:500])
    keep: Array = np.empty(len(pins), np.bool_)
    kernel.unshown(Candidates.of(pins).rows, shown.marks, shown.shift, keep)
    np.testing.assert_array_equal(keep, ~shown.among(pins))
    kernel.unmet(pins, np.sort(pins[700:800]), shown.marks, shown.shift, keep)
    np.testing.assert_array_equal(keep, ~shown.among(pins) & ~np.isin(pins, pins[700:800]))


def test_R19_the_same_pages_make_the_same_cursor() -> None:
    pins = random_pins(900)
    assert scrolled(pins, 25)[1] == scrolled(pins, 25)[1]


def test_R19_forged_and_foreign_cursors_are_refused() -> None:
    text = CURSORS.make(7, HOME, Shown.of(random_pins(50)))
    for at in range(0, len(text), 3):
        forged = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(InvalidArgument, match="cursor: "):
            CURSORS.read(forged, 7, HOME)
    for cut in range(1, len(text)):
        with pytest.raises(InvalidArgument, match="cursor: "):
            CURSORS.read(text[:cut], 7, HOME)
    with pytest.raises(InvalidArgument, match="belongs to user 7's home feed, not to user 8's home feed"):
        CURSORS.read(text, 8, HOME)
    with pytest.raises(InvalidArgument, match="belongs to user 7's home feed, not to user 7's picked feed"):
        CURSORS.read(text, 7, Surface.PICKED)
    with pytest.raises(InvalidArgument, match="was changed, or made by another mesh"):
        Cursors(b"other").read(text, 7, HOME)
    with pytest.raises(InvalidArgument, match="is not one|was changed"):
        CURSORS.read("ü" * 40, 7, HOME)


def test_R19_a_cursor_of_the_version_before_is_told_to_begin_anew() -> None:
    """As the version before made it, by the same secret: its ids, compressed."""
    import struct
    import zlib

    body = struct.pack("<BBQ", 1, HOME, 7) + zlib.compress(ids([1, 2, 3]).tobytes(), 1)
    text = base64.urlsafe_b64encode(body + CURSORS._sign(body)).decode().rstrip("=")
    with pytest.raises(InvalidArgument, match="cursor: version 1 is not 2; begin without a cursor"):
        CURSORS.read(text, 7, HOME)
