"""The context of a request: the nearest deadline and the token."""

import asyncio
import math
import threading

import pytest

from services.core import context
from services.core.errors import InvalidArgument
from services.rpc.channel import terms


def test_there_is_no_request_outside_of_one() -> None:
    assert context.current() is None
    assert terms(2.0) == {"timeout": 2.0, "metadata": None}


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


def test_a_field_is_that_of_the_request_until_it_is_given_anew() -> None:
    with context.serving(60.0, b"t", trace_id="page", zone="a", principal="reader"):
        with context.serving(1.0) as inner:
            assert inner[1:5] == (b"t", "a", "page", "reader")
        with context.serving(1.0, b"") as inner:
            assert inner[1:5] == (b"", "a", "page", "reader")
            assert context.received(inner.deadline, inner.wire) == inner
        with context.serving(1.0, zone="b", principal="") as inner:
            assert inner[1:5] == (b"t", "b", "page", "")
            assert context.received(inner.deadline, inner.wire) == inner


def test_bytes_that_are_no_context_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="feedmesh-context-bin: the 2 bytes are no CallContext"):
        context.received(1.0, b"\xff\xff")


def test_a_token_alone_is_a_context() -> None:
    assert context.received(1.0, context.wire_of([("x", "y"), (context.TOKEN_KEY, b"t")])).token == b"t"
    with context.serving(1.0, b"mine") as mine:
        both = [(context.TOKEN_KEY, b"t"), (context.CONTEXT_KEY, mine.wire)]
    assert context.received(1.0, context.wire_of(both)).token == b"mine"
    assert context.wire_of(None) == context.wire_of([]) == b""


def test_a_page_is_named_by_its_trace() -> None:
    with context.serving(1.0, trace_id="page"), context.serving(1.0):
        assert context.page_id() == "page"
    with context.serving(1.0):
        assert len(context.page_id()) == 32
        assert context.page_id() != context.page_id()


def test_requests_that_begin_here_have_this_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_origin", context.CallContext(math.inf))
    context.originate("a")
    with context.serving(1.0) as inner:
        assert inner.zone == "a"
        within = terms(0.25)["metadata"]
    assert within == terms(0.25)["metadata"] == ((context.CONTEXT_KEY, inner.wire),)


def test_a_call_gets_what_is_left_and_the_context() -> None:
    with context.serving(1.0, b"t") as request:
        assert terms(60.0)["timeout"] <= 1.0
        assert terms(0.25) == {"timeout": 0.25, "metadata": ((context.CONTEXT_KEY, request.wire),)}
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
