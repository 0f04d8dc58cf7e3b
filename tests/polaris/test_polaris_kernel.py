"""The selection kernel beside an obvious slow reference in plain Python."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polaris import kernel
from polaris.kernel import Light, Selection
from protos import polaris_pb2 as pb
from services.core.columns import I64, U64
from services.kernels import bloom

NAN = float("nan")
NOW = 1_700_000_000_000
PINS = st.integers(0, 12) | st.integers(2**64 - 3, 2**64 - 1)
QUALITY = st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN])
AGES = st.integers(-3, 9).map(lambda days: days * 86_400_000) | st.integers(-(10**9), 10**11)
POSTING = st.tuples(PINS, AGES, QUALITY)
LIGHT = st.builds(Light, st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([1.0, 86_400_000.0]), st.just(0.5))
Row = tuple[int, int, float]


def columns(lists: list[list[Row]]) -> tuple[U64, I64, Any, I64]:
    rows = [row for one in lists for row in one]
    pins, at_ms, quality = zip(*rows, strict=True) if rows else ((), (), ())
    ends = np.cumsum([len(one) for one in lists], dtype=np.int64)
    return np.array(pins, np.uint64), np.array(at_ms, np.int64), np.array(quality, np.float32), ends


def slow_select(
    lists: list[list[Row]],
    weights: list[float],
    is_seen: set[int],
    taken_down: set[int],
    max_age_ms: int,
    per_source: int,
    k: int,
    light: Light,
) -> tuple[list[int], list[float], list[int]]:
    """Rows kept, best first, their scores, and every row's reason."""
    rows = [(source, *posting) for source, one in enumerate(lists) for posting in one]
    reasons, scores = [0] * len(rows), {}
    for row, (source, pin, at_ms, quality) in enumerate(rows):
        age = max(0, NOW - at_ms)
        if pin in is_seen:
            reasons[row] = pb.DROP_REASON_SEEN
        elif pin in taken_down:
            reasons[row] = pb.DROP_REASON_TAKEN_DOWN
        elif max_age_ms and age > max_age_ms:
            reasons[row] = pb.DROP_REASON_TOO_OLD
        value = light.default_quality if math.isnan(quality) else quality
        weight = float(np.float32(weights[source]))
        scores[row] = float(np.float32(math.log(weight) + light.quality * value - age / light.scale_ms))
    ranked = sorted((r for r in scores if not reasons[r]), key=lambda r: (-scores[r], rows[r][1], r))

    taken: set[int] = set()
    for row in ranked:
        if rows[row][1] in taken:
            reasons[row] = pb.DROP_REASON_DUPLICATE
        taken.add(rows[row][1])
    full: dict[int, int] = {}
    for row in (r for r in ranked if not reasons[r]):
        source = rows[row][0]
        full[source] = full.get(source, 0) + 1
        if per_source and full[source] > per_source:
            reasons[row] = pb.DROP_REASON_SOURCE_FULL
    for row in [r for r in ranked if not reasons[r]][k:]:
        reasons[row] = pb.DROP_REASON_NOT_BEST
    kept = [r for r in ranked if not reasons[r]]
    return kept, [scores[r] for r in kept], reasons


def run_select(
    lists: list[list[Row]], weights: list[float], seen: set[int], taken_down: set[int], **how: Any
) -> Selection:
    words = bloom.build(np.array(sorted(seen), np.uint64), 1e-6)
    taken = np.array(sorted(taken_down), np.uint64)
    of_weights = np.array(weights, np.float32)
    return kernel.select(*columns(lists), of_weights, seen=words, taken_down=taken, now_ms=NOW, explain=True, **how)


def check_select(lists: list[list[Row]], weights: list[float], seen: set[int], taken: set[int], **how: Any) -> None:
    words = bloom.build(np.array(sorted(seen), np.uint64), 1e-6)
    pins = columns(lists)[0]
    is_seen = set(pins[bloom.probe(words, pins)].tolist())
    rows, scores, reasons = slow_select(lists, weights, is_seen, taken, **how)
    got = run_select(lists, weights, seen, taken, **how)
    assert got.reasons.tolist() == reasons
    assert got.rows.tolist() == rows
    assert got.pins.tolist() == pins[rows].tolist()
    assert got.scores.tolist() == pytest.approx(scores, rel=2e-7, abs=1e-7)
    ends = columns(lists)[3]
    assert got.sources.tolist() == [int(np.searchsorted(ends, row, side="right")) for row in rows]
    assert got.considered == len(reasons)
    assert (got.seen, got.taken_down, got.too_old) == tuple(reasons.count(r) for r in (1, 2, 3))


LISTS = st.lists(st.lists(POSTING.map(lambda p: (p[0], NOW - p[1], p[2])), max_size=30), max_size=6)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_select_equals_the_slow_one(data: st.DataObject) -> None:
    lists = data.draw(LISTS)
    weights = data.draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=len(lists), max_size=len(lists)))
    check_select(
        lists,
        weights,
        data.draw(st.sets(PINS, max_size=4)),
        data.draw(st.sets(PINS, max_size=4)),
        max_age_ms=data.draw(st.sampled_from([0, 1, 86_400_000, 5 * 86_400_000])),
        per_source=data.draw(st.integers(0, 5)),
        k=data.draw(st.integers(0, 40)),
        light=data.draw(LIGHT),
    )


@pytest.mark.parametrize("seed", range(4))
def test_select_equals_the_slow_one_on_a_whole_request(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lists = [
        [
            (int(pin), NOW - int(age), float(quality))
            for pin, age, quality in zip(
                rng.integers(1, 2_000, 100), rng.integers(-(10**6), 10**10, 100), rng.random(100), strict=True
            )
        ]
        for _ in range(30)
    ]
    seen, taken = set(range(1, 300)), set(range(250, 350))
    weights = np.round(rng.random(30) + 0.1, 3).tolist()
    check_select(lists, weights, seen, taken, max_age_ms=8 * 10**9, per_source=30, k=400, light=Light())


@pytest.mark.parametrize(("per_source", "k"), [(0, 5), (1, 20), (3, 100), (0, 300)])
@pytest.mark.parametrize("scores", [2, 1_000_000])
def test_select_equals_the_slow_one_when_the_first_best_do_not_do(scores: int, per_source: int, k: int) -> None:
    """Without `explain`: it looks at the best of all first, which here are the same pins, or all of one source."""
    rng = np.random.default_rng(per_source + k)
    lists = [
        [(pin, NOW - source * 10**9, int(rng.integers(scores)) / scores) for pin in range(90)] for source in range(25)
    ]
    lists.append([(pin, NOW, 1.0) for pin in range(200, 1_200)])
    weights = [1.0] * 25 + [50.0]
    how: dict[str, Any] = {"max_age_ms": 0, "per_source": per_source, "k": k, "light": Light()}
    rows, scored, _ = slow_select(lists, weights, set(), set(), **how)
    none: Any = np.empty(0, np.uint64)
    got = kernel.select(
        *columns(lists), np.array(weights, np.float32), seen=none.astype(np.uint32), taken_down=none, now_ms=NOW, **how
    )
    assert got.rows.tolist() == rows
    assert got.scores.tolist() == pytest.approx(scored, rel=2e-7, abs=1e-7)
    pins, at_ms, quality, _ = columns(lists)
    assert got.pins.tolist() == pins[rows].tolist()
    assert got.at_ms.tolist() == at_ms[rows].tolist()
    assert got.quality.tolist() == quality[rows].tolist()
    check_select(lists, weights, {5, 300}, {6, 301}, **how)


def test_reasons_are_the_protos() -> None:
    names = ("SEEN", "TAKEN_DOWN", "TOO_OLD", "SOURCE_FULL", "DUPLICATE", "NOT_BEST")
    assert {name: getattr(kernel, name) for name in names} == {
        n: pb.DropReason.Value("DROP_REASON_" + n) for n in names
    }


def test_duplicates_go_before_the_source_limit() -> None:
    """A pin that a better source has does not use up a place in the worse one."""
    lists = [[(1, NOW, 1.0)], [(1, NOW, 1.0), (2, NOW, 0.0)]]
    got = run_select(lists, [2.0, 1.0], set(), set(), max_age_ms=0, per_source=1, k=9, light=Light())
    assert got.rows.tolist() == [0, 2]
    assert got.reasons.tolist() == [kernel.KEPT, kernel.DUPLICATE, kernel.KEPT]


def test_order_does_not_change_as_time_passes() -> None:
    rng = np.random.default_rng(5)
    n = 1_000
    pins = rng.permutation(n).astype(np.uint64)
    at_ms = NOW - rng.integers(0, 10**10, n) // 10**6 * 10**6
    args = (pins, at_ms, rng.random(n).round(2).astype(np.float32), np.array([n]), np.ones(1, np.float32))
    how: dict[str, Any] = {"seen": np.empty(0, np.uint32), "taken_down": np.empty(0, np.uint64), "light": Light()}
    now, later = (
        kernel.select(*args, now_ms=t, max_age_ms=0, per_source=0, k=n, **how) for t in (NOW, NOW + 86_400_000)
    )
    settled = np.diff(now.scores) < -1e-5  # neighbours apart by more than float32 rounding
    place = np.empty(n, np.int64)
    place[later.rows] = np.arange(n)
    assert settled.sum() > n / 2
    assert (np.diff(place[now.rows])[settled] > 0).all()


def test_explain_is_off_unless_asked() -> None:
    none: Any = np.empty(0, np.uint64)
    got = kernel.select(
        *columns([[(1, NOW, NAN)]]), np.ones(1, np.float32), seen=none.astype(np.uint32), taken_down=none,
        now_ms=NOW, max_age_ms=0, per_source=0, k=1, light=Light(),
    )  # fmt: skip
    assert got.rows.tolist() == [0]
    assert len(got.reasons) == 0
    assert got.scores.tolist() == [1.0]  # ln 1 + 2 * the default quality of 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"at_ms": np.zeros(1, np.int64)}, "at_ms: 1 rows, expected 2"),
        ({"quality": np.zeros(3, np.float32)}, "quality: 3 rows, expected 2"),
        ({"weights": np.ones(1, np.float32)}, "ends: 2 rows, expected 1"),
        ({"ends": np.array([1, 3])}, "ends: the last list ends at row 3, expected 2"),
        ({"ends": np.array([4, 2])}, "ends: list 1 ends at row 2, before it begins"),
    ],
)
def test_columns_that_do_not_belong_together_are_refused(wrong: dict[str, Any], message: str) -> None:
    pins, at_ms, quality, ends = columns([[(1, NOW, 1.0)], [(2, NOW, 1.0)]])
    right = {"at_ms": at_ms, "quality": quality, "ends": ends, "weights": np.ones(2, np.float32)}
    how: dict[str, Any] = {"seen": np.empty(0, np.uint32), "taken_down": pins[:0], "light": Light()}
    how |= {"now_ms": NOW, "max_age_ms": 0, "per_source": 0, "k": 1}
    assert len(kernel.select(pins, **right, **how).rows) == 1
    with pytest.raises(ValueError, match=f"^{message}$"):
        kernel.select(pins, **{**right, **wrong}, **how)
