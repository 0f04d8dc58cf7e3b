"""Threads ask through the bridge: answers, errors, deadlines, and the request they serve come across."""

import asyncio
from collections.abc import Iterator

import pytest

from services.core import context
from services.core.errors import DeadlineExceeded, NotFound
from services.rpc.bridge import Bridge


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    bridge = Bridge()
    yield bridge
    bridge.close()


async def token() -> bytes:
    request = context.current()
    return request.token if request else b"none"


def test_what_is_run_keeps_the_callers_request(bridge: Bridge) -> None:
    assert bridge.run(token(), 5) == b"none"
    with context.serving(5, b"seen"):
        assert bridge.run(token(), 5) == b"seen"
    assert bridge.run(token(), 5) == b"none"


def test_what_is_made_is_made_on_the_loop(bridge: Bridge) -> None:
    loop = bridge.make(asyncio.get_running_loop)

    async def here() -> bool:
        return asyncio.get_running_loop() is loop

    assert bridge.run(here(), 5)


def test_errors_come_back_and_time_runs_out(bridge: Bridge) -> None:
    async def fails() -> None:
        raise NotFound("nobody")

    with pytest.raises(NotFound, match="nobody"):
        bridge.run(fails(), 5)
    cancelled = []

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    with pytest.raises(DeadlineExceeded, match="no answer within 10 ms"):
        bridge.run(hangs(), 0.01)
    bridge.run(token(), 5)
    assert cancelled == [True]
