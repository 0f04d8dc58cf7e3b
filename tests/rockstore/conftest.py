"""Rockstores for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rockstore.world import Rockstores, opened


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def rockstores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rockstores]:
    with opened(tmp_path, request.param) as made:
        yield made


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Rockstores]:
    with opened(tmp_path, 2) as made:
        yield made
