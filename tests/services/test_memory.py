"""A process that serves does not fault for every large buffer."""

import subprocess
import sys

import pytest

from services.ops import memory

FAULTS = """
import resource
from services.ops.memory import give_back, settle_memory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        held = [bytearray(240_000) for _ in range(8)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
settle_memory()
faults()
after = faults()
give_back()
print(before, after, faults())
"""


@pytest.mark.skipif(memory._glibc is None, reason="another C library than glibc: nothing is done there")
def test_a_large_buffer_that_is_needed_again_is_not_asked_of_the_kernel_again() -> None:
    said = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    before, after, given_back = map(int, said.split())
    pages = 200 * 8 * 240_000 // 4096
    assert before > pages / 2, "glibc's own way"
    assert after < pages / 20
    assert given_back < pages / 20, "only what was free then is asked for anew"
