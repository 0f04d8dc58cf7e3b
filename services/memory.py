"""Settles the memory of a process that is about to serve: what it frees stays with it, and the collector looks seldom.

A reply of 200 KB passes through half a dozen buffers of its size. glibc gives each of them back to the kernel when it is
freed and asks for it anew the next time, and every page of it faults again: four fifths of the CPU of such a call
(docs/decisions/0033-freed-memory-stays.md).
"""

import ctypes
import gc
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_LARGEST = 32 << 20  # bytes: what glibc allows; larger buffers come from the kernel and go back to it
_KEPT = 64 << 20  # bytes free at the end of an arena beyond which it goes back to the kernel


def settle_memory() -> None:
    """What was made until now stays: the collector need not walk it again, nor look so often at what requests leave.

    With another C library than glibc buffers go where that sends them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc_trim(ctypes.c_size_t(0))  # what starting took
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)
