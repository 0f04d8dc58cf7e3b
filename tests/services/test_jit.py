"""The kernels' cache: what several processes miss at the same time, one of them compiles."""

from pathlib import Path

import pytest

from tests.services.children import child, read_line

KERNELS = """
import numpy as np
from services.jit import kernel


@kernel
def inner(x):
    return x * 3


@kernel
def outer(xs):
    total = 0
    for x in xs:
        total += inner(x)
    return total
"""
CALLS = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import numpy as np
    import some_kernels as kernels
    print("there", flush=True)
    sys.stdin.readline()
    assert kernels.outer(np.arange(10)) == 135
    print(sum(sum(each.stats.cache_misses.values()) for each in (kernels.outer, kernels.inner)))
    print("scipy.linalg" in sys.modules)
"""


def test_of_processes_that_start_together_one_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_kernels.py").write_text(KERNELS)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))

    with child(CALLS, tmp_path) as one, child(CALLS, tmp_path) as two, child(CALLS, tmp_path) as three:
        for each in (one, two, three):
            assert read_line(each) == "there"
        for each in (one, two, three):
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        missed = [int(read_line(each)) for each in (one, two, three)]
        assert sorted(missed) == [0, 0, 2], "outer, and inner within it"
        assert [read_line(each) for each in (one, two, three)] == ["False"] * 3, "nor is linear algebra loaded"
