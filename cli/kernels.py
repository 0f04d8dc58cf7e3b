"""`feedmesh kernels`: compiles what serving uses, when an image is built, so that its processes find it compiled."""

import os
import subprocess
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from cli.console import err, out, plainly
from services.core.errors import Unavailable
from services.core.installation import environment, program
from services.rpc import mesh as meshes

WORLD = ("--users", "60", "--pins", "500", "--boards", "150", "--saves", "2000", "--seed", "5", "--no-hint")
SETTINGS = "[web]\nhttp_port = 0\n[learning]\nfirst = false\n[prober]\nevery_s = 0.0\n"
FEEDS, USERS = ("following", "interest", "picked", "home"), 12
PAGE_S = 60.0  # a page that compiles what it needs takes its time
POLL_S = 0.2


@plainly
def kernels(
    within: Annotated[float, typer.Option(min=1, help="seconds that it may take")] = 1800.0,
) -> None:
    """Compile every kernel that serving uses: a small mesh with a demo world is started, asked for feeds, and thrown away.

    Kernels lie in NUMBA_CACHE_DIR, or where each user's do. Those for one processor are not found on another: NUMBA_CPU_NAME and
    NUMBA_CPU_FEATURES, set now and when they are used, say which they are for.

    Example:

        NUMBA_CPU_NAME=x86-64-v3 NUMBA_CPU_FEATURES= feedmesh kernels
    """
    end = time.monotonic() + within
    with TemporaryDirectory(prefix="feedmesh-kernels-") as folder:
        place = Path(folder)
        (place / "mesh.toml").write_text(SETTINGS)
        _run(place, end, "demo", "--out", "data/demo", *WORLD)
        with (place / "said").open("wb") as said:
            mesh = subprocess.Popen(_command("up", "--demo"), cwd=place, env=environment(), stdout=said, stderr=said)
        try:
            _until_ready(place, mesh, end)
            edge = meshes.load(meshes.mesh_file(place / "data")).of("web")[0].http
            for name in FEEDS:
                err.print(f"asking for {name}", highlight=False)
                for user in range(1, USERS + 1):
                    urllib.request.urlopen(f"http://{edge}/v1/feeds/{name}?user={user}", timeout=PAGE_S).read()
        finally:
            mesh.terminate()
            mesh.wait()
    from services.kernels.jit import cache_folder

    made = Path(os.environ.get("NUMBA_CACHE_DIR") or cache_folder())
    out.print(f"{len(list(made.rglob('*.nbc')))} kernels in {made}", highlight=False, soft_wrap=True)


def _command(*words: str) -> list[str]:
    return [*program("cli.main"), *words]


def _run(place: Path, end: float, *words: str) -> None:
    try:
        ran = subprocess.run(
            _command(*words),
            cwd=place,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=_left(end),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"feedmesh {words[0]}: did not end in time") from None
    if ran.returncode:
        raise Unavailable(f"feedmesh {words[0]}: {ran.stderr.strip()}")


def _until_ready(place: Path, mesh: "subprocess.Popen[bytes]", end: float) -> None:
    """Until the mesh has loaded the world, built its graph, and says so."""
    while "Feedmesh is ready" not in (said := (place / "said").read_text(errors="replace")):
        if mesh.poll() is not None or not _left(end):
            raise Unavailable(f"the mesh did not become ready: {said.strip()[-1000:]}")
        time.sleep(POLL_S)


def _left(end: float) -> float:
    return max(0.0, end - time.monotonic())
