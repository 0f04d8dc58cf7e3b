"""Compiles a kernel: numba without the GIL, cached on disk, with the types of the Python function kept.

Of the processes that miss a kernel at the same time, as the shards of a new mesh do, one compiles it: the others wait
and find it in the cache.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from services.core.errors import InvalidArgument
from services.core.installation import ROOT, record, user_kernels


def cache_folder() -> Path:
    """One folder for each state of all kernels: numba looks only at a kernel's own file when it decides
    whether its cache still holds, and kernels of one file are inlined in those of another. An installed wheel states
    the digests of its files, and has its folder in the user's cache.
    """
    if listed := record():
        return user_kernels() / hashlib.sha256(listed.read_bytes()).hexdigest()[:16]
    packages = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name not in ("tests", "bench")]
    held = (path.read_bytes() for package in sorted(packages) for path in sorted(package.rglob("*.py")))
    state = hashlib.sha256(b"\0".join(source for source in held if b"kernel" in source))
    return ROOT / ".kernels" / state.hexdigest()[:16]


os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder()))

from numba import config, njit  # noqa: E402 - numba reads its settings when it is imported
from numba.core.compiler_lock import global_compiler_lock  # noqa: E402
from numba.np import linalg  # noqa: E402

config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]  # type: ignore[attr-defined] # when another module imported it first


def _no_blas() -> None:
    raise ImportError("kernels do without linear algebra")


# At the first call of a kernel numba looks for SciPy's BLAS: a fifth of a second and 12 MB for a process that has no use
# for it. A kernel with a matrix product does not compile.
linalg.ensure_blas = _no_blas

ASK_S = 0.02  # of the lock: seldom enough to cost nothing, often enough to be seen
F = TypeVar("F", bound=Callable[..., object])


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """No other process compiles or loads the kernel of this name. Locks are taken from caller to callee, never back.

    numba's own lock comes first: a thread that holds it while it compiles a caller takes the callee's lock as well.
    """
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgument(
            f"{folder}: can't hold the compiled kernels: {error.strerror}; name another folder in NUMBA_CACHE_DIR"
        ) from None
    with global_compiler_lock, (folder / f"{name}.lock").open("a") as lock:
        _take(lock)
        yield


def _take(lock: IO[str]) -> None:
    """Wait for the lock by asking again and again: a process that starts and uses no processor time is taken for one that hangs
    (services/ops/supervisor.py), and on a busy machine another one may compile for minutes.
    """
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(ASK_S)
        else:
            return


def kernel(function: F) -> F:
    """`function` compiled at its first call for each set of argument types. It must be pure arithmetic on arrays."""
    compiled: Any = njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function)
    compile_or_load = compiled.compile

    def once(signature: Any) -> Any:
        with _alone(f"{function.__module__}.{function.__qualname__}"):
            return compile_or_load(signature)

    compiled.compile = once
    return cast(F, compiled)
