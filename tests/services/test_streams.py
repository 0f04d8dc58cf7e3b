"""Calls as messages on a stream of gRPC: the same answers, errors and call policy as by calls of their own."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import pytest
import uvloop

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core import context, tokens
from services.core.errors import Away, DeadlineExceeded, Exhausted, InvalidArgument, Unavailable
from services.core.metrics import Metrics
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.batching import batched_calls
from services.rpc.dispatch import Dispatcher
from services.rpc.replica import RemoteReplica
from services.rpc.stream_client import StreamClient
from services.rpc.stream_server import STREAM, Streams
from tests.services.unix_servers import Answer, AsyncServicer, Servicer

T = TypeVar("T")


class Threaded:
    """A server on threads."""

    def __init__(
        self,
        answer: Answer,
        metrics: Metrics,
        wait: Any = None,
        threads: int = 4,
        most: int = 100,
        credentials: Any = None,
    ) -> None:
        dispatcher = Dispatcher(metrics, AdmissionLimiter(most), wait)
        add = [lambda s: rpc.add_RoadrunnerServicer_to_server(Servicer(answer), s)]  # type: ignore[abstract]
        self._streams = Streams(dispatcher, threads)
        self._server = servers.threaded(dispatcher, add, threads, streams=self._streams)
        self.address = f"127.0.0.1:{servers.bind(self._server, '127.0.0.1:0', credentials)}"
        self._server.start()

    def stop(self, drain_s: float = 5.0) -> None:
        self._streams.stop()
        self._server.stop(drain_s).wait()


class OnAsyncio:
    """A server on a loop of its own."""

    def __init__(
        self,
        answer: Answer,
        metrics: Metrics,
        wait: Any = None,
        threads: int = 4,
        most: int = 100,
        credentials: Any = None,
    ) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._dispatcher = Dispatcher(metrics, AdmissionLimiter(most), at_once=True)
        self._add = [lambda s: rpc.add_RoadrunnerServicer_to_server(AsyncServicer(answer), s)]  # type: ignore[abstract]
        self.address = self._run(self._start(credentials))

    async def _start(self, credentials: Any) -> str:
        self._streams = Streams(self._dispatcher)
        self._server = servers.on_asyncio(self._dispatcher, self._add, streams=self._streams)
        port = servers.bind(self._server, "127.0.0.1:0", credentials)
        await self._server.start()
        return f"127.0.0.1:{port}"

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _stop(self, drain_s: float) -> None:
        self._streams.stop()
        await self._server.stop(drain_s)

    def stop(self, drain_s: float = 5.0) -> None:
        self._run(self._stop(drain_s))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


Kind = type[Threaded] | type[OnAsyncio]
both = pytest.mark.parametrize("kind", [Threaded, OnAsyncio])


@contextmanager
def serving(kind: Kind, answer: Answer = lambda: None, metrics: Metrics | None = None, **more: Any) -> Iterator[Any]:
    server = kind(answer, metrics or Metrics("roadrunner", 0), **more)
    try:
        yield server
    finally:
        server.stop()


def asking(
    address: str, work: Callable[[RemoteReplica], Awaitable[T]], credentials: Any = None, streams: bool = True
) -> T:
    """The result of `work` with a replica that is asked on streams, or by calls of their own."""

    async def run() -> T:
        replica = RemoteReplica("roadrunner", address, None, streams, credentials)
        try:
            return await work(replica)
        finally:
            await replica.close()

    return uvloop.run(run())


async def ask(replica: RemoteReplica, seconds: float = 5.0) -> Any:
    return await replica.call("Ends", pb.EndsRequest(), seconds)


def opened(replica: RemoteReplica) -> int:
    """Streams that wait for their next message."""
    assert isinstance(replica.peer, StreamClient)
    return len(replica.peer._free)


@both
def test_one_alone_and_several_are_answered_and_counted_by_name(kind: Kind) -> None:
    metrics = Metrics("roadrunner", 0)

    async def work(replica: RemoteReplica) -> list[Any]:
        alone = [await ask(replica) for _ in range(5)]
        assert opened(replica) == 1, "one stream for one call after the other"
        with batched_calls():
            several = await asyncio.gather(*(ask(replica) for _ in range(3)))
        assert opened(replica) == 1
        apart = await asyncio.gather(*(ask(replica) for _ in range(3)))
        assert opened(replica) == 3
        return [*alone, *several, *apart]

    with serving(kind, metrics=metrics) as server:
        assert asking(server.address, work) == [pb.EndsReply()] * 11
    assert {name: window.calls for name, window in metrics.windows().items()} == {"Ends": 11}


@both
def test_an_error_comes_as_by_a_call_of_its_own(kind: Kind) -> None:
    def refuse() -> None:
        raise InvalidArgument("limit = 0: at least 1")

    with serving(kind, refuse) as server, pytest.raises(InvalidArgument, match=r"^limit = 0: at least 1$"):
        asking(server.address, ask)


@both
def test_the_deadline_and_the_context_arrive(kind: Kind) -> None:
    seen: list[Any] = []
    token = tokens.encode({(1, 2): 3})

    async def work(replica: RemoteReplica) -> None:
        with context.serving(3.0, token, zone="west", trace_id="page"):
            await ask(replica)

    with serving(kind, lambda: seen.append((context.current(), context.current().remaining()))) as server:  # type: ignore[union-attr]
        asking(server.address, work)
    ((found, left),) = seen
    assert 0 < left <= 3.0
    assert (found.token, found.zone, found.trace_id) == (token, "west", "page")


@both
def test_a_late_answer_is_not_taken_for_the_next_ones(kind: Kind) -> None:
    slow, numbers = threading.Event(), iter(range(1, 9))

    def answer() -> pb.EndsReply:
        if (n := next(numbers)) == 1:
            slow.wait(10)
        return pb.EndsReply(ranges=[pb.Range(next=n)])

    async def work(replica: RemoteReplica) -> Any:
        with pytest.raises(DeadlineExceeded):
            await ask(replica, 0.1)
        slow.set()
        return await ask(replica)

    with serving(kind, answer) as server:
        assert asking(server.address, work).ranges[0].next == 2


def test_only_so_many_threads_answer_at_a_time_and_more_than_it_takes_are_shed() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def answer() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1

    async def work(replica: RemoteReplica) -> list[Any]:
        return await asyncio.gather(*(ask(replica) for _ in range(12)), return_exceptions=True)

    with serving(Threaded, answer, threads=2, most=8) as server:
        found = asking(server.address, work)
    assert most == 2
    assert any(isinstance(one, Exhausted) for one in found)
    assert found.count(pb.EndsReply()) >= 8


@both
def test_a_server_that_drains_answers_what_is_under_way_and_does_not_wait_for_idle_streams(kind: Kind) -> None:
    inside, leave = threading.Event(), threading.Event()

    def answer() -> None:
        if leave.is_set():
            return
        inside.set()
        assert leave.wait(30)

    async def work(replica: RemoteReplica) -> Any:
        leave.set()
        await asyncio.gather(ask(replica), ask(replica), ask(replica))
        leave.clear()
        under_way = asyncio.ensure_future(ask(replica, 30.0))
        await asyncio.to_thread(inside.wait, 30)
        stopping = asyncio.ensure_future(asyncio.to_thread(server.stop, 60.0))
        await asyncio.sleep(0.1)
        leave.set()
        answered = await under_way
        began = time.monotonic()
        await stopping
        assert time.monotonic() - began < 20, "no idle stream was waited for"
        with pytest.raises(Unavailable, match="roadrunner is away"):
            await ask(replica, 5.0)
        return answered

    server = kind(answer, Metrics("roadrunner", 0))
    assert asking(server.address, work) == pb.EndsReply()


@both
def test_a_server_that_comes_back_is_asked_on_new_streams(kind: Kind) -> None:
    first = kind(lambda: None, Metrics("roadrunner", 0))

    async def work(replica: RemoteReplica) -> None:
        await ask(replica)
        first.stop()
        with pytest.raises(Away):
            await ask(replica)

    asking(first.address, work)


def test_a_server_without_streams_is_asked_by_calls() -> None:
    metrics = Metrics("roadrunner", 0)
    add = [lambda s: rpc.add_RoadrunnerServicer_to_server(Servicer(lambda: None), s)]  # type: ignore[abstract]
    server = servers.threaded(Dispatcher(metrics, AdmissionLimiter(10)), add, 2)
    port = servers.bind(server, "127.0.0.1:0")
    server.start()

    async def work(replica: RemoteReplica) -> Any:
        with batched_calls():
            several = await asyncio.gather(ask(replica), ask(replica))
        return [await ask(replica), *several, *await asyncio.gather(ask(replica), ask(replica))]

    try:
        for _ in range(10):
            assert asking(f"127.0.0.1:{port}", work) == [pb.EndsReply()] * 5
    finally:
        server.stop(None).wait()
    assert metrics.windows()["Ends"].calls == 50


@both
@pytest.mark.parametrize("sent", [b"\xff\xff\xff", b"\x0a\xff"])
def test_what_is_no_message_ends_that_stream_alone(kind: Kind, sent: bytes) -> None:
    async def work(replica: RemoteReplica) -> Any:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stream: Any = channel.stream_stream(STREAM)()
            await stream.initial_metadata()
            await stream.write(sent)
            assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "are no request of /feedmesh.Calls/Stream" in await stream.details()
        return await ask(replica)

    with serving(kind) as server:
        assert asking(server.address, work) == pb.EndsReply()
