"""Both ends of a call prove who they are, or there is no call; and the files may be replaced while calls are under way."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from cli.authority import CA, Store, authority
from protos import roadrunner_pb2 as pb
from services.core.errors import Away, InvalidArgument
from services.core.settings import TlsSettings
from services.rpc import credentials as of_processes
from services.rpc.credentials import Credentials
from services.rpc.replica import RemoteReplica
from tests.services.certificates import credentials_of, files_of, issue, lasting, store_of
from tests.services.test_streams import Kind, Threaded, ask, asking, both, serving

streams = pytest.mark.parametrize("streams", [True, False], ids=["stream", "call"])
ANSWER = pb.EndsReply(ranges=[pb.Range(next=7)])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_of(tmp_path / "certs", ("roadrunner", "counters", "operator"))


def answer() -> pb.EndsReply:
    return ANSWER


def refused(address: str, credentials: Credentials | None, says: str = "roadrunner is away") -> None:
    for by in (True, False):
        with pytest.raises(Away, match=says):
            asking(address, ask, credentials, by)


@both
@streams
def test_two_processes_of_a_mesh_call_each_other(store: Store, kind: Kind, streams: bool) -> None:
    with serving(kind, answer, credentials=credentials_of(store, "roadrunner")) as server:
        assert asking(server.address, ask, credentials_of(store, "operator"), streams) == ANSWER
        assert asking(server.address, ask, credentials_of(store, "counters"), streams) == ANSWER


@both
def test_a_certificate_of_another_ca_is_of_no_use_at_either_end(store: Store, tmp_path: Path, kind: Kind) -> None:
    other = store_of(tmp_path / "other")
    with serving(kind, answer, credentials=credentials_of(store, "roadrunner")) as server:
        refused(
            server.address, credentials_of(other, "operator"), "roadrunner is away: no TLS with it: .*verify failed"
        )
        trusting = tmp_path / "trusting"  # the server, and has a certificate of its own CA
        trusting.mkdir()
        mixed = Store(trusting)
        mixed.write("operator", other.pair("operator"))
        mixed.trust([*store.certificates(CA), *other.certificates(CA)])
        refused(server.address, credentials_of(mixed, "operator"))


@both
def test_a_certificate_that_has_ended_is_refused_at_either_end(store: Store, kind: Kind) -> None:
    issue(store, "roadrunner", seconds=2.0)
    with serving(kind, answer, credentials=credentials_of(store, "roadrunner")) as server:
        until_ended(store, "roadrunner")
        refused(server.address, credentials_of(store, "operator"), "verify failed")
    issue(store, "roadrunner")
    issue(store, "operator", seconds=2.0)
    ended = credentials_of(store, "operator")
    until_ended(store, "operator")
    with serving(kind, answer, credentials=credentials_of(store, "roadrunner")) as server:
        refused(server.address, ended)
        assert asking(server.address, ask, credentials_of(store, "counters")) == ANSWER


def until_ended(store: Store, service: str) -> None:
    end = store.certificates(service)[0].not_valid_after_utc.timestamp()
    time.sleep(max(0.0, end - time.time()) + 1.1)  # certificates end with a whole second


@both
def test_another_service_s_certificate_does_not_stand_for_the_one_that_is_asked(store: Store, kind: Kind) -> None:
    with serving(kind, answer, credentials=credentials_of(store, "counters")) as server:
        refused(
            server.address,
            credentials_of(store, "operator"),
            "roadrunner is away: no TLS with it: hostname verification",
        )


@both
def test_plain_text_and_tls_do_not_meet(store: Store, kind: Kind) -> None:
    with serving(kind, answer, credentials=credentials_of(store, "roadrunner")) as server:
        refused(server.address, None)
        assert asking(server.address, ask, credentials_of(store, "operator")) == ANSWER, "it goes on for others"
    with serving(kind, answer) as server:
        refused(server.address, credentials_of(store, "operator"), "no TLS with it")
        assert asking(server.address, ask) == ANSWER


def test_a_client_without_a_certificate_is_refused(store: Store) -> None:
    trusts = grpc.ssl_channel_credentials((store.folder / "ca.pem").read_bytes())
    named = [("grpc.ssl_target_name_override", "roadrunner.mesh")]
    with (
        serving(Threaded, answer, credentials=credentials_of(store, "roadrunner")) as server,
        grpc.secure_channel(server.address, trusts, named) as channel,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        call: Any = channel.unary_unary("/feedmesh.Roadrunner/Ends")
        call(b"", timeout=5)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


def presented(address: str, store: Store) -> int | str:
    """The serial number of the certificate that a server shows to a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(store.folder / "ca.pem")
    context.load_cert_chain(store.folder / "operator.pem", store.folder / "operator.key")
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain) as secured:
        found = secured.getpeercert()
    assert found
    return int(str(found["serialNumber"]), 16)


@both
@streams
def test_certificates_and_the_ca_change_under_calls_and_none_fails(store: Store, kind: Kind, streams: bool) -> None:
    server_s, client_s = credentials_of(store, "roadrunner"), credentials_of(store, "operator")
    rolled: list[Callable[[], None]] = [lambda: replaced(store), *ca_steps(store), lambda: replaced(store)]

    async def work(replica: RemoteReplica) -> int:
        asked, stop = 0, asyncio.Event()

        async def all_the_time() -> None:
            nonlocal asked
            while not stop.is_set():
                assert await ask(replica) == ANSWER
                asked += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(all_the_time())
            for step in rolled:
                version = client_s.version
                await asyncio.to_thread(step)
                client_s.look()
                assert client_s.version == version + 1
                for _ in range(10):  # on a new connection, with the files as they are
                    assert await ask(replica) == ANSWER
                serial = await asyncio.to_thread(presented, server.address, store)
                assert serial == store.certificates("roadrunner")[0].serial_number
            stop.set()
        await replica.retire()
        return asked

    with serving(kind, answer, credentials=server_s) as server:
        assert asking(server.address, work, client_s, streams) > len(rolled)


def replaced(store: Store) -> None:
    for service in ("roadrunner", "operator"):
        issue(store, service)


def ca_steps(store: Store) -> list[Callable[[], None]]:
    """Both CAs are trusted; the new one issues; it alone is trusted."""
    old, new = store.pair(CA), authority("mesh", lasting())

    def issues() -> None:
        store.write(CA, new, [old.certificate])
        replaced(store)

    return [
        lambda: store.trust([old.certificate, new.certificate]),
        issues,
        lambda: store.trust([new.certificate]),
    ]


def test_files_that_are_of_no_use_are_not_taken_and_are_named_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    found = credentials_of(store, "roadrunner")
    files = files_of(store, "roadrunner")
    key = files.key.read_bytes()
    files.key.write_bytes(store.folder.joinpath("operator.key").read_bytes())
    for _ in range(4):
        found.look()
    assert found.version == 0
    [said] = [record.getMessage() for record in caplog.records]
    assert "stays in use" in said
    assert "key values mismatch" in said
    files.key.write_bytes(key)
    found.look()
    assert found.version == 1
    files.ca.unlink()
    found.look()
    assert found.version == 1


def other_key(store: Store) -> None:
    store.folder.joinpath("roadrunner.key").write_bytes(store.folder.joinpath("operator.key").read_bytes())


def ended(store: Store) -> None:
    issue(store, "roadrunner", seconds=-60)


def strange_ca(store: Store) -> None:
    store.trust([authority("mesh", lasting()).certificate])


def rubbish(store: Store, name: str) -> None:
    store.folder.joinpath(name).write_bytes(b"-----BEGIN NONSENSE-----")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (other_key, r"roadrunner.pem and .*roadrunner.key: no certificate and its key in PEM: key values mismatch"),
        (ended, r"roadrunner.pem: peers refuse it: certificate has expired"),
        (
            strange_ca,
            r"roadrunner.pem: peers refuse it: (unable to get local issuer certificate|certificate signature failure)",
        ),
        (lambda store: rubbish(store, "ca.pem"), r"ca.pem: no certificates in PEM"),
        (lambda store: rubbish(store, "roadrunner.pem"), r"roadrunner.pem and .*: no certificate and its key in PEM"),
        (lambda store: rubbish(store, "roadrunner.key"), r"roadrunner.pem and .*: no certificate and its key in PEM"),
        (lambda store: store.folder.joinpath("roadrunner.key").unlink(), r"roadrunner.key: there is no such file"),
    ],
)
def test_what_a_peer_would_refuse_is_named_at_the_start(store: Store, spoil: Any, says: str) -> None:
    spoil(store)
    with pytest.raises(InvalidArgument, match=says):
        credentials_of(store, "roadrunner")


def test_a_service_has_its_own_name(store: Store) -> None:
    found = credentials_of(store, "counters")
    found.must_name("counters")
    with pytest.raises(
        InvalidArgument, match="needed is the name URI spiffe://mesh/apiary, and it has DNS counters.mesh, URI"
    ):
        found.must_name("apiary")
    with pytest.raises(InvalidArgument, match="spiffe://other/counters"):
        Credentials(files_of(store, "counters"), "other", loopback=False).must_name("counters")
    assert 86_000 < found.expires_in() < 86_401


def test_addresses_of_the_loopback_have_tls_only_where_that_is_said(store: Store) -> None:
    outside = Credentials(files_of(store, "counters"), "mesh", loopback=False)
    assert [
        outside.applies(at) for at in ("127.0.0.1:1", "[::1]:1", "localhost:1", "10.0.0.1:1", "apiary-a-0.apiary-a:1")
    ] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert credentials_of(store, "counters").applies("127.0.0.1:1")


def test_settings_name_all_three_files_or_none(store: Store) -> None:
    assert of_processes.opened(TlsSettings(), "apiary") is None
    with pytest.raises(
        InvalidArgument, match=r"\[tls\] key is missing: allowed are ca, certificate, key together, or none"
    ):
        of_processes.opened(TlsSettings(ca="ca.pem", certificate="own.pem"), "apiary")
    folder = store.folder
    each = TlsSettings(ca=f"{folder}/ca.pem", certificate=f"{folder}/{{service}}.pem", key=f"{folder}/{{service}}.key")
    found = of_processes.opened(each, "counters")
    assert found is not None
    found.must_name("counters")
