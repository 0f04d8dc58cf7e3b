"""Asks a process of another machine by messages on long-lived streams of gRPC (services/rpc/stream_server.py), from asyncio.

A message on an open stream takes less CPU than a call of its own, which has headers, a status and handlers to be set up on
both sides.
"""

import asyncio

import grpc

from protos import calls_pb2 as pb
from services.rpc.stream_server import GONE, OPENED, STREAM
from services.rpc.unix_client import IDLE, Calls, NoSocket, Refused, request_of
from services.rpc.unix_socket import MAX_REQUEST

_Stream = grpc.aio.StreamStreamCall[bytes, bytes]


class StreamClient:
    """Of one process, over its channel. A reply that did not come in time would come later, so its stream is ended."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._open: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
        self._free: list[_Stream] = []
        self._lacking = False  # the server is of a version without streams

    async def ask(self, calls: Calls, timeout: float, context: bytes) -> pb.CallsReply:
        """The answers to calls, within `timeout` seconds. context: its bytes. Raises Refused, or NoSocket before it asked."""
        if self._lacking:
            raise NoSocket
        request = request_of(calls)
        request.timeout_s, request.context = timeout, context
        data = request.SerializeToString()
        if len(data) > MAX_REQUEST:
            raise NoSocket  # a call alone says how much is allowed
        stream = self._idle()
        try:
            async with asyncio.timeout(timeout):
                if stream is None:
                    stream = self._open()
                    await self._opened(stream)
                reply = await _asked(stream, data)
        except BaseException as error:
            if stream is not None:
                stream.cancel()
            if isinstance(error, TimeoutError):
                raise Refused(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
            raise
        if len(self._free) < IDLE:
            self._free.append(stream)
        else:
            stream.cancel()
        return reply

    async def _opened(self, stream: _Stream) -> None:
        """Return once the server says that it serves the stream. A message that is written before it ends as an internal error of
        gRPC where it does not (https://github.com/grpc/grpc/issues/36066), as does one of a stream that just ended.
        """
        if OPENED[0] in tuple(await stream.initial_metadata()):
            return
        code = await stream.code()
        if code is grpc.StatusCode.UNIMPLEMENTED:
            self._lacking = True
            raise NoSocket
        raise Refused(code, await stream.details() or "")

    def _idle(self) -> _Stream | None:
        while self._free:
            if not (stream := self._free.pop()).done():
                return stream
        return None

    def close(self) -> None:
        """End the streams that wait."""
        while self._free:
            self._free.pop().cancel()


async def _asked(stream: _Stream, data: bytes) -> pb.CallsReply:
    try:
        await stream.write(data)
        reply = await stream.read()
    except asyncio.InvalidStateError:  # it ended before
        raise Refused(grpc.StatusCode.UNAVAILABLE, GONE) from None
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL):
            raise Refused(grpc.StatusCode.UNAVAILABLE, GONE) from None
        raise
    if not isinstance(reply, bytes):  # the end
        raise Refused(grpc.StatusCode.UNAVAILABLE, GONE)
    return pb.CallsReply.FromString(reply)
