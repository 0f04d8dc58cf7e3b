"""A database for each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.assumptions.rocksdb import open_db


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Any]:
    opened = open_db(tmp_path / "db", "a", "b")
    yield opened
    opened.close()
