"""The steps of the image make an environment whose processes find their kernels compiled. The packages are those installed here:
what the lock files pin is fetched only where an image is built.
"""

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.schema import SERVICES
from deploy.manifests import HTTP_PORT
from tests.installed.environments import QUICKLY, ROOT, RUNTIME, TRAINING, environment
from tests.running import READY_WITHIN_S

FIRST_PORT = 23_400
PROCESSOR = {
    "NUMBA_CPU_NAME": "x86-64-v2",
    "NUMBA_CPU_FEATURES": "",
}  # not this machine's own, so that both must be right
CLUSTER = """
[cluster]
port = {port}
[rule]
zones = ["4"]
host = "127.0.1{{ordinal}}.{{zone}}"
scaled_host = "127.0.100.{{zone}}"
listen = ""
[mesh]
blobs = "file://{folder}/blobs"
unix_sockets = false
"""


def compiled(folder: Path) -> set[str]:
    """The kernels below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*.nbc")}


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_the_steps_of_the_containerfile_are_those_of_the_script() -> None:
    text = (ROOT / "deploy" / "Containerfile").read_text()
    assert "RUN /src/deploy/image.sh /src /opt/feedmesh\n" in text
    assert "FEEDMESH_KERNELS=/opt/feedmesh/kernels" in text
    assert text.count('NUMBA_CPU_NAME=${CPU} NUMBA_CPU_FEATURES=""') == 2, (
        "kernels are found by what they were made for"
    )
    assert "USER 10001:10001" in text
    assert HTTP_PORT == 8080


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the processor is one of x86-64")
@pytest.mark.skipif(
    "FEEDMESH_TEST_IMAGE" not in os.environ,
    reason="NOT TESTED: the steps of the image compile every kernel anew, for minutes: `make test-image`",
)
def test_processes_of_the_image_find_their_kernels_compiled(source: Path, wheel: Path, tmp_path: Path) -> None:
    into = tmp_path / "image"
    environment(into, RUNTIME, TRAINING)
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "PYTHONPATH")}
    variables = kept | QUICKLY | PROCESSOR | {"WHEEL": str(wheel)}
    steps = [str(ROOT / "deploy" / "image.sh"), str(source), str(into)]
    made = subprocess.run(steps, env=variables, capture_output=True, text=True, timeout=1800, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    built, before = compiled(into / "kernels"), files(into)
    assert len(built) > 50

    (tmp_path / "cluster.toml").write_text(CLUSTER.format(port=FIRST_PORT, folder=tmp_path))
    running = variables | {"FEEDMESH_KERNELS": str(into / "kernels"), "FEEDMESH_ZONE": "4"}
    with ExitStack() as stack:
        for service in ("roadrunner", "rockstore", "aperture", "polaris", "counters", "scorpion", "feedgen"):
            cache = tmp_path / service / "cache"
            place = ["--address", "127.0.100.4"] if service == "feedgen" else ["--ordinal", "0"]
            command = [
                into / "bin" / "feedmesh",
                "serve",
                "--cluster",
                tmp_path / "cluster.toml",
                "--service",
                service,
                *place,
            ]
            command += ["--data", tmp_path / service / "data"]
            process = subprocess.Popen(
                list(map(str, command)), env=running | {"XDG_CACHE_HOME": str(cache)}, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            until_ready(
                f"127.0.{100 if service == 'feedgen' else 10}.4:{FIRST_PORT + 100 * SERVICES.index(service)}", process
            )
            assert compiled(cache / "feedmesh" / "kernels") == built, f"{service} compiled what the image lacks"
    assert files(into) == before, "the image may be read-only"


def until_ready(address: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + READY_WITHIN_S
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                if stub.Check(health_pb2.HealthCheckRequest(), timeout=1).status == 1:  # type: ignore[attr-defined]
                    return
            except grpc.RpcError:
                pass
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
