"""Checks of whole columns of a request, compiled, since a service looks at every value that comes off the wire."""

from typing import Any

import numpy as np

from services.kernels.jit import kernel


@kernel
def all_kinds(kinds: Any, least: Any, most: Any) -> Any:
    """Whether all of uint8[n] are in least..most."""
    good = True
    for kind in kinds:
        good &= least <= kind <= most
    return good


@kernel
def all_weights(weights: Any) -> Any:
    """Whether all of float32[n] are finite and above 0."""
    good = True
    for weight in weights:
        good &= np.float32(0) < weight < np.float32(np.inf)
    return good
