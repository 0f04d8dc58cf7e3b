"""The files of a mesh with TLS, as `feedmesh certs` makes them, and some that it would not make."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cli.authority import CA, Store, Validity, authority, issued
from services.rpc.credentials import Credentials, Files


def lasting(seconds: float = 86_400.0) -> Validity:
    """From an hour ago; negative: it has ended already."""
    now = datetime.now(UTC)
    return Validity(now - timedelta(hours=1), now + timedelta(seconds=seconds))


def store_of(folder: Path, services: Iterable[str] = ("roadrunner", "operator"), domain: str = "mesh") -> Store:
    """A CA of its own, and a certificate for each of these."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder)
    store.write(CA, authority(domain, lasting()))
    for service in services:
        issue(store, service, domain=domain)
    return store


def issue(store: Store, service: str, seconds: float = 86_400.0, domain: str = "mesh") -> None:
    """A new certificate and key."""
    store.write(service, issued(store.pair(CA), domain, service, lasting(seconds)))


def files_of(store: Store, service: str) -> Files:
    return Files(store.folder / "ca.pem", store.folder / f"{service}.pem", store.folder / f"{service}.key")


def credentials_of(store: Store, service: str) -> Credentials:
    """Of a process of this service, on the loopback too."""
    return Credentials(files_of(store, service), "mesh", loopback=True)
