"""Memory of a process that serves: freed memory stays with it for a while, and the collector runs seldom.

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
    """Freeze the objects made until now: the collector need not walk them again, nor run so often for those of requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    give_back()  # the memory that starting took
    if _glibc is not None:
        _glibc.mallopt(_MMAP_THRESHOLD, _LARGEST)
        _glibc.mallopt(_TRIM_THRESHOLD, _KEPT)


def give_back() -> None:
    """Return free memory to the kernel: after a load or a burst it lies in pieces that no request will need."""
    if _glibc is not None:
        _glibc.malloc_trim(0)
