"""Loads a case's folder, or one that a test writes, and checks the messages about it."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders import parquet
from services.core.errors import InvalidArgument
from services.core.events import Batch
from tests.loaders.checks import whole

INPUTS = Path(__file__).parent / "inputs"
NOW = 1_796_000_000_000  # 2026-11-30
AT = datetime(2026, 11, 28, 10)


def loaded(folder: Path) -> Batch:
    return whole(parquet.open(folder, NOW))


def case(number: str) -> Path:
    return next(INPUTS.glob(f"{number}-*"))


def write(folder: Path, name: str, /, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def pins(folder: Path, **columns: Any) -> Batch:
    return loaded(write(folder, "pins", **columns))


def refused(folder: Path, *said: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        loaded(folder)
    assert not [word for word in said if word not in str(error.value)], str(error.value)
