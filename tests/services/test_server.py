"""The call policy of every server, over real RPCs: deadline, token, errors, shedding; the same on threads and on asyncio."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core import context, tokens
from services.core.errors import BY_STATUS, DeadlineExceeded, Exhausted, InvalidArgument, MeshError, Unavailable
from services.core.metrics import Metrics
from services.core.tokens import Reached
from services.rpc import server
from services.rpc.admission import AdmissionLimiter
from services.rpc.channel import mesh_errors, open_sync
from services.rpc.dispatch import DEFAULT_DEADLINE_S, Dispatcher, WaitForToken
from tests.services.children import until

Answer = Callable[[], None]
Code = grpc.StatusCode


class Servicer(rpc.RoadrunnerServicer):
    """Answers `Ends` with nothing, after doing what the test says."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def Ends(self, request: pb.EndsRequest, context: Any) -> pb.EndsReply:
        self.answer()
        return pb.EndsReply()


class AsyncServicer(Servicer):
    """The same on an event loop."""

    async def Ends(self, request: pb.EndsRequest, context: Any) -> pb.EndsReply:  # type: ignore[override]
        self.answer()
        return pb.EndsReply()


@contextmanager
def threaded(
    answer: Answer, metrics: Metrics, wait: WaitForToken | None = None, threads: int = 4, max_requests: int = 100
) -> Iterator[str]:
    add = [lambda s: rpc.add_RoadrunnerServicer_to_server(Servicer(answer), s)]  # type: ignore[abstract]
    made = server.threaded(Dispatcher(metrics, AdmissionLimiter(max_requests), wait), add, threads)
    server.set_health(server.add_health(made, ["feedmesh.Roadrunner"]), True)
    port = server.bind(made, "127.0.0.1:0")
    made.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        made.stop(None).wait()


@contextmanager
def on_asyncio(answer: Answer, metrics: Metrics, max_requests: int = 100) -> Iterator[str]:
    address: Future[str] = Future()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        add = [lambda s: rpc.add_RoadrunnerServicer_to_server(AsyncServicer(answer), s)]  # type: ignore[abstract]
        made = server.on_asyncio(Dispatcher(metrics, AdmissionLimiter(max_requests), at_once=True), add)
        server.set_health(server.add_health(made, ["feedmesh.Roadrunner"]), True)
        port = server.bind(made, "127.0.0.1:0")
        await made.start()
        address.set_result(f"127.0.0.1:{port}")
        await stop.wait()
        await made.stop(None)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        yield address.result(30)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


Serve = Callable[..., Any]
both = pytest.mark.parametrize("serve", [threaded, on_asyncio])


@contextmanager
def asking(address: str) -> Iterator[Any]:
    with open_sync(address) as channel:
        yield rpc.RoadrunnerStub(channel)


def ask(stub: Any, timeout: float | None = 10.0, reached: Reached | None = None) -> None:
    metadata = ((context.TOKEN_KEY, tokens.encode(reached)),) if reached else None
    with mesh_errors("asked"):
        stub.Ends(pb.EndsRequest(), timeout=timeout, metadata=metadata)


def calls(metrics: Metrics) -> dict[str, int]:
    """Requests answered by code."""
    samples = [sample for family in metrics.collect() for sample in family.samples]
    return {s.labels["code"]: int(s.value) for s in samples if s.name == "feedmesh_requests_total"}


@both
@pytest.mark.parametrize("kind", [*BY_STATUS.values()])
def test_errors_of_the_mesh_arrive_as_themselves(serve: Serve, kind: type[MeshError]) -> None:
    def refuse() -> None:
        raise kind("batch.user[3] = 0: not allowed")

    metrics = Metrics("test", 0)
    with serve(refuse, metrics) as address, asking(address) as stub:
        with pytest.raises(kind, match=r"batch.user\[3\] = 0: not allowed") as refused:
            ask(stub)
        assert type(refused.value) is kind
        until(lambda: calls(metrics) == {kind.status.name: 1})


@both
def test_an_unexpected_error_is_told_by_its_id_alone(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise KeyError("no such column")

    metrics = Metrics("test", 0)
    with serve(fail, metrics) as address, asking(address) as stub, pytest.raises(grpc.RpcError) as failed:
        stub.Ends(pb.EndsRequest(), timeout=10)
    assert failed.value.code() == Code.INTERNAL
    details = failed.value.details() or ""
    [request_id] = re.findall(r"^internal error; the log has it as request ([0-9a-f]{32})$", details)
    assert f"/feedmesh.Roadrunner/Ends failed (request {request_id})" in caplog.text
    assert "KeyError: 'no such column'" in caplog.text
    assert "Traceback" in caplog.text
    assert metrics.windows()["Ends"].errors == 1


@both
def test_the_callers_deadline_and_token_are_the_requests(serve: Serve) -> None:
    seen: list[context.CallContext] = []

    def look() -> None:
        request = context.current()
        assert request is not None
        seen.append(request)

    with serve(look, Metrics("test", 0)) as address, asking(address) as stub:
        started = time.monotonic()
        ask(stub, 5.0, {(0, 1): 7})
        ask(stub, None)
        ask(stub, 10**6)
    assert started < seen[0].deadline < time.monotonic() + 6
    assert tokens.decode(seen[0].token) == {(0, 1): 7}
    assert seen[1].deadline <= time.monotonic() + DEFAULT_DEADLINE_S
    assert seen[1].token == b""
    assert seen[2].deadline <= time.monotonic() + 3600, "an hour at most"
    assert context.current() is None


def test_a_token_is_waited_for_within_the_deadline_before_the_answer() -> None:
    order: list[object] = []

    def wait(reached: Reached, timeout: float) -> None:
        order.append(reached)
        assert 0 < timeout < 6
        if (9, 9) in reached:
            raise DeadlineExceeded("not caught up: topic 9")

    with threaded(lambda: order.append("answer"), Metrics("test", 0), wait) as address, asking(address) as stub:
        ask(stub, 5.0)
        ask(stub, 5.0, {(0, 1): 7})
        with pytest.raises(DeadlineExceeded, match="not caught up: topic 9"):
            ask(stub, 5.0, {(9, 9): 1})
        with pytest.raises(grpc.RpcError) as refused:
            stub.Ends(pb.EndsRequest(), timeout=5, metadata=((context.TOKEN_KEY, b"nonsense"),))
        assert refused.value.code() == Code.INVALID_ARGUMENT
    assert order == [{}, "answer", {(0, 1): 7}, "answer", {(9, 9): 1}], "also without a token: a view may not be ready"


def test_the_largest_token_fits() -> None:
    seen: list[Reached] = []
    largest = {(topic, partition): 2**63 for topic in range(4) for partition in range(1024)}
    with (
        threaded(lambda: None, Metrics("test", 0), lambda reached, _: seen.append(reached)) as address,
        asking(address) as stub,
    ):
        ask(stub, reached=largest)
    assert seen == [largest]


def test_more_requests_than_allowed_are_shed_at_once() -> None:
    inside, leave = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        assert leave.wait(30)

    metrics = Metrics("test", 0)
    with threaded(block, metrics, max_requests=1) as address, asking(address) as stub:
        first = stub.Ends.future(pb.EndsRequest(), timeout=30)
        assert inside.wait(10)
        with pytest.raises(Exhausted):
            ask(stub, 30)
        leave.set()
        first.result()
        until(lambda: calls(metrics) == {"OK": 1})

        def free() -> bool:
            try:
                ask(stub, 30)
            except Exhausted:
                return False
            return True

        until(free)


def test_a_request_whose_time_ran_out_in_the_queue_is_not_served() -> None:
    served: list[float] = []
    inside, leave = threading.Event(), threading.Event()

    def block() -> None:
        served.append(time.monotonic())
        inside.set()
        assert leave.wait(30)

    metrics = Metrics("test", 0)
    with threaded(block, metrics, threads=1) as address, asking(address) as stub:
        first = stub.Ends.future(pb.EndsRequest(), timeout=30)
        assert inside.wait(10)
        with pytest.raises(DeadlineExceeded):
            ask(stub, 0.1)
        leave.set()
        first.result()
        ask(stub, 30)
    assert len(served) == 2, "the first and the last; no process was listening for the second"


@both
def test_a_port_in_use_is_said_with_its_address(serve: Serve) -> None:
    with serve(lambda: None, Metrics("test", 0)) as address:
        other = server.threaded(Dispatcher(Metrics("test", 1), AdmissionLimiter(1)), [], 1)
        with pytest.raises(Unavailable, match=f"cannot listen on {address}: the port is in use"):
            server.bind(other, address)
        other.stop(None).wait()


def test_an_address_of_another_machine_is_said() -> None:
    other = server.threaded(Dispatcher(Metrics("test", 1), AdmissionLimiter(1)), [], 1)
    with pytest.raises(Unavailable, match=r"cannot listen on 192.0.2.1:0: .* the address is not this machine's"):
        server.bind(other, "192.0.2.1:0")
    other.stop(None).wait()


@both
def test_the_standard_services_answer_and_are_not_counted(serve: Serve) -> None:
    metrics = Metrics("test", 0)
    with serve(lambda: None, metrics) as address, open_sync(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert next(watched).status == 1
        watched.cancel()
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (reply,) = reflection.ServerReflectionInfo(iter([request]), timeout=10)
        names = {service.name for service in reply.list_services_response.service}
        assert {"feedmesh.Roadrunner", "grpc.health.v1.Health"} <= names
        channelz: Any = channelz_pb2_grpc.ChannelzStub(channel)
        assert channelz.GetServers(channelz_pb2.GetServersRequest(), timeout=10).server
    assert metrics.windows() == {}


@both
def test_a_method_that_is_not_served_is_unimplemented(serve: Serve) -> None:
    with serve(lambda: None, Metrics("test", 0)) as address, asking(address) as stub:
        with pytest.raises(grpc.RpcError) as refused:
            stub.Aggregated(pb.AggregatedRequest(), timeout=10)
        assert refused.value.code() == Code.UNIMPLEMENTED
        assert refused.value.details() == "/feedmesh.Roadrunner/Aggregated is not served here"


def test_a_message_over_the_bound_is_refused() -> None:
    with threaded(lambda: None, Metrics("test", 0)) as address, asking(address) as stub:
        huge = pb.PublishRequest()
        huge.batch.title.data = bytes(server.MAX_MESSAGE + 1)
        with pytest.raises(Exhausted), mesh_errors("asked"):
            stub.Publish(huge, timeout=30)
        ask(stub)


def test_an_invalid_argument_is_told_as_it_was_and_others_by_whom() -> None:
    def raising(kind: type[MeshError]) -> Answer:
        def refuse() -> None:
            raise kind("why")

        return refuse

    for kind, message in ((InvalidArgument, "why"), (Unavailable, "asked: why")):
        with (
            threaded(raising(kind), Metrics("test", 0)) as address,
            asking(address) as stub,
            pytest.raises(kind) as refused,
        ):
            ask(stub)
        assert str(refused.value) == message
