"""nginx as Debian has it, in front of an edge."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.services.children import until

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = "NOT TESTED: the edge behind a proxy. There is no nginx here; to test it: apt-get install nginx"
PATIENCE_S = 30
CONF = """
{user}
daemon off;
worker_processes 1;
pid {at}/pid;
error_log {at}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    {temporary}
    {served}
}}
"""


class Proxy:
    """nginx at a socket of its own. `http` asks it as a reader does."""

    def __init__(self, at: Path, process: subprocess.Popen[bytes]) -> None:
        self.at, self.process = at, process
        transport = httpx.HTTPTransport(uds=str(at / "socket"))
        self.http = httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE_S)

    def connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        connection.connect(str(self.at / "socket"))
        return connection

    def upstream(self) -> set[int]:
        """Local ports of its connections to the edge."""
        own = psutil.Process(self.process.pid)
        every = [c for one in (own, *own.children()) for c in one.net_connections("tcp")]
        return {c.laddr.port for c in every if c.status == psutil.CONN_ESTABLISHED}


@contextmanager
def nginx(at: Path, served: str) -> Iterator[Proxy]:
    """served: the inside of the block `http`; a server there listens on `unix:<at>/socket`."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {at}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    (at / "nginx.conf").write_text(CONF.format(at=at, served=served, temporary=temporary, user=user))
    with subprocess.Popen(
        [NGINX or "", "-p", str(at), "-c", str(at / "nginx.conf")], stderr=subprocess.PIPE
    ) as process:
        proxy = Proxy(at, process)
        try:
            until(lambda: (at / "socket").exists() or process.poll() is not None)
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield proxy
        finally:
            proxy.http.close()
            process.terminate()
