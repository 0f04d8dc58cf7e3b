"""A real S3-compatible store on this machine, SeaweedFS, for the length of a test session or of a test that stops it."""

import json
import os
import signal
import socket
import subprocess
import sysconfig
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

READY_WITHIN_S = 60.0
ACCESS, SECRET = "ak-of-the-tests", "sk-of-the-tests-which-is-in-no-message"
ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]
BUCKET = "feedmesh-tests"


def binary() -> Path:
    """The program. Skips the test, loudly, where its package is not installed."""
    found = Path(sysconfig.get_path("scripts")) / "weed"
    if not found.exists():
        pytest.skip("NOT TESTED: an S3-compatible store, as SeaweedFS is not installed; `make test` installs it")
    return found


def free_ports(n: int) -> list[int]:
    """Ports that are free now; SeaweedFS also listens 10,000 above each."""
    found: list[int] = []
    while len(found) < n:
        with socket.socket() as probe, socket.socket() as grpc:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            with suppress(OSError, OverflowError):
                grpc.bind(("127.0.0.1", port + 10_000))
                found.append(port)
    return found


@dataclass
class Seaweed:
    """One server with one bucket, on a folder of its own."""

    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    host: str = "127.0.0.1"  # where it listens

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = free_ports(4)
        keys = {"name": "tests", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": ACTIONS}
        (self.folder / "identities.json").write_text(json.dumps({"identities": [keys]}))
        self.credentials = self.folder / "credentials"
        self.credentials.write_text(f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n")

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.ports[3]}"

    def url(self, prefix: str) -> str:
        """Of blobs in the bucket."""
        return f"s3://{BUCKET}/{prefix}?endpoint={self.endpoint}&region=us-east-1&credentials={self.credentials}"

    def start(self) -> None:
        """Serve, on the ports of before; returns once the bucket is there."""
        master, volume, filer, s3 = self.ports
        (self.folder / "data").mkdir(exist_ok=True)
        command = [binary(), "server", f"-dir={self.folder / 'data'}", f"-ip={self.host}", f"-ip.bind={self.host}"]
        command += [f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-s3"]
        command += [f"-s3.port={s3}", f"-s3.config={self.folder / 'identities.json'}", "-master.volumeSizeLimitMB=64"]
        command += ["-volume.max=50", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, start_new_session=True)
        self._await_bucket()

    def _await_bucket(self) -> None:
        from pyarrow.fs import S3FileSystem

        end, store = time.monotonic() + READY_WITHIN_S, None
        while True:
            try:
                store = store or S3FileSystem(
                    access_key=ACCESS,
                    secret_key=SECRET,
                    endpoint_override=self.endpoint,
                    region="us-east-1",
                    allow_bucket_creation=True,
                    connect_timeout=2,
                    request_timeout=5,
                )
                store.create_dir(BUCKET)
                with store.open_output_stream(f"{BUCKET}/ready") as file:
                    file.write(b"yes")
            except OSError:
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                assert time.monotonic() < end, (
                    f"not within {READY_WITHIN_S} s: {(self.folder / 'log').read_text()[-2000:]}"
                )
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        """End it, as a machine that goes away does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Have it answer nothing, until `thaw`."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Answer again."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)
