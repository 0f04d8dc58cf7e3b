"""Memory of a process that serves: what it frees stays with it for a while, and the collector looks seldom.

A reply of 200 KB passes through half a dozen buffers of its size. glibc gives the end of its heap back to the kernel
when they are freed and asks for it anew the next time, and every page of it faults again: four fifths of such a call's CPU
(docs/decisions/0033-freed-memory-stays.md). With another C library than glibc nothing of this is done.
"""

import ctypes
import gc
from typing import Any

GIVE_BACK_EVERY_S = 60.0
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_LARGEST = 4 << 20  # bytes: larger buffers are a bulk load's; they come from the kernel and go back to it
_KEPT = 8 << 20  # bytes free at the end of an arena beyond which it goes back to the kernel

try:
    _glibc: Any = ctypes.CDLL("libc.so.6")
    _glibc.malloc_trim.argtypes = [ctypes.c_size_t]
except (OSError, AttributeError):
    _glibc = None


def settle_memory() -> None:
    """What was made until now stays: the collector need not walk it again, nor look so often at what requests leave."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    give_back()  # what starting took
    if _glibc is not None:
        _glibc.mallopt(_MMAP_THRESHOLD, _LARGEST)
        _glibc.mallopt(_TRIM_THRESHOLD, _KEPT)


def give_back() -> None:
    """To the kernel, what is free: after a load or a burst it lies in pieces that nobody will need."""
    if _glibc is not None:
        _glibc.malloc_trim(0)
