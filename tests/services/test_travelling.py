"""Every field of a call context arrives by every way that a call can take, alone and together with others."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import uvloop

from protos import calls_pb2
from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core import context, tokens
from services.core.context import CallContext
from services.core.errors import Exhausted
from services.core.metrics import Metrics
from services.rpc.batching import BatchingChannel, batched_calls
from services.rpc.channel import call, open_async
from services.rpc.unix_client import UnixClient
from services.rpc.unix_socket import MAX_REQUEST
from tests.services import test_server as by_grpc
from tests.services import unix_servers as by_unix

NOWHERE = "127.0.0.1:1"
FIELDS = {"token": tokens.encode({(1, 2): 3}), "zone": "west", "trace_id": "0123abc", "principal": "user:7"}
WAYS = ["grpc, threads", "grpc, asyncio", "unix, threads", "unix, asyncio"]


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder of this user alone, of a name short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-") as folder:
        yield Path(folder)


@contextmanager
def reached(way: str, folder: Path, look: Callable[[], None]) -> Iterator[tuple[str, Path | None]]:
    """A server that does `look` at each call: where it listens for gRPC, and its socket."""
    metrics = Metrics("roadrunner", 0)
    with ExitStack() as stack:
        if way.startswith("grpc"):
            server = by_grpc.threaded if way == "grpc, threads" else by_grpc.on_asyncio
            yield stack.enter_context(server(look, metrics)), None
            return
        kind: by_unix.Kind = by_unix.Threaded if way == "unix, threads" else by_unix.OnAsyncio
        stack.enter_context(by_unix.serving(kind, folder / "s", look, metrics))
        yield NOWHERE, folder / "s"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("several", [False, True])
def test_all_fields_arrive(way: str, several: bool, short: Path) -> None:
    seen: list[CallContext] = []

    def look() -> None:
        found = context.current()
        assert found is not None
        seen.append(found)

    async def ask(address: str, path: Path | None) -> None:
        async with AsyncExitStack() as stack:
            channel = await stack.enter_async_context(open_async(address))
            unix = UnixClient(path) if path else None
            stack.callback(unix.close if unix else lambda: None)
            stub: Any = rpc.RoadrunnerStub(cast(grpc.aio.Channel, BatchingChannel(channel, unix)))
            with context.serving(30.0, **cast(Any, FIELDS)):
                if not several:
                    await call(stub.Ends, pb.EndsRequest(), 20.0, "roadrunner")
                    return
                with batched_calls():
                    await asyncio.gather(*(call(stub.Ends, pb.EndsRequest(), 20.0, "roadrunner") for _ in range(2)))

    began = time.monotonic()
    with reached(way, short, look) as (address, path):
        uvloop.run(ask(address, path))
    assert len(seen) == 1 + several
    for found in seen:
        assert found._asdict() | FIELDS == found._asdict()
        assert began < found.deadline < time.monotonic() + 20.5
        assert context.received(found.deadline, found.wire) == found


def test_a_request_too_large_for_a_socket_is_refused_by_grpc_with_what_is_allowed(short: Path) -> None:
    async def ask(address: str, path: Path) -> None:
        huge = pb.PublishRequest()
        huge.batch.title.data = bytes(MAX_REQUEST + 1)
        async with open_async(address) as channel:
            stub: Any = rpc.RoadrunnerStub(cast(grpc.aio.Channel, BatchingChannel(channel, UnixClient(path))))
            with pytest.raises(Exhausted, match=str(MAX_REQUEST)):
                await call(stub.Publish, huge, 30.0, "roadrunner")

    with (
        by_grpc.threaded(lambda: None, Metrics("roadrunner", 0)) as address,
        by_unix.serving(by_unix.Threaded, short / "s"),
    ):
        uvloop.run(ask(address, short / "s"))


def test_every_field_of_the_message_is_one_of_the_context() -> None:
    """And of this test: a new one travels by the message alone, and is read and written in one module."""
    assert {field.name for field in calls_pb2.CallContext.DESCRIPTOR.fields} == set(FIELDS)
    assert set(FIELDS) == {*CallContext._fields} - {"deadline", "wire"}
