"""The plain stack's rules are the mesh's, each part beside the part of the mesh that it stands for."""

from array import array
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.plain import features, retrieval, rows, rules, slate, walking
from features import crosses, pins, requests, users
from feedgen.candidates import Candidates
from feedgen.choices import Choices
from feedgen.slate import Slate
from pixie import kernel as pixie
from polaris.kernel import Light, select
from realpin import signals
from realpin.layout import Actions
from realpin.settings import Settings
from services.core.columns import Ragged
from tests.realpin import plain

NOW_MS = 1_790_000_000_000
NO_FILTER, NO_PINS = np.empty(0, np.uint32), np.empty(0, np.uint64)
SEEDS = st.integers(0, 2**32)


def test_what_it_knows_of_the_feed_are_the_meshs_defaults() -> None:
    chosen = Choices()
    assert (
        chosen.boards, chosen.affinities, chosen.interests,
    ) == (rules.BOARDS, rules.AFFINITIES, rules.INTERESTS_LOOKED_AT)  # fmt: skip
    picked, share = chosen.rate_picked, chosen.walk_pins_share
    others = (chosen.rate_interest, chosen.rate_popular, chosen.rate_fresh)
    assert (chosen.rate_following, picked * share, picked * (1 - share), *others) == rules.RATES
    assert (
        chosen.per_board, chosen.per_owner, chosen.per_interest,
    ) == (rules.PER_BOARD, rules.PER_OWNER, rules.PER_INTEREST)  # fmt: skip
    assert (
        chosen.walk_pins, chosen.walk_steps, chosen.walk_boards,
    ) == (rules.WALK_PINS, rules.WALK_STEPS, rules.WALK_BOARDS)  # fmt: skip
    assert (
        chosen.walk_discount, chosen.walk_sharpness, chosen.inferred_weight,
    ) == (rules.DISCOUNT, rules.SHARPNESS, rules.INFERRED)  # fmt: skip
    assert (chosen.popular, chosen.popular_interests) == (rules.POPULAR_PINS, rules.POPULAR_INTERESTS)
    assert chosen.max_age_days == 0


def test_what_it_knows_of_signals_and_the_light_score_are_the_meshs_defaults() -> None:
    decay, light = signals.decay_of(Settings()), Light()
    assert list(rules.WEIGHTS) == decay.weights.tolist()
    assert [days * rules.DAY_MS for days in rules.HALF_LIVES_DAYS] == decay.half_lives_ms.tolist()
    assert (
        light.quality, light.scale_ms, light.default_quality,
    ) == (rules.QUALITY, rules.SCALE_DAYS * rules.DAY_MS, rules.DEFAULT_QUALITY)  # fmt: skip


def postings(rng: np.random.Generator, lists: int) -> tuple[rows.Rows, rows.Rows]:
    lengths = rng.integers(0, 40, lists)
    found = np.empty(lengths.sum(), rows.POSTING)
    found["pin"] = rng.integers(1, 120, len(found))
    found["at_ms"] = NOW_MS - rng.integers(-5, 5, len(found)) * rules.DAY_MS
    found["quality"] = rng.choice([0.25, 0.5, np.nan], len(found))
    return found, lengths


@given(seed=SEEDS, k=st.integers(1, 60), per_place=st.integers(0, 9))
def test_the_best_postings_are_those_of_polaris(seed: int, k: int, per_place: int) -> None:
    rng = np.random.default_rng(seed)
    found, lengths = postings(rng, 6)
    weights = rng.choice([0.5, 0.7, 1.0], 6).astype(np.float32)
    ours = retrieval.best(found, lengths, weights, NO_PINS, NOW_MS, per_place, k)
    pin, at_ms, quality = (np.ascontiguousarray(found[name]) for name in ("pin", "at_ms", "quality"))
    hour_ends = -(-NOW_MS // rules.HOUR_MS) * rules.HOUR_MS
    theirs = select(
        pin, at_ms, quality, np.cumsum(lengths), weights, seen=NO_FILTER, taken_down=NO_PINS, now_ms=hour_ends, max_age_ms=0,
        per_source=per_place, k=k, light=Light(),
    )  # fmt: skip
    assert found["pin"][ours.rows].tolist() == found["pin"][theirs.rows].tolist()
    assert ours.scores.tolist() == theirs.scores.tolist()
    assert ours.places.tolist() == theirs.sources.tolist()


@given(seed=SEEDS)
def test_signals_are_those_of_realpin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 60))
    done = np.zeros(n, rows.DONE)
    done["pin"], done["at_ms"] = rng.integers(1, 30, n), np.sort(NOW_MS - rng.integers(0, 10**10, n))
    done["action"] = rng.choice([21, 22, 23, 24], n)
    actions = Actions(done["pin"].copy(), np.zeros(n, np.uint64), done["at_ms"].copy(), done["action"].copy())
    served = signals.strongest_pins(actions, signals.decay_of(Settings()), 12)
    theirs = plain.strongest_pins(plain.weighed(actions, signals.decay_of(Settings())), 12)
    ours = retrieval.weighed(done, 12)
    assert ours.pins.tolist() == theirs.pins.tolist()
    assert ours.weights.tolist() == theirs.weights.tolist()
    np.testing.assert_allclose(np.sort(ours.weights), np.sort(served.weights), 1e-6)
    of = [rng.choice(20, int(rng.integers(0, 8)), replace=False) + 1 for _ in ours.pins]
    padded = np.array([[*row, *[0] * (8 - len(row))] for row in of], np.uint64).reshape(len(of), 8)
    liked = plain.strongest_affinities(plain.affinities_of(ours.weights, Ragged.of_lists(of)), 7)
    interests, affinities = retrieval.affinities(ours.weights, padded, 7)
    assert interests.tolist() == liked.interests.tolist()
    assert affinities.tolist() == liked.affinities.tolist()


@given(seed=SEEDS, size=st.integers(1, 40))
def test_the_slate_is_that_of_feedgen(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 80))
    pin = rng.choice(1_000, n, replace=False).astype(np.uint64) + np.uint64(1)
    columns = {name: rng.integers(0, 6, n).astype(np.uint64) for name in ("board", "owner", "interest")}
    score, found_by = rng.choice([0.1, 0.2, 0.3], n), rng.integers(1, 64, n).astype(np.uint32)
    candidates = Candidates.of(pin, **columns).adding({"score": score, "found_by": found_by})
    limits = (rules.PER_BOARD, rules.PER_OWNER, rules.PER_INTEREST)
    theirs = Slate(*limits, rules.RATES).choose(candidates, size)
    assert slate.choose(score, {"pin": pin, **columns}, found_by, size) == theirs.rows.tolist()


@given(seed=SEEDS)
def test_features_are_those_of_the_catalogue(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 50))
    kept = rng.integers(0, 50, (n, rows.KEPT)).astype(np.float32)
    kept[rng.random(n) < 0.2, :3] = np.nan
    of_pins = features.of_pins(_facts(kept), NOW_MS)
    for name in pins.NAMES:
        np.testing.assert_array_equal(of_pins[name], pins.column(name, kept, NOW_MS), err_msg=name)
    asked: dict[str, Any] = {
        "origin": rng.integers(0, 6, n).astype(np.uint8),
        "light": rng.normal(size=n).astype(np.float32),
        "weight": rng.random(n).astype(np.float32),
        "found": rng.integers(1, 4, n),
        "nearness": rng.random(n).astype(np.float32),
        "at_ms": NOW_MS - rng.integers(0, 3, n) * rules.DAY_MS * rng.integers(0, 2),
    }
    ours, theirs = features.of_request(asked, NOW_MS), requests.columns(**asked, now_ms=NOW_MS)
    for name in requests.NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], 1e-6, err_msg=name)


@given(seed=SEEDS)
def test_crosses_and_user_features_are_those_of_the_catalogue(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m = int(rng.integers(0, 12))
    interests = rng.choice(np.arange(1, 20, dtype=np.uint64), m, replace=False)
    affinities = rng.normal(size=m).astype(np.float32)
    of_pins = np.array([[*rng.choice(np.arange(1, 20), 5, replace=False), 0, 0, 0] for _ in range(9)], np.uint64)
    ours, theirs = (of(interests, affinities, of_pins) for of in (features.of_both, crosses.columns))
    for name in crosses.NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], 1e-6, 1e-7, err_msg=name)
    nothing = np.zeros(0, rows.DONE)
    made = features.of_user(affinities, 3, nothing, 4, 5, NOW_MS)
    counts = np.zeros((3, 5), np.uint32)
    mesh = users.row(affinities, 3, counts, 0, 4, 5, NOW_MS)
    assert made.keys() == mesh.keys()
    np.testing.assert_array_equal([made[name] for name in mesh], list(mesh.values()))


def test_the_budget_of_query_pins_is_that_of_pixie() -> None:
    graph = _graph()
    at, known = np.arange(6), np.array([True, True, False, True, True, True])
    weights = np.array([1, 2, 3, 4, 0.5, 1], np.float32)
    degrees = np.where(known, graph.degrees[at], 0)
    wanted = pixie.budgets(degrees, weights, graph.most, 10_000).tolist()
    assert walking.budgets(graph, at, known, weights, 10_000) == wanted


def test_a_walk_from_one_pin_visits_as_chance_has_it() -> None:
    """With a restart after every step, a pin is passed with the chance of the two edges that lead there."""
    graph = _graph()
    _, passed, _ = walking.visits(graph, np.zeros(1, np.int64), [7_000], Random(1), 1.0)
    chances = np.zeros(len(graph.pin_ids))
    for board in graph.of_pins[0]:
        for pin in graph.of_boards[board]:
            chances[pin] += 1 / len(graph.of_pins[0]) / len(graph.of_boards[board])
    shares = np.bincount(passed, minlength=len(chances)) / 7_000
    np.testing.assert_allclose(shares, chances, atol=5 * 0.5 / np.sqrt(7_000))


def test_scores_are_boosted_discounted_and_name_the_seed() -> None:
    ids = np.array([10, 20, 30], np.uint64)
    visited, owner = array("q", [0, 1, 1, 1, 1, 0, 2]), np.array([0, 0, 0, 0, 0, 1, 1])
    found = walking._best(ids, visited, owner, np.array([2]), 2, np.array([1.0, 2.0, 1.0]))
    assert found.ids.tolist() == [10, 20]
    assert found.scores.tolist() == [4.0, 2.0]  # (1 + 1) ** 2, and sqrt(4) ** 2 / 2
    assert found.seeds.tolist() == [0, 0]


@pytest.mark.parametrize(("visits", "counted"), [(rules.STOP_VISITS, True), (rules.STOP_VISITS - 1, False)])
def test_a_walk_ends_once_enough_nodes_were_visited_enough(visits: int, counted: bool) -> None:
    some = np.tile(np.arange(rules.STOP_NODES), visits)
    walked = np.append(some, [0] * 100)
    assert walking._stops(walked) == (len(some) if counted else len(walked))


def _facts(kept: rows.Rows) -> rows.Rows:
    facts = np.zeros(len(kept), rows.FACTS)
    facts["kept"] = kept
    return facts


def _graph() -> walking.PlainGraph:
    rng = np.random.default_rng(3)
    edges = np.unique(np.stack([rng.integers(1, 9, 60), rng.integers(1, 12, 60)]), axis=1).astype(np.uint64)
    return walking.PlainGraph(edges[0], edges[1])
