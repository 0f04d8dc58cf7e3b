"""Compiles a kernel: numba without the GIL, cached on disk, with the types of the Python function kept."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

ROOT = Path(__file__).resolve().parent.parent


def _cache_folder() -> Path:
    """One folder for each state of all kernels together: numba looks only at a kernel's own file when it decides
    whether its cache still holds, and kernels of one file are inlined in those of another.
    """
    sources = sorted(path for path in ROOT.glob("*/*.py") if b"kernel" in path.read_bytes())
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources))
    return ROOT / ".kernels" / state.hexdigest()[:16]


os.environ.setdefault("NUMBA_CACHE_DIR", str(_cache_folder()))

from numba import njit  # noqa: E402 - numba reads its settings when it is imported

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """`function` compiled at its first call for each set of argument types. It must be pure arithmetic on arrays."""
    return cast(F, njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function))
