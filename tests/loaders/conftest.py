"""The commands that make and load sets, and what stands where the running mesh would be found."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from cli import load as loading
from cli.demo import demo
from tests.loaders.test_load import Ingest


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(demo)
    made.command()(loading.load)
    return made


@pytest.fixture
def ingest(monkeypatch: pytest.MonkeyPatch) -> Ingest:
    """Stands where the running mesh's ingest API would be found."""
    made = Ingest()

    @contextmanager
    def open_publisher(data: Path) -> Iterator[Ingest]:
        yield made

    monkeypatch.setattr(loading, "open_publisher", open_publisher)
    return made
