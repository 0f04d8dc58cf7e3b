"""Features against what their names say, row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import catalogue, crosses, kernel, pins, requests, users
from features.catalogue import CATALOGUE, FeatureSource
from features.matrix import Assembler
from services.core.columns import Array, Ragged, ids
from services.core.errors import InvalidArgument
from services.core.events import Action

DAY = 86_400_000
NOW = 20_000 * DAY


def features_of(interests: list[list[int]], counts: Array | None = None) -> pins.PinFeatures:
    n = len(interests)
    if counts is None:
        counts = np.zeros((n, len(pins.ACTIONS), len(pins.WINDOWS_MS)), np.float16)
    at_ms = np.full(n, NOW - 3 * DAY)
    return pins.stored_features(
        np.ones(n, bool), np.full(n, 0.5, np.float32), at_ms, Ragged.of_lists(interests), counts
    )


def test_every_feature_is_named_once() -> None:
    names = [*users.NAMES, *requests.NAMES, *pins.NAMES, *crosses.NAMES]
    assert len(names) == len(set(names)) == len(CATALOGUE)
    assert catalogue.feature("embeddings.x0").source is FeatureSource.PIN
    with pytest.raises(InvalidArgument, match="feature 'pin_size' is not known: known are user_interests"):
        catalogue.feature("pin_size")


#: What is smaller than this may become 0 when it is divided in float32.
liking = st.floats(-4, 4, width=32).map(lambda value: value if abs(value) > 1e-30 else 0.0)
interest_lists = st.lists(st.lists(st.integers(1, 6), max_size=10, unique=True), max_size=8)


@given(interest_lists, st.dictionaries(st.integers(1, 8), liking, max_size=8))
def test_crosses_are_sums_over_the_first_interests(interests: list[list[int]], liked: dict[int, float]) -> None:
    found = crosses.columns(
        ids(list(liked)), np.array(list(liked.values()), np.float32), features_of(interests).interests
    )
    scale = sum(abs(value) for value in liked.values())
    for row, of_pin in enumerate(interests):
        met = [liked.get(i, 0.0) / scale if scale else 0.0 for i in of_pin[: pins.INTERESTS]]
        assert found["affinity_sum"][row] == pytest.approx(sum(met), abs=1e-5)
        assert found["affinity_max"][row] == pytest.approx(max([*met, 0.0]), abs=1e-5)
        assert found["affinity_min"][row] == pytest.approx(min([*met, 0.0]), abs=1e-5)
        assert found["affinity_share"][row] == pytest.approx(sum(m > 0 for m in met) / max(len(met), 1), abs=1e-5)


def test_pins_age_and_rates_are_smoothed() -> None:
    counts = np.zeros((2, len(pins.ACTIONS), len(pins.WINDOWS_MS)), np.float16)
    counts[0, pins.ACTIONS.index(Action.IMPRESSION), 3] = 80
    counts[0, pins.ACTIONS.index(Action.SAVE), 3] = 10
    counts[1, pins.ACTIONS.index(Action.SAVE), 3] = 10  # saved without ever being seen, as in an import
    kept = features_of([[1], [2, 3]], counts).values
    assert pins.column("pin_age_days", kept, NOW).tolist() == [3, 3]
    assert pins.column("pin_age_days", kept, NOW - 5 * DAY).tolist() == [0, 0]
    assert pins.column("pin_saves_ever", kept, NOW).tolist() == [10, 10]
    assert pins.column("pin_save_rate_ever", kept, NOW).tolist() == pytest.approx([10 / 100, 10 / 30])
    assert pins.column("pin_interests", kept, NOW).tolist() == [1, 2]


def test_what_nothing_is_known_of_is_missing() -> None:
    nobody = pins.stored_features(
        np.zeros(1, bool), np.full(1, np.nan, np.float32), np.zeros(1, np.int64), Ragged.empty(1, "u8"),
        np.zeros((1, len(pins.ACTIONS), len(pins.WINDOWS_MS)), np.float16),
    )  # fmt: skip
    for name in ("pin_age_days", "pin_quality", "pin_interests"):
        assert np.isnan(pins.column(name, nobody.values, NOW)).all()


def test_a_request_is_relative_to_its_own_source() -> None:
    found = requests.columns(
        origin=np.array([1, 1, 2], np.uint8),
        light=np.array([-5, -3, -100], np.float32),
        weight=np.array([2, 4, 0.5], np.float32),
        found=np.array([1, 2, 1]),
        nearness=np.array([1, 0.5, np.nan], np.float32),
        at_ms=np.array([NOW - DAY, 0, NOW - 2 * DAY]),
        now_ms=NOW + 5 * 3_600_000,
    )
    assert set(found) == set(requests.NAMES)
    assert found["light_below_best"].tolist() == [-2, 0, 0]
    assert found["rank_in_source"].tolist() == [0.5, 0, 0]
    assert found["source_weight"].tolist() == [0.5, 1, 1]
    assert found["nearness"][:2] == pytest.approx([0, np.log(0.5)])
    assert np.isnan(found["nearness"][2])
    assert found["hour"].tolist() == [5, 5, 5]
    assert found["saved_age_days"][0] == pytest.approx(1 + 5 / 24)
    assert np.isnan(found["saved_age_days"][1])


def within_source(origin: Array, light: Array, weight: Array) -> list[Array]:
    """light_below_best, rank_in_source and source_weight in plain numpy."""
    below, rank, share = (np.zeros(len(origin), np.float32) for _ in range(3))
    for kind in np.unique(origin).tolist():
        rows = np.flatnonzero(origin == kind)
        below[rows] = light[rows] - light[rows].max()
        rank[rows[np.argsort(-light[rows], kind="stable")]] = np.arange(len(rows)) / len(rows)
        share[rows] = weight[rows] / max(float(weight[rows].max()), 1e-30)
    return [below, rank, share]


some_light = st.one_of(st.sampled_from([-1.0, 0.0, 2.5]), st.floats(-1e6, 1e6, width=32))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), some_light, st.floats(0, 1e6, width=32), st.integers(0, 10**12))))
def test_a_request_is_what_plain_numpy_says(rows: list[tuple[int, float, float, int]]) -> None:
    origin, light, weight = (
        np.array([row[i] for row in rows], dtype) for i, dtype in enumerate((np.uint8, np.float32, np.float32))
    )
    at_ms, now_ms = np.array([row[3] for row in rows], np.int64), 1_700_000_000_123
    near = weight + np.float32(0.25)
    found = requests.columns(origin, light, weight, origin + 1, near, at_ms, now_ms)
    expected = dict(zip(requests.NAMES[1:4], within_source(origin, light, weight), strict=True)) | {
        "origin": origin,
        "sources_found": origin + 1,
        "nearness": np.log(near),
        "saved_age_days": np.where(at_ms > 0, (now_ms - at_ms) / requests.DAY_MS, np.nan).astype(np.float32),
        "hour": np.full(len(rows), now_ms // requests.HOUR_MS % 24),
    }
    assert tuple(found) == requests.NAMES
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        assert np.array_equal(found[name], values, equal_nan=True), name


def test_a_user_is_one_value_a_name() -> None:
    counts = np.arange(15, dtype=np.uint32).reshape(3, 5)
    row = users.row(np.array([3, 1, -2], np.float32), 7, counts, NOW - 2 * DAY, 11, 13, NOW)
    assert set(row) == set(users.NAMES)
    assert row["user_interests"] == 2
    assert row["user_top_share"] == 0.75
    assert row["user_idle_days"] == 2
    assert row["user_saves_1h"] == 8
    nobody = users.row(np.empty(0, np.float32), 0, np.empty((0, 5), np.uint32), 0, 0, 0, NOW)
    assert nobody["user_top_share"] == 0
    assert np.isnan(nobody["user_idle_days"])
    assert np.isnan(nobody["user_saves_1h"])


def test_a_matrix_has_the_models_columns_in_its_order() -> None:
    names = ["pin_quality", "user_seen", "origin", "affinity_sum", "style.x1", "style.x2"]
    features = [catalogue.feature(name) for name in names]
    features[5] = catalogue.Feature("style.x2", FeatureSource.PIN, default=-1.0)
    rows = Assembler(features).rows(
        {"user_seen": 3.0},
        ids([1, 9]),
        np.array([1, -1], np.float32),
        {"origin": np.array([4, 2], np.float32)},
        features_of([[1], [9, 2]]),
        {"style.x1": np.array([0.5, np.nan], np.float32), "style.x2": np.array([np.nan, 2], np.float32)},
        NOW,
    )
    assert rows.dtype == np.float32
    expected = [[0.5, 3, 4, 0.5, 0.5, -1], [0.5, 3, 2, -0.5, np.nan, 2]]
    np.testing.assert_allclose(rows, expected)


@given(st.integers(0, 6), st.integers(0, 6), st.data())
def test_every_column_is_placed_and_what_is_missing_has_its_default(n: int, width: int, data: st.DataObject) -> None:
    value = st.sampled_from([np.nan, -1.0, 0.0, np.inf, 7.5])
    rows = np.array(data.draw(st.lists(st.lists(value, min_size=width, max_size=width), min_size=n, max_size=n)))
    stated = rows.astype(np.float32).reshape(n, width)
    defaults, first = (
        np.array(data.draw(st.lists(value, min_size=width, max_size=width)), np.float32) for _ in range(2)
    )
    of = np.array(data.draw(st.lists(st.sampled_from("fkc"), min_size=width, max_size=width)), "U1")
    kept, columns = np.flatnonzero(of == "k"), np.flatnonzero(of == "c")
    expected = np.where(of == "f", first, stated)
    found = np.empty((n, width), np.float32)
    kernel.place(found, first, stated, kept, kept, np.ascontiguousarray(stated[:, columns].T), columns, defaults)
    np.testing.assert_array_equal(found, np.where(np.isnan(expected), defaults, expected))
