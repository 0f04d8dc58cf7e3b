"""The kernels' cache: where it is, and that of processes that miss a kernel at the same time one compiles it."""

import fcntl
import time
from pathlib import Path

import psutil
import pytest

from services.core.errors import InvalidArgument
from services.kernels import jit
from services.kernels.jit import kernel
from tests.services.children import child, read_line

KERNELS = """
import numpy as np
from services.kernels.jit import kernel


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


def test_a_cache_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(InvalidArgument, match=r"file/cache: can't hold the compiled kernels: .*NUMBA_CACHE_DIR"):
        kernel(_twice)(2)


def _twice(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("path", ["one/kernel.py", "one/inner/deep/kernel.py"])
def test_a_change_to_any_kernel_of_a_checkout_is_another_cache(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "ROOT", tmp_path)
    monkeypatch.setattr(jit, "record", lambda: None)
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / "one" / "__init__.py").touch()
    (tmp_path / path).write_text("@kernel")
    before = jit.cache_folder()
    assert before.parent == tmp_path / ".kernels"
    (tmp_path / "one" / "other.py").write_text("no arithmetic")
    assert jit.cache_folder() == before
    (tmp_path / path).write_text("@kernel # changed")
    assert jit.cache_folder() != before


def test_an_installed_wheel_has_a_cache_for_each_state_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "RECORD"
    monkeypatch.setattr(jit, "record", lambda: record)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    record.write_text("pixie/kernel.py,sha256=one,1")
    before = jit.cache_folder()
    assert before.parent == tmp_path / "cache" / "feedmesh" / "kernels"
    record.write_text("pixie/kernel.py,sha256=other,1")
    assert jit.cache_folder() != before


WAITS = """
    import os
    import sys
    from services.kernels.jit import _alone
    print("there", flush=True)
    with _alone("some.kernel"):
        print("has it", flush=True)
"""


def test_a_process_that_waits_for_the_kernel_of_another_uses_processor_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its supervisor takes it for one that hangs."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with (tmp_path / "some.kernel.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with child(WAITS) as process:
            assert read_line(process) == "there"
            used, end = sum(psutil.Process(process.pid).cpu_times()[:2]), time.monotonic() + 30
            while sum(psutil.Process(process.pid).cpu_times()[:2]) == used:
                assert time.monotonic() < end, "it waits without a sign of life"
                time.sleep(0.1)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert read_line(process) == "has it"
