"""Signals of recent actions against obvious references: a dictionary, one action after the other; and plain numpy."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realpin import kernel, signals
from realpin.known import joined
from realpin.layout import MINUTE_MS, Actions, Minutes
from realpin.settings import Settings
from realpin.signals import Decay, SignalPins, decay_of
from services.core.clock import DAY_MS
from services.core.columns import U64, Array, Ragged, ids
from services.core.events import ENGAGEMENTS, Action
from tests.realpin import plain

A = Action
DECAY = decay_of(Settings(impression_weight=-0.5))
Row = tuple[int, int, int, Action]  # pin, board, at_ms, action


def actions_of(rows: list[Row]) -> Actions:
    """Columns of rows that ascend by date."""
    pins, boards, at_ms, actions = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Actions(ids(pins), ids(boards), np.array(at_ms, np.int64), np.array(actions, np.uint8))


def by_id(found: SignalPins) -> SignalPins:
    return plain.take(found, np.argsort(found.pins))


def weighed(rows: list[Row], decay: Decay = DECAY) -> SignalPins:
    """All pins that weigh anything, ascending by id."""
    return by_id(signals.strongest_pins(actions_of(rows), decay, 2 * len(rows)))


def known(interests: list[list[int]], down: list[bool] | None = None) -> U64:
    """Interests and takedowns of pins, as the kernels take them."""
    taken = down or [False] * len(interests)
    words = [np.array([2 * len(of) + is_down, *of], "<u8") for of, is_down in zip(interests, taken, strict=True)]
    return joined([word.tobytes() for word in words])


def reference(rows: list[Row], decay: Decay) -> dict[int, tuple[float, int, int]]:
    """(weight, board, at_ms) of each pin."""
    hidden = {pin for pin, _, _, action in rows if action == A.HIDE}
    speaks = [a for pin, _, a, action in rows if pin not in hidden and decay.weights[ENGAGEMENTS.index(action)] > 0]
    newest = max(speaks or [at for _, _, at, _ in rows], default=0)
    weight: dict[int, float] = defaultdict(float)
    last = {}
    for pin, board, at, action in rows:
        kind = ENGAGEMENTS.index(action)
        if action == A.HIDE or pin not in hidden:
            weight[pin] += decay.weights[kind] * 0.5 ** (max(newest - at, 0) / decay.half_lives_ms[kind])
        last[pin] = board, at
    return {pin: (weight[pin], *last[pin]) for pin in last}


row = st.tuples(
    st.integers(1, 6), st.integers(0, 3), st.integers(0, 40).map(lambda day: day * DAY_MS), st.sampled_from(ENGAGEMENTS)
)


@given(st.lists(row, max_size=40))
def test_a_pin_weighs_what_was_done_to_it(rows: list[Row]) -> None:
    rows = sorted(rows, key=lambda r: r[2])
    found = weighed(rows)
    expected = {pin: of for pin, of in reference(rows, DECAY).items() if of[0]}
    assert found.pins.tolist() == sorted(expected)
    assert found.boards.tolist() == [expected[pin][1] for pin in sorted(expected)]
    assert found.at_ms.tolist() == [expected[pin][2] for pin in sorted(expected)]
    assert found.weights == pytest.approx([expected[pin][0] for pin in sorted(expected)], rel=1e-5, abs=1e-7)


def test_settings_say_what_an_action_weighs_and_how_fast_it_fades() -> None:
    decay = decay_of(Settings(save_weight=10, save_half_life_days=2, click_weight=0))
    week = 7 * DAY_MS
    rows: list[Row] = [(1, 5, 0, A.SAVE), (2, 0, 2 * DAY_MS, A.SAVE), (3, 0, week, A.CLICK), (4, 0, week, A.CLOSEUP)]
    found = weighed(rows, decay)
    assert found.pins.tolist() == [1, 2, 4], "a click weighs nothing"
    assert found.weights == pytest.approx([10 * 0.5**3.5, 10 * 0.5**2.5, 1])


def test_a_user_who_was_away_for_years_still_has_weights() -> None:
    now = weighed([(1, 0, 0, A.SAVE), (2, 0, DAY_MS, A.CLOSEUP)])
    later = weighed([(1, 0, 9000 * DAY_MS, A.SAVE), (2, 0, 9001 * DAY_MS, A.CLOSEUP)])
    assert now.weights.tolist() == later.weights.tolist()


def test_a_hidden_pin_weighs_its_hides_whatever_else_was_done_to_it() -> None:
    rows = [*((1, 9, at, A.SAVE) for at in range(50)), (1, 0, 50, A.HIDE), (1, 0, 51, A.CLICK)]
    found = weighed(rows)
    assert found.weights == pytest.approx([-8])


def strongest(values: list[float], limit: int, names: Array) -> Array:
    never = np.zeros(len(values), np.int64)
    return kernel.strongest(np.array(values, np.float32), never, names.astype(np.uint64), limit)


values = st.lists(st.integers(-4, 4), max_size=20)


@given(values, st.integers(0, 12))
def test_the_strongest_of_either_sign(given_values: list[int], limit: int) -> None:
    names = np.arange(len(given_values))[::-1].copy()
    rows = strongest([float(value) for value in given_values], limit, names).tolist()
    above = sorted((-v, int(names[i]), i) for i, v in enumerate(given_values) if v > 0)
    below = sorted((v, int(names[i]), i) for i, v in enumerate(given_values) if v < 0)
    below = below[: limit // 2] if len(above) >= limit - limit // 2 else below[: limit - len(above)]
    above = above[: limit - len(below)]
    expected = [i for _, _, i in above] + [
        i for *_, i in sorted((-given_values[i], int(names[i]), i) for *_, i in below)
    ]
    assert rows == expected
    assert len(rows) <= limit


def test_whoever_hides_all_day_still_likes_something() -> None:
    weights = [-8.0] * 1000 + [0.5] * 10
    rows = strongest(weights, 20, np.arange(1010))
    assert (rows >= 1000).sum() == 10


dated = st.tuples(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), st.integers(0, 2), st.integers(1, 2**64 - 1))


@given(st.lists(dated, unique_by=lambda row: row[2], max_size=60), st.integers(0, 40))
def test_the_strongest_are_those_of_plain_numpy(rows: list[tuple[float, int, int]], limit: int) -> None:
    given_values, newest, names = zip(*rows, strict=True) if rows else ((), (), ())
    values, at_ms, pins = np.array(given_values, np.float32), np.array(newest, np.int64), ids(names)
    assert (
        kernel.strongest(values, at_ms, pins, limit).tolist() == plain.strongest(values, limit, -at_ms, pins).tolist()
    )


@given(st.lists(row, max_size=200), st.integers(0, 8))
def test_pins_are_those_of_plain_numpy(rows: list[Row], limit: int) -> None:
    actions = actions_of(sorted(rows, key=lambda r: r[2]))
    expected = plain.weighed(actions, DECAY)
    all_, found = (by_id(signals.strongest_pins(actions, DECAY, most)) for most in (100, limit))
    np.testing.assert_array_equal(all_.pins, plain.take(expected, expected.weights != 0).pins)
    np.testing.assert_allclose(all_.weights, plain.take(expected, expected.weights != 0).weights, rtol=1e-6)
    np.testing.assert_array_equal(all_.boards, plain.take(expected, expected.weights != 0).boards)
    few = by_id(
        plain.strongest_pins(all_, limit)
    )  # of the very weights: which sum is greatest may hang on the last bit
    assert [column.tolist() for column in found] == [column.tolist() for column in few]


lists = st.lists(st.lists(st.integers(1, 6), max_size=4, unique=True), max_size=10)


@given(lists, st.data())
def test_an_affinity_is_the_sum_of_its_pins_shares(interests: list[list[int]], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.floats(-8, 8, width=32), min_size=len(interests), max_size=len(interests)))
    expected: dict[int, float] = defaultdict(float)
    for weight, of in zip(weights, interests, strict=True):
        for interest in of:
            expected[interest] += weight / math.sqrt(len(of))
    given_weights = np.array(weights, np.float32)
    found = signals.strongest_affinities(given_weights, known(interests), 100)
    order, nonzero = np.argsort(found.interests), {i for i in expected if np.float32(expected[i]) != 0}
    assert found.interests[order].tolist() == sorted(nonzero)
    assert found.affinities[order] == pytest.approx([expected[i] for i in sorted(nonzero)], rel=1e-5, abs=1e-5)
    assert found.affinities.tolist() == sorted(found.affinities.tolist(), reverse=True)
    numpys = plain.affinities_of(given_weights, Ragged.of_lists(interests))
    ours = dict(zip(found.interests.tolist(), found.affinities.tolist(), strict=True))
    for interest, affinity in zip(numpys.interests.tolist(), numpys.affinities.tolist(), strict=True):
        assert ours.get(interest, 0.0) == pytest.approx(affinity, rel=1e-5, abs=1e-6)
    few = signals.strongest_affinities(given_weights, known(interests), 3)
    assert few.interests.tolist() == plain.strongest_affinities(found, 3).interests.tolist()


def test_an_unknown_pin_says_nothing_of_interests() -> None:
    found = signals.strongest_affinities(np.array([4, -8], np.float32), known([[], []]), 10)
    assert found.interests.tolist() == []
    assert found.interests.dtype == np.uint64


@given(
    st.lists(st.tuples(st.floats(-1, 1, width=32), st.booleans(), st.integers(0, 3)), max_size=30), st.integers(0, 9)
)
def test_engaged_pins_weigh_above_0_and_are_not_taken_down(rows: list[tuple[float, bool, int]], limit: int) -> None:
    weights, down, interests = zip(*rows, strict=True) if rows else ((), (), ())
    names = np.arange(1, len(rows) + 1, dtype=np.uint64)
    pins = SignalPins(names, np.array(weights, np.float32), names, names.astype(np.int64))
    words = known([[7] * n for n in interests], list(down))
    expected = [i + 1 for i, (weight, is_down, _) in enumerate(rows) if weight > 0 and not is_down][:limit]
    assert signals.engaged(pins, words, limit).pins.tolist() == expected


def minutes_of(*at_ms: int) -> Minutes:
    """One impression in the minute of each date, ascending."""
    counts = np.zeros((len(at_ms), len(ENGAGEMENTS)), np.uint32)
    counts[:, 0] = 1
    return Minutes(np.array(at_ms, np.int64) // MINUTE_MS, counts)


@given(st.lists(st.integers(0, 1600 * MINUTE_MS), unique_by=lambda at: at // MINUTE_MS, max_size=60),
       st.integers(0, 1600 * MINUTE_MS))  # fmt: skip
def test_windows_count_the_minutes_within_them(at_ms: list[int], now_ms: int) -> None:
    found = signals.counted(minutes_of(*sorted(at_ms)), now_ms)
    for window, count in zip(signals.WINDOWS_MS.tolist(), found[:, 0].tolist(), strict=True):
        surely = sum(now_ms - window + MINUTE_MS <= at <= now_ms for at in at_ms)
        at_most = sum(now_ms - window < at < now_ms + MINUTE_MS for at in at_ms)
        assert surely <= count <= at_most
    assert not found[:, 1:].any()
    assert found.tolist() == plain.counted(minutes_of(*sorted(at_ms)), now_ms).tolist()


def test_a_window_ends_at_its_length() -> None:
    now = 5000 * MINUTE_MS + 12_345
    for i, minutes in enumerate([10, 60, 1440]):
        within, past, ahead = now - (minutes - 1) * MINUTE_MS, now - minutes * MINUTE_MS, now + MINUTE_MS
        assert signals.counted(minutes_of(within), now)[i, 0] == 1
        assert signals.counted(minutes_of(past), now)[i, 0] == 0
        assert signals.counted(minutes_of(ahead), now)[i, 0] == 0


def test_columns_of_unequal_lengths_are_refused() -> None:
    actions = actions_of([(1, 0, 5, A.SAVE), (2, 0, 6, A.SAVE)])
    for name in ("boards", "at_ms", "actions"):
        cut = actions._replace(**{name: getattr(actions, name)[:1]})
        with pytest.raises(ValueError, match=f"^{name}: 1 rows, expected 2$"):
            signals.strongest_pins(cut, DECAY, 5)
    pins = signals.strongest_pins(actions, DECAY, 5)
    with pytest.raises(ValueError, match="^weights: 1 rows, expected 2$"):
        signals.engaged(pins._replace(weights=pins.weights[:1]), known([[1], [2]]), 5)
    with pytest.raises(ValueError, match="^counts: 1 rows, expected 2$"):
        signals.counted(Minutes(np.arange(2), np.zeros((1, len(ENGAGEMENTS)), np.uint32)), 0)


@pytest.mark.parametrize("words", [[], [2, 7], [2, 7, 4, 8], [2, 7, 0, 0], [2, 7, 2**63]])
def test_interests_that_are_not_of_these_pins_are_refused(words: list[int]) -> None:
    """Two pins: words of fewer or more pins, and interests that end too early."""
    pins, wrong = signals.strongest_pins(actions_of([(1, 0, 5, A.SAVE), (2, 0, 6, A.SAVE)]), DECAY, 5), ids(words)
    with pytest.raises(ValueError, match=f"^known: {len(words)} words are not of 2 pins$"):
        signals.engaged(pins, wrong, 5)
    with pytest.raises(ValueError, match=f"^known: {len(words)} words are not of 2 pins$"):
        signals.strongest_affinities(pins.weights, wrong, 5)
