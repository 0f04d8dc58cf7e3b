"""Compiles a kernel: numba without the GIL, cached on disk, with the types of the Python function kept."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """`function` compiled at its first call for each set of argument types. It must be pure arithmetic on arrays."""
    return cast(F, njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function))
