"""TLS between the processes of a mesh over TCP: both sides prove who they are by certificates of the mesh's CA.

Identity is a service's, not an address': the certificate of apiary names `spiffe://<domain>/apiary`, as SPIFFE has it, and
`apiary.<domain>`, which callers of apiary look for instead of the host's name. So addresses may change, as those of pods do, and
a certificate of one service is of no use to pose as another.

The files are looked at again before each handshake of a server and every LOOK_EVERY_S seconds. When they are other ones, new
connections use them; those that stand stay until calls have moved on (replica.py). What a peer would refuse is not taken.
"""

import logging
import os
import ssl
import threading
import time
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from services.core.errors import InvalidArgument
from services.core.settings import TlsSettings

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 2.0


def is_loopback(address: str) -> bool:
    """Whether host:port is on the machine that asks, whichever that is."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def spiffe_id(domain: str, service: str) -> str:
    """Who a service is."""
    return f"spiffe://{domain}/{service}"


def dns_name(domain: str, service: str) -> str:
    """The name that a service's certificate has for TLS, which knows names of hosts."""
    return f"{service}.{domain}"


class Files(NamedTuple):
    """Of PEM: the CA's certificates, the own one with those between, and its key."""

    ca: Path
    certificate: Path
    key: Path


class Pems(NamedTuple):
    """Their contents, and what a peer sees of the certificate. expires: Unix seconds; names: kind and value (DNS, URI)."""

    ca: bytes
    certificate: bytes
    key: bytes
    expires: float
    names: frozenset[tuple[str, str]]


def read(files: Files) -> Pems:
    """The contents of the files. Raises InvalidArgument for those that a peer with the same CA would refuse."""
    for path in files:
        if not os.access(path, os.R_OK):
            raise InvalidArgument(f"[tls] {path}: {'can not be read' if path.exists() else 'there is no such file'}")
    ca, certificate, key = (path.read_bytes() for path in files)
    found = _seen_by_a_peer(files, ca)
    names = frozenset((kind, value) for kind, value in found.get("subjectAltName", ()))
    return Pems(ca, certificate, key, ssl.cert_time_to_seconds(found["notAfter"]), names)


def _seen_by_a_peer(files: Files, ca: bytes) -> dict[str, Any]:
    """The certificate as a peer reads it: a handshake with itself, in memory, each side as a server and a client of the mesh."""
    sides = []
    for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        context = ssl.SSLContext(protocol)
        context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(cadata=ca.decode())
        except (ssl.SSLError, ValueError) as error:
            raise InvalidArgument(f"[tls] {files.ca}: no certificates in PEM: {error}") from None
        try:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            pair = f"[tls] {files.certificate} and {files.key}"
            raise InvalidArgument(f"{pair}: no certificate and its key in PEM: {_reason(error)}") from None
        sides.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = sides[0].wrap_bio(to_client, to_server), sides[1].wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(4):  # messages of a handshake, and one more
            for side in (client, server):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        found = server.getpeercert()
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgument(f"[tls] {files.certificate}: peers refuse it: {_reason(error)}") from None
    return dict(found or {})


def _no_password() -> str:
    raise ValueError("the key is encrypted; allowed is one without a password")


def _reason(error: Exception) -> str:
    said = getattr(error, "verify_message", None) or getattr(error, "reason", None) or error
    return str(said).lower().replace("_", " ") if isinstance(error, ssl.SSLError) else str(said)


class Credentials:
    """Of one process, for what it serves and whom it calls. Thread-safe."""

    def __init__(self, files: Files, domain: str, loopback: bool) -> None:
        """loopback: whether addresses of the loopback have TLS too. Raises InvalidArgument for files that are of no use."""
        self._files, self._domain, self._loopback = files, domain, loopback
        self._lock = threading.Lock()
        self._seen: tuple[tuple[int, ...], ...] = self._stats()
        self._failed: tuple[tuple[int, ...], ...] = ()
        self._now = (0, read(files))

    @property
    def version(self) -> int:
        """Another number once the files are other ones: channels that were opened before are to be opened again."""
        return self._now[0]

    def applies(self, address: str) -> bool:
        """Whether calls to host:port, or what listens there, are under TLS."""
        return self._loopback or not is_loopback(address)

    def must_name(self, service: str) -> None:
        """Raise InvalidArgument unless the certificate is this service's."""
        _check_names(self._now[1], self._files, self._domain, service)

    def expires_in(self) -> float:
        """Seconds for which the certificate is still valid."""
        return self._now[1].expires - time.time()

    def server(self) -> grpc.ServerCredentials:
        """For a port: clients need a certificate of the CA, and each handshake uses the files as they are."""
        given, pems = self._now

        def changed() -> Any:  # None: as before
            nonlocal given
            self.look()
            version, pems = self._now
            if version == given:
                return None
            given = version
            return _configuration(pems)

        return grpc.dynamic_ssl_server_credentials(_configuration(pems), changed, require_client_authentication=True)

    def channel(self, service: str) -> tuple[grpc.ChannelCredentials, list[tuple[str, Any]]]:
        """For a channel to a process of this service, with the options that go with them."""
        pems = self._now[1]
        made = grpc.ssl_channel_credentials(pems.ca, pems.key, pems.certificate)
        return made, [("grpc.ssl_target_name_override", dns_name(self._domain, service))]

    def look(self) -> None:
        """Take the files if they are other ones. What is of no use is logged once, and the ones before stay."""
        with self._lock:
            seen = self._stats()
            if seen == self._seen:
                return
            try:
                pems = read(self._files)
            except (InvalidArgument, OSError) as error:
                if self._failed == seen:  # at two looks: they are not just being replaced, one after the other
                    self._seen = seen
                    logger.error("the certificate of before stays in use: %s", error)
                self._failed = seen
                return
            if self._stats() == seen:
                self._seen, self._now = seen, (self._now[0] + 1, pems)
                logger.info("%s: another certificate, valid for %.0f s", self._files.certificate, self.expires_in())

    def _stats(self) -> tuple[tuple[int, ...], ...]:
        return tuple(_stat(path) for path in self._files)

    def watch(self) -> None:
        """Look from now on, by a thread."""
        threading.Thread(target=self._watch, name="credentials", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            self.look()


def _check_names(pems: Pems, files: Files, domain: str, service: str) -> None:
    for wanted in (("URI", spiffe_id(domain, service)), ("DNS", dns_name(domain, service))):
        if wanted not in pems.names:
            has = ", ".join(sorted(f"{kind} {value}" for kind, value in pems.names)) or "no name"
            raise InvalidArgument(
                f"[tls] {files.certificate}: is not of {service}: needed is the name {' '.join(wanted)}, and it has {has}"
            )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], root_certificates=pems.ca)


def _stat(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def opened(settings: TlsSettings, service: str) -> Credentials | None:
    """The credentials of a service of this process, followed from now on; None without TLS. Raises InvalidArgument."""
    if not settings.on:
        return None
    files = (str(path).replace("{service}", service) for path in (settings.ca, settings.certificate, settings.key))
    return _followed(Files(*map(Path, files)), settings.domain, settings.loopback)


@cache
def _followed(files: Files, domain: str, loopback: bool) -> Credentials:
    made = Credentials(files, domain, loopback)
    made.watch()
    return made
