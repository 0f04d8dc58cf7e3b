"""Large work shared with helping threads: each item once, errors come back, and busy helpers are not waited for."""

import threading
from collections.abc import Iterator

import pytest

from services.core.helpers import Helpers

WAIT_S = 30


@pytest.fixture(params=[1, 2, 5])
def helpers(request: pytest.FixtureRequest) -> Iterator[Helpers]:
    made = Helpers(request.param)
    yield made
    made.close()


def test_each_item_is_done_once(helpers: Helpers) -> None:
    for n in (0, 1, 2, 1_000):
        done: list[int] = []
        helpers.each(range(n), done.append)
        assert sorted(done) == list(range(n))


def test_an_error_comes_back_and_the_next_work_is_done(helpers: Helpers) -> None:
    def fail(item: int) -> None:
        if item == 3:
            raise ValueError("the fourth")

    with pytest.raises(ValueError, match="the fourth"):
        helpers.each(range(10), fail)
    done: list[int] = []
    helpers.each(range(10), done.append)
    assert sorted(done) == list(range(10))


def test_after_an_error_nothing_more_is_begun() -> None:
    begun: list[int] = []

    def fail(item: int) -> None:
        begun.append(item)
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        Helpers(1).each(range(10), fail)
    assert begun == [0]


def test_an_error_of_a_helper_comes_back() -> None:
    helpers, caller, met = Helpers(2), threading.get_ident(), threading.Barrier(2)

    def do(_: int) -> None:
        met.wait(WAIT_S)
        if threading.get_ident() != caller:
            raise ValueError("a helper's")

    with pytest.raises(ValueError, match="a helper's"):
        helpers.each([1, 2], do)
    helpers.close()


def test_two_threads_work_at_the_same_time() -> None:
    helpers, met = Helpers(2), threading.Barrier(2)
    helpers.each([1, 2], lambda _: met.wait(WAIT_S))
    helpers.close()


def test_busy_helpers_are_not_waited_for() -> None:
    helpers, held, busy = Helpers(2), threading.Event(), threading.Barrier(3)

    def hold(_: int) -> None:
        busy.wait(WAIT_S)
        held.wait(WAIT_S)

    other = threading.Thread(target=lambda: helpers.each([1, 2], hold))
    other.start()
    busy.wait(WAIT_S)
    done: list[int] = []
    helpers.each([1, 2, 3], done.append)
    assert done == [1, 2, 3], "by the caller, in order"
    held.set()
    other.join(WAIT_S)
    assert not other.is_alive()
    helpers.close()
