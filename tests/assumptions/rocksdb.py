"""How the tests of beliefs about RocksDB open one, and run code in another process."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from rocksdict import (
    Options,
    Rdict,
)


def options() -> Any:
    made = Options(raw_mode=True)
    made.create_if_missing(True)
    made.create_missing_column_families(True)
    return made


def open_db(path: Path | str, *families: str) -> Any:
    return Rdict(str(path), options(), column_families={name: options() for name in families})


def key(i: int) -> bytes:
    return i.to_bytes(8, "big")


def run_child(code: str, *args: object, ready: str = "") -> subprocess.CompletedProcess[str] | subprocess.Popen[str]:
    """Run Python code in a process of its own; with `ready`, until it has printed that, and it still lives."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    if not ready:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == ready:
            return child
    raise AssertionError(f"the child ended without saying {ready!r}")
