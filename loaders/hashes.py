"""Hashes of 64 bits that stay the same from version to version, since the record of loads is kept by them."""

import hashlib

import numpy as np

from services.core.columns import U64

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash64(*parts: str) -> int:
    """A 64-bit hash of texts (blake2b)."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


def mix(values: U64) -> U64:
    """uint64[n] -> uint64[n], one to one and well spread: the finaliser of SplitMix64 (Steele et al., 2014)."""
    z = values * GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
