"""Which partition a key belongs to, inside kernels. `topics.py` has the same for callers without a compiler."""

from typing import Any

import numpy as np

from services.kernels.jit import kernel


@kernel
def partition_of_key(key: Any, partitions: Any) -> Any:
    """int64: `services.core.topics.partition_of` of one key (uint64)."""
    k1 = key * np.uint64(0x87C37B91114253D5)
    h1 = (k1 << np.uint64(31) | k1 >> np.uint64(33)) * np.uint64(0x4CF5AD432745937F)
    h1 = (h1 ^ np.uint64(8)) + np.uint64(8)
    return np.int64((_fmix(h1) + _fmix(h1 + np.uint64(8))) % np.uint64(partitions))


@kernel
def _fmix(h: Any) -> Any:
    h = (h ^ h >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ h >> np.uint64(33)) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ h >> np.uint64(33)
