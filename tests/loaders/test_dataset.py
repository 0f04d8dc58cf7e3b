"""Sections, batches and ids, on a set small enough to see."""

from pathlib import Path

import numpy as np
import pytest

from loaders.dataset import EventDataset, cut, fingerprint, section
from loaders.interactions import first_use, most_used, popularity, rank_in_group, runs_of
from services.core.errors import InvalidArgument
from services.core.events import Action
from tests.loaders.checks import same, whole

DAY = 1_600_000_000_000


def small(mark: str = "a") -> EventDataset:
    names = section(Action.NAME_USER, np.array([DAY + 2, DAY, DAY + 1]), user=[1, 2, 3], title=["x", "y", "z"])
    follows = section(Action.FOLLOW_USER, np.array([DAY, DAY]), user=[1, 2], target=[2, 1])
    return EventDataset("small", mark, [names, follows])


def test_sections_are_in_order_of_date_and_equal_dates_keep_theirs() -> None:
    events = whole(small())
    assert events.user.tolist() == [2, 3, 1, 1, 2]
    assert events.title.strings() == ["y", "z", "x", "", ""]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_batches_are_full_but_the_last(size: int) -> None:
    lengths = [len(batch) for batch in small().batches(size=size)]
    assert sum(lengths) == 5
    assert all(length == size for length in lengths[:-1])


@pytest.mark.parametrize("start", range(7))
@pytest.mark.parametrize("size", [1, 2, 100])
def test_resumed_is_the_tail(start: int, size: int) -> None:
    parts = list(small().batches(start, size))
    assert sum(len(part) for part in parts) == max(5 - start, 0)
    if parts:
        assert same(whole(small()).slice(start, 5), whole(small(), start, size))


def test_the_same_rows_of_another_input_have_the_same_ids() -> None:
    assert same(whole(small("a")), whole(small("b")))


def test_impossible_batches_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="start=-1"):
        next(small().batches(-1))
    with pytest.raises(InvalidArgument, match="size=0"):
        next(small().batches(0, 0))


@pytest.mark.parametrize("name", ["small", "other"])
def test_ids_are_distinct_and_never_zero(name: str) -> None:
    pins = np.arange(1, 100_001)
    ids = EventDataset(name, "f00d", [section(Action.CLOSEUP, pins // 7 + DAY, user=1, pin=pins // 3)]).identities().ids
    assert len(np.unique(ids)) == 100_000
    assert ids.all()


def test_fingerprint_is_of_names_and_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    first = fingerprint([one, two])
    assert first == fingerprint([two, one])
    two.write_bytes(b"3")
    assert fingerprint([one, two]) != first


def test_cut_keeps_characters_whole() -> None:
    assert cut("aé", 2) == "a"
    assert cut("aé", 3) == "aé"


def test_most_used_breaks_ties_by_use_over_all_then_by_id() -> None:
    owners, things = np.array([1, 1, 1, 2, 2, 3]), np.array([7, 7, 8, 9, 8, 9])
    owner, thing, uses = most_used(owners, things, 2)
    assert list(zip(owner.tolist(), thing.tolist(), uses.tolist(), strict=True)) == [
        (1, 7, 2), (1, 8, 1), (2, 8, 1), (2, 9, 1), (3, 9, 1),
    ]  # fmt: skip
    owner, thing, _ = most_used(owners, things, 2, at_least=2)
    assert list(zip(owner.tolist(), thing.tolist(), strict=True)) == [(1, 7), (2, 8), (3, 9)]


def test_first_use_popularity_and_runs() -> None:
    keys = np.array([2, 4, 6])
    assert first_use(keys, np.array([4, 2, 4, 9]), np.array([5, 6, 3, 1]), 77).tolist() == [6, 3, 77]
    assert popularity(keys, np.array([4, 4, 4, 2])).tolist() == pytest.approx([0.5, 1.0, 0.0])
    runs = runs_of(keys, np.array([2, 2, 6]), np.array([9, 8, 7]))
    assert [runs.run(i).tolist() for i in range(3)] == [[9, 8], [], [7]]
    assert rank_in_group(np.array([3, 3, 1, 5, 5, 5])).tolist() == [0, 1, 0, 0, 1, 2]
