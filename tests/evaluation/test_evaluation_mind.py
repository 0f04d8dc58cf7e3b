"""The ranker's features on MIND are of the past alone, and a model that learns from them beats what it is made of."""

from dataclasses import replace

import numpy as np
import pytest

from learning.evaluation.mind import replay, rows, train
from learning.evaluation.mind_past import FIRST_FIT, NewsImpression, Past, Popularity
from services.core.columns import Array

NEWS, USERS = 60, 40


def requests(n: int, seed: int) -> list[NewsImpression]:
    """Of two kinds of users and news; users click news of their kind more often, and some news more than others."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        user = int(rng.integers(USERS))
        news = rng.permutation(NEWS)[: int(rng.integers(2, 12))]
        liked = np.where(news % 2 == user % 2, 1.5, -1.5) + news / NEWS
        click = (rng.random(len(news)) < 1 / (1 + np.exp(-liked))).astype(np.float64)
        click[rng.integers(len(news))] = 1.0
        history = rng.permutation(NEWS // 2)[: int(rng.integers(0, 8))] * 2 + user % 2
        found.append(NewsImpression(1000 + i // 2 * 60, user, news.astype(np.int64), click, history.astype(np.int64)))
    return found


def features(of: list[NewsImpression]) -> list[Array]:
    return [np.stack(list(found.values()), axis=1) for found in replay(of, NEWS)]


@pytest.mark.parametrize("cut", [2, 121, FIRST_FIT + 41])
def test_features_do_not_change_with_what_comes_later(cut: int) -> None:
    whole = requests(FIRST_FIT + 80, 1)
    expected = features(whole)
    removed = features(whole[:cut])
    for one, other in zip(expected, removed, strict=False):
        np.testing.assert_array_equal(one, other)
    moment = whole[cut].ts
    other_clicks = [replace(r, click=1 - r.click) if r.ts >= moment else r for r in whole]
    later = [replace(r, news=r.news[::-1].copy(), history=r.history[:1]) if r.ts > moment else r for r in other_clicks]
    altered = features(later)
    for i, request in enumerate(whole):
        if request.ts <= moment:
            np.testing.assert_array_equal(altered[i], expected[i])
    assert any(not np.array_equal(altered[i], expected[i]) for i in range(cut + 2, len(whole)))


def test_requests_of_one_moment_do_not_see_each_other() -> None:
    whole = requests(40, 2)
    first = replay([replace(r, ts=5) for r in whole], NEWS)
    for found in first:
        assert found["shown"].sum() == 0


def test_counts_are_those_of_a_recount() -> None:
    whole = requests(90, 3)
    found = list(replay(whole, NEWS))
    for i in (0, 1, 30, 89):
        before = [r for r in whole if r.ts < whole[i].ts]
        for column, news in enumerate(whole[i].news.tolist()):
            held = [r for r in before if news in r.news]
            clicks = sum(float(r.click[r.news == news][0]) for r in held)
            expected = sum(float(r.click.mean()) for r in held)
            assert found[i]["shown"][column] == len(held)
            assert found[i]["clicks"][column] == clicks
            assert found[i]["lift_2.0"][column] == pytest.approx((clicks + 2) / (expected + 2))
            fading = sum(float(r.click[r.news == news][0]) * 0.5 ** ((whole[i].ts - r.ts) / 3600) for r in held)
            assert found[i]["clicks_1h"][column] == pytest.approx(fading)


def test_a_click_among_many_lifts_more_than_among_few() -> None:
    popularity = Popularity(20)
    few, many = np.arange(2), np.arange(2, 20)
    popularity.apply(NewsImpression(1, 1, few, np.array([1.0, 0.0]), few))
    popularity.apply(NewsImpression(1, 1, many, np.eye(18)[0], few))
    lift = popularity.features(NewsImpression(2, 1, np.array([0, 2]), np.zeros(2), few))["lift_0.5"]
    assert lift[1] > lift[0]


def test_a_model_of_the_features_beats_the_running_click_rate() -> None:
    from learning.evaluation.metrics import auc

    whole = requests(900, 4)
    found = list(replay(whole, NEWS))
    matrices = [rows(one) for one in found]
    score = train(matrices[100:600], [r.click for r in whole[100:600]], seeds=1)
    own = np.nanmean([auc(r.click, score(m)) for r, m in zip(whole[600:], matrices[600:], strict=True)])
    running = np.nanmean([auc(r.click, f["ctr_100"]) for r, f in zip(whole[600:], found[600:], strict=True)])
    assert own > running + 0.1


def test_an_empty_past_states_something_of_everything() -> None:
    found = Past(5).features(NewsImpression(1, 1, np.arange(3), np.zeros(3), np.arange(0)))
    assert all(len(values) == 3 for values in found.values())
