"""How the services of the plain stack talk: asyncio gRPC with msgpack, an array as its dtype and bytes."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import msgspec
import numpy as np
import uvloop

from bench.plain.rows import Rows

Message = dict[str, Any]
Method = Callable[[Message], Awaitable[Message]]
LARGE = 64 << 20
OPTIONS = [("grpc.max_receive_message_length", LARGE), ("grpc.max_send_message_length", LARGE)]


def packed(columns: Mapping[str, Rows]) -> Message:
    """Arrays as msgpack has them."""
    return {name: [values.dtype.str, np.ascontiguousarray(values).tobytes()] for name, values in columns.items()}


def unpacked(columns: Mapping[str, Any]) -> dict[str, Rows]:
    """The arrays, read in place."""
    return {name: np.frombuffer(data, dtype) for name, (dtype, data) in columns.items()}


def caller(address: str, method: str) -> Callable[[Message], Awaitable[Message]]:
    """One method of a service at an address. Make it on the event loop that uses it."""
    channel = grpc.aio.insecure_channel(address, options=OPTIONS)
    call = channel.unary_unary(
        f"/plain/{method}", request_serializer=msgspec.msgpack.encode, response_deserializer=msgspec.msgpack.decode
    )

    async def ask(message: Message) -> Message:
        answer: Message = await call(message, timeout=5, wait_for_ready=True)
        return answer

    return ask


def serve(name: str, address: str, made: Callable[[], Awaitable[Method]]) -> None:
    """Serve one method until SIGTERM."""
    uvloop.run(_serve(name, address, made))


async def _serve(name: str, address: str, made: Callable[[], Awaitable[Method]]) -> None:
    method, stopped = await made(), asyncio.Event()

    async def answer(request: Message, _: Any) -> Message:
        return await method(request)

    handler = grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=msgspec.msgpack.decode, response_serializer=msgspec.msgpack.encode
    )
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("plain", {name: handler}),))
    server.add_insecure_port(address)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    gc.collect()
    gc.freeze()
    await server.start()
    await stopped.wait()
    await server.stop(1)
