"""Admission control of pages: limited slots, a limited queue, and no request that waits for ever."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from feedgen.page_limiter import PageLimiter, Slot
from services.core.errors import Exhausted
from services.core.metrics import Metrics

FOR_EVER_S = 3_600.0


class Readers:
    """Readers of pages that the test finishes one by one."""

    def __init__(self, limiter: PageLimiter) -> None:
        self._limiter = limiter
        self.begun: list[int] = []
        self._made: dict[int, asyncio.Event] = {}
        self._begins: dict[int, asyncio.Event] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def come(self, reader: int) -> None:
        self._made[reader], self._begins[reader] = asyncio.Event(), asyncio.Event()
        self._tasks[reader] = asyncio.create_task(self._read(reader))
        await settled()

    async def _read(self, reader: int) -> None:
        async with self._limiter.taken():
            self.begun.append(reader)
            self._begins[reader].set()
            await self._made[reader].wait()

    async def made(self, reader: int) -> None:
        self._made[reader].set()
        await self._tasks[reader]
        await settled()

    async def begins(self, reader: int) -> None:
        await self._begins[reader].wait()

    async def gone(self, reader: int) -> None:
        self._tasks[reader].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._tasks[reader]
        await settled()

    def error(self, reader: int) -> BaseException | None:
        return self._tasks[reader].exception()


async def settled() -> None:
    """Everything that can happen now has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


def with_limiter(
    at_once: int, waiting: int, story: Callable[[Readers], Awaitable[None]], slot_s: float = FOR_EVER_S
) -> dict[str, float]:
    """The gauges at the story's end."""
    metrics = Metrics("feedgen", 0)

    async def run() -> None:
        await story(Readers(PageLimiter(at_once, slot_s, waiting, metrics)))

    asyncio.run(run())
    return metrics.gauges()


def test_pages_are_limited_and_the_first_in_the_queue_is_next() -> None:
    async def story(readers: Readers) -> None:
        for reader in range(5):
            await readers.come(reader)
        assert readers.begun == [0, 1]
        await readers.made(1)
        assert readers.begun == [0, 1, 2]
        await readers.made(0)
        await readers.made(2)
        assert readers.begun == [0, 1, 2, 3, 4]
        await readers.made(3)
        await readers.made(4)

    assert with_limiter(2, 10, story) == {"pages_in_the_making": 0, "pages_waiting": 0, "pages_refused": 0}


def test_a_request_beyond_the_queue_is_refused_and_holds_up_no_other() -> None:
    async def story(readers: Readers) -> None:
        for reader in range(4):
            await readers.come(reader)
        error = readers.error(3)
        assert isinstance(error, Exhausted)
        assert str(error) == (
            "1 pages are in the making and 2 requests wait for a slot, which is all that this process takes; "
            "try again in a moment"
        )
        await readers.made(0)
        await readers.come(4)
        assert readers.begun == [0, 1]
        for reader in (1, 2, 4):
            await readers.made(reader)
        assert readers.begun == [0, 1, 2, 4]

    assert with_limiter(1, 2, story)["pages_refused"] == 1


def test_without_a_queue_a_free_slot_is_still_taken() -> None:
    async def story(readers: Readers) -> None:
        await readers.come(0)
        await readers.come(1)
        assert isinstance(readers.error(1), Exhausted)
        await readers.made(0)
        await readers.come(2)
        assert readers.begun == [0, 2]
        await readers.made(2)

    with_limiter(1, 0, story)


def test_a_cancelled_request_leaves_the_queue() -> None:
    async def story(readers: Readers) -> None:
        for reader in range(3):
            await readers.come(reader)
        await readers.gone(1)  # who waited
        await readers.gone(0)  # whose page was in the making
        assert readers.begun == [0, 2]
        await readers.made(2)
        await readers.come(3)
        assert readers.begun == [0, 2, 3]
        await readers.made(3)

    assert with_limiter(1, 2, story) == {"pages_in_the_making": 0, "pages_waiting": 0, "pages_refused": 0}


def test_a_slow_page_holds_up_no_other() -> None:
    async def story(readers: Readers) -> None:
        await readers.come(0)
        await readers.come(1)
        await readers.begins(1)
        await readers.made(0)
        await readers.made(1)

    assert with_limiter(1, 1, story, slot_s=0.0)["pages_in_the_making"] == 0


def test_waiting_requests_begin_as_a_group_once_few_pages_are_in_the_making() -> None:
    async def story(readers: Readers) -> None:
        for reader in range(9):
            await readers.come(reader)
        assert readers.begun == [0, 1, 2]
        await readers.made(1)
        assert readers.begun == [*range(6)], "as many as are made at once"
        for reader in (0, 2):
            await readers.made(reader)
        assert readers.begun == [*range(6)], "three are in the making yet"
        await readers.made(5)
        assert readers.begun == [*range(9)]
        for reader in (3, 4, 6, 7, 8):
            await readers.made(reader)

    assert with_limiter(5, 10, story) == {"pages_in_the_making": 0, "pages_waiting": 0, "pages_refused": 0}


def test_a_request_that_ends_as_its_slot_comes_passes_it_on() -> None:
    async def story(readers: Readers) -> None:
        for reader in range(4):
            await readers.come(reader)
        ending = asyncio.create_task(readers.made(0))
        await asyncio.sleep(0)
        await readers.gone(1)
        await ending
        assert readers.begun == [0, 2], "it never began"
        await readers.made(2)
        await readers.made(3)
        await readers.come(4)
        assert readers.begun == [0, 2, 3, 4]
        await readers.made(4)

    assert with_limiter(1, 3, story) == {"pages_in_the_making": 0, "pages_waiting": 0, "pages_refused": 0}


def test_a_slot_is_given_back_once() -> None:
    ended: list[None] = []
    slot = Slot(lambda: ended.append(None))
    slot.end()
    slot.end()
    assert len(ended) == 1
