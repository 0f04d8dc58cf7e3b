"""Answers messages that come on a long-lived stream of gRPC (`Calls.Stream`), as those of a Unix socket are answered.

A stream has one request under way at a time, and its client as many streams as calls under way. On threads each stream has
one, which waits for the next message: nothing is handed over between threads of ours. As many answer at a time as the server has
threads for calls.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from protos import calls_pb2 as pb
from services.rpc.dispatch import FREE, Arrived, Dispatcher, as_status, calls_of, finished, not_a_request, reply_of

STREAM = "/feedmesh.Calls/Stream"
GONE = "Stream removed"  # it ends because its server does
OPENED = (
    ("feedmesh-stream", "1"),
)  # initial metadata, sent when a stream is opened: its client knows that it is served
MOST = 256  # streams of a server


class Streams:
    """The open streams of a server. Thread-safe."""

    def __init__(self, dispatcher: Dispatcher, threads: int = 0) -> None:
        """threads: of a server on threads, how many messages are answered at a time."""
        self._dispatcher, self._lock, self._stopped = dispatcher, threading.Lock(), False
        self._slots: AbstractContextManager[Any] = threading.Semaphore(threads) if threads else FREE
        self._idle = set[Any]()  # of streams that wait for a message, what ends them: a context of gRPC, or a task

    def stop(self) -> None:
        """End the streams that wait, and each of the others when its message is answered. On asyncio: on the server's loop."""
        with self._lock:
            self._stopped = True
            idle = list(self._idle)
        for stream in idle:
            stream.cancel()

    def _waits(self, stream: Any) -> bool:
        """Whether a stream may wait for its next message."""
        with self._lock:
            self._idle.add(stream)
            return not self._stopped

    def _works(self, stream: Any) -> None:
        with self._lock:
            self._idle.discard(stream)

    async def _answered(self, data: bytes) -> bytes:
        """The reply to a message. Raises DecodeError for one that is none."""
        request = pb.CallsRequest.FromString(data)
        deadline = time.monotonic() + request.timeout_s
        arrived = Arrived(deadline, request.context, len(data), slot=self._slots)
        return reply_of(await self._dispatcher.dispatch(calls_of(request), arrived))

    def on_threads(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """The handler of a server on threads."""
        try:
            context.send_initial_metadata(OPENED)
            while self._waits(context):
                data = next(messages, None)
                self._works(context)
                if data is None:
                    return
                try:
                    reply = finished(self._answered(data))
                except DecodeError:
                    context.abort(*as_status(not_a_request(data, STREAM), STREAM))
                yield reply
        finally:
            self._works(context)

    async def on_asyncio(self, messages: AsyncIterator[bytes], context: Any) -> None:
        """The handler of a server on asyncio."""
        task = asyncio.current_task()
        try:
            await context.send_initial_metadata(OPENED)
            while self._waits(task):
                try:
                    data = await context.read()
                except asyncio.CancelledError:
                    if self._stopped:  # by `stop`; a task that merely ends leaves its client without a status
                        await context.abort(grpc.StatusCode.UNAVAILABLE, GONE)
                    raise
                self._works(task)
                if data is grpc.aio.EOF:
                    return
                try:
                    await context.write(await self._answered(data))
                except DecodeError:
                    await context.abort(*as_status(not_a_request(data, STREAM), STREAM))
        finally:
            self._works(task)
