"""The memory that callers may make a server hold: one message, its metadata, and the bytes of all requests under way."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from protos import calls_pb2, roadrunner_pb2_grpc
from protos import roadrunner_pb2 as pb
from services.core import tokens
from services.core.metrics import Metrics
from services.rpc import server
from services.rpc.admission import AdmissionLimiter
from services.rpc.batching import MANY, STATUS
from services.rpc.dispatch import Dispatcher

ENDS = "/feedmesh.Roadrunner/Ends"
MB = 1 << 20
Code = grpc.StatusCode


class Waiting(roadrunner_pb2_grpc.RoadrunnerServicer):
    """Answers `Ends` when it may; `inside` counts those that wait."""

    def __init__(self) -> None:
        self.leave, self.inside = asyncio.Event(), threading.Semaphore(0)

    async def Ends(self, request: pb.EndsRequest, context: Any) -> pb.EndsReply:
        self.inside.release()
        await self.leave.wait()
        return pb.EndsReply()


def padded(size: int) -> bytes:
    """A message of any kind with one field that nothing knows, of nearly `size` bytes."""
    return pb.EndsRequest().SerializeToString() + b"\xfa\x7f" + _varint(size) + bytes(size)


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


@contextmanager
def serving(waiting: Waiting, most: int) -> Iterator[Any]:
    """The waiting servicer on asyncio, and its loop's `leave`."""
    started, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    ports = []

    async def serve() -> None:
        add = [lambda s: roadrunner_pb2_grpc.add_RoadrunnerServicer_to_server(waiting, s)]
        made = server.on_asyncio(Dispatcher(Metrics("test", 0), AdmissionLimiter(100, most), at_once=True), add)
        ports.append(server.bind(made, "127.0.0.1:0"))
        await made.start()
        started.set()
        await stop.wait()
        await made.stop(None)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(30)
        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
            yield channel, lambda: loop.call_soon_threadsafe(waiting.leave.set)
    finally:
        loop.call_soon_threadsafe(waiting.leave.set)
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def several(size: int) -> bytes:
    return calls_pb2.CallsRequest(calls=[calls_pb2.Call(method=ENDS, request=padded(size))]).SerializeToString()


def refused(call: Any, message: bytes) -> tuple[grpc.StatusCode, str]:
    """Why a call is not answered; of several that came together, the one."""
    try:
        [answer] = calls_pb2.CallsReply.FromString(call(message, timeout=60)).answers
    except grpc.RpcError as error:
        return error.code(), str(error.details())
    return STATUS[answer.status], answer.message


@pytest.mark.parametrize(("method", "message"), [(ENDS, padded), (MANY, several)])
def test_requests_under_way_are_bounded_together(method: str, message: Any) -> None:
    waiting = Waiting()  # type: ignore[abstract]
    with serving(waiting, 3 * MB) as (channel, leave):
        call = channel.unary_unary(method)
        held = [call.future(message(MB), timeout=60) for _ in range(2)]
        for _ in held:
            assert waiting.inside.acquire(timeout=30)
        code, details = refused(call, message(MB + 1000))
        assert code == Code.RESOURCE_EXHAUSTED
        assert str(3 * MB) in details
        small = call.future(message(1000), timeout=60)
        assert waiting.inside.acquire(timeout=30), "what is small finds its place"
        leave()
        for one in [*held, small]:
            one.result()
        call(message(2 * MB), timeout=60)
        call(message(4 * MB), timeout=60)  # one alone is bounded by the size of a message only


def test_a_message_and_its_metadata_are_bounded() -> None:
    waiting = Waiting()  # type: ignore[abstract]
    with serving(waiting, 3 * MB) as (channel, leave):
        leave()
        call = channel.unary_unary(ENDS)
        for message, metadata in (
            (padded(server.MAX_MESSAGE + 1), ()),
            (b"", (("x", "y" * 4 * tokens.MAX_BYTES),)),
            (b"", tuple((f"x{i}", "y" * 1000) for i in range(4 * tokens.MAX_BYTES // 1000))),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(message, timeout=60, metadata=metadata)
            assert refused.value.code() == Code.RESOURCE_EXHAUSTED
        call(b"", timeout=60)
