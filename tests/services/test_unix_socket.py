"""Calls through a Unix socket: the same answers, errors and call policy as by gRPC, and gRPC where there is no socket."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import uvloop

from protos import calls_pb2
from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core import context, tokens
from services.core.errors import DeadlineExceeded, Exhausted, InvalidArgument, MeshError, Unavailable
from services.core.metrics import Metrics
from services.core.settings import MeshSettings
from services.rpc import mesh as meshes
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.batching import BatchingChannel, batched_calls
from services.rpc.channel import call, open_async
from services.rpc.dispatch import Dispatcher
from services.rpc.unix_client import NoSocket, UnixClient
from services.rpc.unix_socket import LENGTH_BYTES, MAX_REPLY, MAX_REQUEST, SMALL, Inbox, head_of, socket_path
from tests.services.unix_servers import Kind, OnAsyncio, Servicer, Threaded, serving

NOWHERE = "127.0.0.1:1"  # no gRPC there: every answer came through the socket
both = pytest.mark.parametrize("kind", [Threaded, OnAsyncio])


def framed(message: bytes) -> bytes:
    return head_of(message) + message


@pytest.fixture
def path() -> Iterator[Path]:
    """A socket of this test's own; a test's folder may be too long a name for one."""
    mesh = meshes.resolve({"mesh": MeshSettings(data=f"/nowhere/{os.getpid()}/{time.monotonic_ns()}")}, [])
    found = socket_path(mesh, NOWHERE)
    assert found is not None
    yield found
    found.unlink(missing_ok=True)


async def ask(stub: Any, seconds: float = 5.0) -> Any:
    return await call(stub.Ends, pb.EndsRequest(), seconds, "roadrunner")


@contextmanager
def client(path: Path) -> Iterator[UnixClient]:
    made = UnixClient(path)
    try:
        yield made
    finally:
        made.close()


def asking(path: Path, work: Callable[[Any], Any], address: str = NOWHERE) -> Any:
    """The result of `work` with a stub whose calls go through the socket, or else to `address`."""

    async def run() -> Any:
        async with open_async(address) as channel:
            with client(path) as unix:
                return await work(rpc.RoadrunnerStub(cast(grpc.aio.Channel, BatchingChannel(channel, unix))))

    return uvloop.run(run())


@both
def test_one_alone_and_several_are_answered_and_counted_by_name(kind: Kind, path: Path) -> None:
    metrics = Metrics("roadrunner", 0)

    async def work(stub: Any) -> list[Any]:
        alone = await ask(stub)
        with batched_calls():
            return [alone, *await asyncio.gather(*(ask(stub) for _ in range(3)))]

    with serving(kind, path, metrics=metrics):
        assert asking(path, work) == [pb.EndsReply()] * 4
    assert {name: window.calls for name, window in metrics.windows().items()} == {"Ends": 4}


@both
def test_an_error_comes_as_by_grpc(kind: Kind, path: Path) -> None:
    def refuse() -> None:
        raise InvalidArgument("limit = 0: at least 1")

    with serving(kind, path, refuse), pytest.raises(InvalidArgument, match=r"^limit = 0: at least 1$"):
        asking(path, ask)


@both
def test_a_failure_of_the_server_is_named(kind: Kind, path: Path) -> None:
    def fail() -> None:
        raise KeyError("lost")

    with (
        serving(kind, path, fail),
        pytest.raises(MeshError, match=r"internal error; the log has it as request [0-9a-f]{32}$"),
    ):
        asking(path, ask)


@both
def test_the_deadline_and_the_token_arrive(kind: Kind, path: Path) -> None:
    seen: list[tuple[float, bytes]] = []
    token = tokens.encode({(1, 2): 3})

    def look() -> None:
        request = context.current()
        assert request is not None
        seen.append((request.remaining(), request.token))

    async def work(stub: Any) -> None:
        with context.serving(3.0, token):
            await ask(stub)

    with serving(kind, path, look):
        asking(path, work)
    ((left, arrived),) = seen
    assert 0 < left <= 3.0
    assert arrived == token


def test_a_store_waits_for_the_token_first(path: Path) -> None:
    order: list[Any] = []

    async def work(stub: Any) -> None:
        with context.serving(3.0, tokens.encode({(1, 2): 3})):
            await ask(stub)

    with serving(Threaded, path, lambda: order.append("answer"), wait=lambda reached, _: order.append(reached)):
        asking(path, work)
    assert order == [{(1, 2): 3}, "answer"]


def test_what_waiting_for_the_token_raises_is_the_answer_of_every_call(path: Path) -> None:
    def never(reached: Any, left: float) -> None:
        raise DeadlineExceeded("not caught up: topic 1 partition 2")

    async def work(stub: Any) -> list[Any]:
        with batched_calls():
            return list(await asyncio.gather(ask(stub), ask(stub), return_exceptions=True))

    with serving(Threaded, path, wait=never):
        errors = asking(path, work)
    assert [type(error) for error in errors] == [DeadlineExceeded] * 2
    assert "not caught up" in str(errors[0])


@both
def test_a_late_answer_is_not_taken_for_the_next_ones(kind: Kind, path: Path) -> None:
    slow, answered = threading.Event(), threading.Event()
    numbers = iter(range(1, 9))

    def answer() -> pb.EndsReply:
        if (n := next(numbers)) == 1:
            slow.wait(10)
            answered.set()
        return pb.EndsReply(ranges=[pb.Range(next=n)])

    async def work(stub: Any) -> Any:
        with pytest.raises(DeadlineExceeded):
            await ask(stub, 0.05)
        slow.set()
        await asyncio.to_thread(answered.wait, 10)
        return await ask(stub)

    with serving(kind, path, answer):
        assert asking(path, work).ranges[0].next == 2


@both
def test_more_than_it_takes_are_shed_and_the_rest_are_answered(kind: Kind, path: Path) -> None:
    gate = threading.Event()

    async def work(stub: Any) -> list[Any]:
        first = asyncio.ensure_future(ask(stub))
        await asyncio.to_thread(entered.wait, 10)
        second = await asyncio.gather(ask(stub), return_exceptions=True)
        gate.set()
        return [await first, *second]

    entered = threading.Event()

    def answer() -> None:
        entered.set()
        gate.wait(10)

    with serving(kind, path, answer, most=1):
        first, second = asking(path, work)
    assert first == pb.EndsReply()
    assert isinstance(second, Exhausted)
    assert "1 requests are under way" in str(second)


def test_only_so_many_threads_answer_at_a_time(path: Path) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def answer() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        with lock:
            inside -= 1

    async def work(stub: Any) -> None:
        await asyncio.gather(*(ask(stub) for _ in range(12)))

    with serving(Threaded, path, answer, threads=2):
        asking(path, work)
    assert most == 2


@both
def test_what_is_under_way_is_answered_at_the_end_and_nothing_after(kind: Kind, path: Path) -> None:
    entered = threading.Event()

    def answer() -> None:
        entered.set()
        time.sleep(0.1)

    async def work(stub: Any) -> Any:
        under_way = asyncio.ensure_future(ask(stub))
        await asyncio.to_thread(entered.wait, 10)
        await asyncio.to_thread(server.stop)
        answered = await under_way
        with pytest.raises(Unavailable, match="roadrunner is away"):
            await ask(stub, 2.0)
        return answered

    server = kind(path, answer, Metrics("roadrunner", 0))
    assert asking(path, work) == pb.EndsReply()
    assert not path.exists()


def test_a_connection_that_breaks_in_the_middle_is_a_process_that_is_away(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(4)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(Unavailable, match="roadrunner is away; try again in a moment"):
            asking(path, ask)
        thread.join()


def test_an_idle_connection_that_has_ended_is_not_used(path: Path) -> None:
    async def work() -> list[int]:
        calls = [("/feedmesh.Roadrunner/Ends", b"")]
        with client(path) as unix:
            answered = [len((await unix.ask(calls, 5.0, b"")).answers)]
            unix._free[0].close()
            return [*answered, len((await unix.ask(calls, 5.0, b"")).answers)]

    with serving(Threaded, path):
        assert uvloop.run(work()) == [1, 1]


def test_the_socket_of_a_killed_process_is_replaced(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # never listens, as one whose process is gone

    async def nobody(stub: Any) -> None:
        with client(path) as unix, pytest.raises(NoSocket):
            await unix.ask([], 1.0, b"")

    asking(path, nobody)
    with serving(Threaded, path):
        assert asking(path, ask) == pb.EndsReply()


def test_without_a_socket_it_is_grpc(path: Path) -> None:
    metrics = Metrics("roadrunner", 0)
    dispatcher = Dispatcher(metrics, AdmissionLimiter(10))
    add = [lambda s: rpc.add_RoadrunnerServicer_to_server(Servicer(lambda: None), s)]  # type: ignore[abstract]
    server = servers.threaded(dispatcher, add, 2)
    port = servers.bind(server, "127.0.0.1:0")
    server.start()

    async def work(stub: Any) -> Any:
        with batched_calls():
            several = await asyncio.gather(ask(stub), ask(stub))
        return [await ask(stub), *several]

    try:
        assert asking(path, work, f"127.0.0.1:{port}") == [pb.EndsReply()] * 3
    finally:
        server.stop(None).wait()


@both
@pytest.mark.parametrize("sent", [b"\xff\xff\xff\xff", framed(b"\xff\xff\xff")])
def test_what_is_no_request_ends_that_connection_alone(kind: Kind, path: Path, sent: bytes) -> None:
    with serving(kind, path):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(10)
            stranger.connect(str(path))
            stranger.sendall(sent)
            assert stranger.recv(1) == b""
        assert asking(path, ask) == pb.EndsReply()


@both
def test_a_request_in_pieces_is_put_together(kind: Kind, path: Path) -> None:
    request = calls_pb2.CallsRequest(
        calls=[calls_pb2.Call(method="/feedmesh.Roadrunner/Ends")], deadline_s=time.monotonic() + 5
    )
    with serving(kind, path), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        for byte in framed(request.SerializeToString()):
            connection.send(bytes([byte]))
        assert int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "little") == len(
            calls_pb2.CallsReply(answers=[calls_pb2.Answer()]).SerializeToString()
        )


@pytest.mark.parametrize("size", [1, 3, 1000, SMALL - 1, SMALL, 10**9])
def test_messages_are_cut_wherever_they_are_broken(size: int) -> None:
    lengths = [0, 1, 1400, SMALL - LENGTH_BYTES, SMALL - LENGTH_BYTES + 1, SMALL, 0, 7, 3 * SMALL + 5, 2, 0]
    messages = [bytes([i]) * length for i, length in enumerate(lengths)]
    data, inbox, found, at = b"".join(map(framed, messages)), Inbox(MAX_REPLY), list[bytes](), 0
    while at < len(data):
        space = inbox.space()
        some = data[at : at + min(size, len(space))]
        assert some, "there is always space"
        space[: len(some)] = some
        found += inbox.arrived(len(some))
        at += len(some)
    assert found == messages


def test_a_message_that_is_too_long_is_refused_before_it_has_come() -> None:
    inbox = Inbox(10)
    inbox.space()[:LENGTH_BYTES] = head_of(b"x" * 11)
    with pytest.raises(ValueError, match="a message of 11 bytes; at most 10"):
        inbox.arrived(LENGTH_BYTES)
    assert MAX_REQUEST < MAX_REPLY


@both
def test_a_large_request_and_a_large_reply_are_whole(kind: Kind, path: Path) -> None:
    reply = pb.EndsReply(ranges=[pb.Range(topic=1, partition=i) for i in range(50_000)])
    unknown_field = b"\x7a\x80\x80\x10" + b"x" * (1 << 18)  # a request that means nothing more by it
    asked = ("/feedmesh.Roadrunner/Ends", unknown_field)

    async def run() -> list[bytes]:
        with client(path) as unix:
            return [(await unix.ask([asked], 10.0, b"")).answers[0].reply for _ in range(3)]

    with serving(kind, path, lambda: reply):
        assert uvloop.run(run()) == [reply.SerializeToString()] * 3


def test_a_folder_of_others_is_not_used(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"feedmesh-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"feedmesh-{os.getuid()}").chmod(0o777)
    mesh = meshes.resolve({"mesh": MeshSettings(data="/nowhere")}, [])
    open_to_all = socket_path(mesh, NOWHERE)
    assert open_to_all is not None
    with serving(Threaded, open_to_all):
        assert not open_to_all.exists()

    async def nobody(stub: Any) -> None:
        with client(open_to_all) as unix, pytest.raises(NoSocket):
            await unix.ask([], 1.0, b"")

    asking(path, nobody)


def test_where_there_is_a_socket() -> None:
    def at(address: str, **settings: Any) -> Path | None:
        return socket_path(meshes.resolve({"mesh": MeshSettings(**settings)}, []), address)

    assert at("127.0.0.1:9000") is not None
    assert at("127.0.0.1:9000") != at("127.0.0.1:9001")
    assert at("127.0.0.1:9000", data="a") != at("127.0.0.1:9000", data="b")
    assert at("10.0.0.7:9000") is None
    assert at("unix:/tmp/x") is None
    assert at("127.0.0.1:9000", unix_sockets=False) is None
