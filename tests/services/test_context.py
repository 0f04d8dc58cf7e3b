"""What travels with a request: the nearest deadline and the token."""

import asyncio
import threading

import pytest

from services.core import context
from services.rpc.channel import terms


def test_there_is_no_request_outside_of_one() -> None:
    assert context.current() is None
    assert terms(2.0) == {"timeout": 2.0}


def test_a_request_ends_with_its_block_whatever_happens() -> None:
    with pytest.raises(RuntimeError), context.serving(1.0):
        raise RuntimeError
    assert context.current() is None


def test_time_runs_out_and_is_never_negative() -> None:
    with context.serving(60.0) as request:
        assert 59 < request.remaining() <= 60
    with context.serving(-5.0) as request:
        assert request.remaining() == 0


def test_the_nearest_deadline_holds() -> None:
    with context.serving(1.0), context.serving(60.0) as inner:
        assert inner.remaining() <= 1.0
    with context.serving(60.0), context.serving(1.0) as inner:
        assert inner.remaining() <= 1.0


def test_the_token_travels_on_until_there_is_another() -> None:
    with context.serving(1.0, b"outer"):
        with context.serving(1.0) as inner:
            assert inner.token == b"outer"
        with context.serving(1.0, b"inner") as inner:
            assert inner.token == b"inner"


def test_a_call_gets_what_is_left_and_the_token() -> None:
    with context.serving(1.0, b"t"):
        assert terms(60.0)["timeout"] <= 1.0
        assert terms(0.25) == {"timeout": 0.25, "metadata": ((context.TOKEN_KEY, b"t"),)}
    with context.serving(1.0):
        assert terms(0.25) == {"timeout": 0.25, "metadata": None}


def test_requests_of_other_threads_and_tasks_are_not_seen() -> None:
    seen: list[object] = []
    with context.serving(1.0, b"mine"):
        thread = threading.Thread(target=lambda: seen.append(context.current()))
        thread.start()
        thread.join()
    assert seen == [None]

    async def serve(token: bytes) -> bytes:
        with context.serving(1.0, token) as request:
            await asyncio.sleep(0)
            assert context.current() is request
        return request.token

    async def main() -> list[bytes]:
        return await asyncio.gather(*(serve(b"%d" % i) for i in range(5)))

    assert asyncio.run(main()) == [b"0", b"1", b"2", b"3", b"4"]
