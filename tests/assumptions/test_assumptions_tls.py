"""How gRPC's Python handles certificates: services/rpc/credentials.py and replica.py rely on it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cli.authority import Store
from tests.services.certificates import issue, store_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_of(tmp_path / "certs")


def contents(store: Store, service: str) -> tuple[bytes, bytes, bytes]:
    return tuple(store.folder.joinpath(name).read_bytes() for name in ("ca.pem", f"{service}.key", f"{service}.pem"))  # type: ignore[return-value]


class Server:
    """Shows the certificate that the store has when a connection is made, and counts the connections."""

    def __init__(self, store: Store, port: int = 0) -> None:
        self._store, self.handshakes, self.callers = store, 0, list[str]()
        self._server = grpc.server(ThreadPoolExecutor(4), interceptors=[_Callers(self.callers)])
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        made = grpc.dynamic_ssl_server_credentials(self._now(), self._fetch, require_client_authentication=True)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", made)
        self._server.start()

    def _now(self) -> Any:
        ca, key, certificate = contents(self._store, "roadrunner")
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=ca)

    def _fetch(self) -> Any:
        self.handshakes += 1
        return self._now()

    def stop(self) -> None:
        self._server.stop(None).wait()


class _Callers(grpc.ServerInterceptor):
    """Notes whose certificate each call came under."""

    def __init__(self, callers: list[str]) -> None:
        self._callers = callers

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)

        def noted(request: Any, context: Any) -> Any:
            self._callers.append(context.auth_context()["x509_pem_cert"][0].decode())
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(noted, handler.request_deserializer, handler.response_serializer)


@contextmanager
def serving(store: Store) -> Iterator[Server]:
    server = Server(store)
    try:
        yield server
    finally:
        server.stop()


def opened(store: Store, port: int, name: str = "roadrunner.mesh") -> grpc.Channel:
    ca, key, certificate = contents(store, "operator")
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    options += [("grpc.initial_reconnect_backoff_ms", 100)]
    return grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(ca, key, certificate), options)


def ask(channel: grpc.Channel, wait: bool = False) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    stub.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=wait)


def test_the_name_that_is_looked_for_is_a_dns_name_of_the_certificate_and_not_the_address(store: Store) -> None:
    with serving(store) as server:
        with opened(store, server.port) as channel:
            ask(channel)
        for name in ("127.0.0.1", "counters.mesh", "roadrunner", "spiffe://mesh/roadrunner"):
            with opened(store, server.port, name) as channel, pytest.raises(grpc.RpcError) as refusal:
                ask(channel)
            assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE, name


def test_a_server_is_asked_for_its_certificate_at_each_connection_and_not_at_calls(store: Store) -> None:
    with serving(store) as server:
        for connections in (1, 2):
            with opened(store, server.port) as channel:
                for _ in range(5):
                    ask(channel)
            assert server.handshakes == connections
            issue(store, "roadrunner")


def test_a_connection_goes_on_when_the_certificate_that_it_was_made_with_has_been_replaced(store: Store) -> None:
    with serving(store) as server, opened(store, server.port) as channel:
        ask(channel)
        issue(store, "roadrunner")
        with opened(store, server.port) as other:
            ask(other)
        ask(channel)
        assert server.handshakes == 2


def test_a_channel_keeps_its_certificate_for_later_connections(store: Store) -> None:
    """So it is opened anew when there is another one."""
    _, _, before = contents(store, "operator")
    with serving(store) as server, opened(store, server.port) as channel:
        ask(channel)
        issue(store, "operator")
        server.stop()
        again = Server(store, server.port)
        try:
            ask(channel, wait=True)
            assert [one.strip() for one in again.callers] == [before.decode().strip()]
        finally:
            again.stop()
