"""`feedmesh load`: publishes a set of events through the front door, once.

The front door accepts an event id once a day. Beyond that day a file beside the data remembers how far each set got,
so loading again goes on where it stopped, or does nothing. Several batches are under way at once; what is remembered
is the contiguous run of acknowledged ones.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from services.clock import DAY_MS, wall_clock
from services.command.console import data_of
from services.errors import DeadlineExceeded, Exhausted, InvalidArgument, MeshError, Unavailable
from services.events import Action, Batch

DATASETS = {
    "lastfm": "Last.fm tag assignments (HetRec 2011)",
    "flickr": "Flickr favourites and follows (DiffNet)",
    "pinterest": "Pinterest saves (NCF)",
    "parquet": "your own: users, interests, boards, pins, follows and events as Parquet files",
}
IN_FLIGHT = 8
TIMEOUT_S = 10.0
PATIENCE_S = 60.0  # of one batch, over all its attempts
SAVE_EVERY_S = 1.0
RETRIED = (Unavailable, Exhausted, DeadlineExceeded)
Say = Callable[[str], None]


class Published(Protocol):
    """The front door's answer."""

    @property
    def accepted(self) -> int:
        """Events taken."""

    @property
    def duplicates(self) -> int:
        """Events whose id had been taken within a day."""


class Publisher(Protocol):
    """The front door; safe to call from several threads."""

    def publish(self, batch: Batch, timeout: float) -> Published:
        """Returns once the batch is on disk. Raises MeshError."""


class Dataset(Protocol):
    """A set of events in a fixed order (datasets/dataset.py)."""

    name: str
    fingerprint: str
    notes: list[str]

    @property
    def size(self) -> int:
        """How many events it has."""

    def batches(self, start: int = 0, size: int = 1000) -> Iterator[Batch]:
        """The events from `start` on."""


class Loaded(msgspec.Struct, kw_only=True):
    """How far a set got: the first `events` of its `size` are acknowledged."""

    size: int
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    at_ms: int = 0


class Ledger:
    """The file that remembers how far a set got; written whole, and at most once a second while loading."""

    def __init__(self, data: Path, dataset: Dataset) -> None:
        """Raises InvalidArgument when the file is not one of ours, or of another reading of the same input."""
        self.path = data / "loads" / f"{dataset.name}-{dataset.fingerprint}.json"
        self.loaded = self._read() or Loaded(size=dataset.size)
        if self.loaded.size != dataset.size:
            was = f"was begun as {self.loaded.size} events, and the same input now makes {dataset.size}"
            raise InvalidArgument(f"{self.path}: {was}; remove it to load from the start")
        self._due = time.monotonic() + SAVE_EVERY_S

    def _read(self) -> Loaded | None:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Loaded)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise InvalidArgument(f"{self.path}: not a record of a load: {error}") from None

    def add(self, events: int, published: Published) -> None:
        """The next `events` events are acknowledged."""
        self.loaded.events += events
        self.loaded.accepted += published.accepted
        self.loaded.duplicates += published.duplicates
        if time.monotonic() >= self._due:
            self.save()

    def save(self) -> None:
        """Write the file; a crash leaves the old one or the new one."""
        self.loaded.at_ms = wall_clock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(self.loaded))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        self._due = time.monotonic() + SAVE_EVERY_S


def pump(dataset: Dataset, publisher: Publisher, ledger: Ledger, batch: int, report: Say) -> None:
    """Publish what the ledger lacks, up to IN_FLIGHT batches at once.

    A batch with an unsave waits for those before it, and holds back those after it: it undoes what they did. Raises
    the MeshError of the first batch that failed for good; the ledger is saved whatever happens.
    """
    flight: deque[tuple[int, Future[Published]]] = deque()
    stop, alone = threading.Event(), False
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        try:
            for events in dataset.batches(ledger.loaded.events, batch):
                was_alone, alone = alone, bool((events.action == Action.UNSAVE).any())
                _land(flight, ledger, 0 if alone or was_alone else IN_FLIGHT - 1, report)
                flight.append((len(events), pool.submit(_patiently, publisher, events, stop, report)))
            _land(flight, ledger, 0, report)
        except BaseException:
            stop.set()
            _land_what_came(flight, ledger)
            raise
        finally:
            ledger.save()


def _land(flight: deque[tuple[int, Future[Published]]], ledger: Ledger, leave: int, report: Say) -> None:
    """Take acknowledged batches off the front, until `leave` are under way."""
    while len(flight) > leave:
        published = flight[0][1].result()
        events, _ = flight.popleft()
        ledger.add(events, published)  # a Ctrl-C between these two lines repeats a batch, and never skips one
        report("")


def _land_what_came(flight: deque[tuple[int, Future[Published]]], ledger: Ledger) -> None:
    """After a failure or Ctrl-C: the batches that still are acknowledged, up to the first that is not."""
    for _, future in flight:
        future.cancel()
    while flight and not flight[0][1].cancelled() and flight[0][1].exception() is None:
        events, future = flight.popleft()
        ledger.add(events, future.result())


def _patiently(publisher: Publisher, events: Batch, stop: threading.Event, report: Say) -> Published:
    """Publish, and try again for up to PATIENCE_S while the front door is away or sheds."""
    until, pause = time.monotonic() + PATIENCE_S, 0.1
    while True:
        try:
            return publisher.publish(events, TIMEOUT_S)
        except RETRIED as error:
            if stop.is_set() or time.monotonic() + pause > until:
                raise
            report(f"trying again in {pause:.1f} s: {error}")
        stop.wait(pause)
        pause = min(pause * 2, 5.0)


class Rate(ProgressColumn):
    """Events a second."""

    def render(self, task: Task) -> Text:
        """The rate of the last half minute."""
        return Text(f"{task.speed:,.0f} events/s" if task.speed else "- events/s")


def load(
    dataset: Annotated[str, typer.Argument(help=f"one of {', '.join(DATASETS)}")],
    path: Annotated[Path, typer.Argument(help="the folder of its files", exists=True, file_okay=False)],
    config: Annotated[Path | None, typer.Option(help="the mesh.toml that the mesh was started with")] = None,
    data: Annotated[Path | None, typer.Option(help="the mesh's data folder; that of the config by default")] = None,
    batch: Annotated[int, typer.Option(min=1, max=20_000, help="events a batch")] = 1000,
) -> None:
    """Load people's data into the running mesh; what was loaded before is not loaded again.

    Examples:

    feedmesh load parquet data/demo

    feedmesh load lastfm ~/lastfm --config mesh.toml --batch 5000
    """
    if dataset not in DATASETS:
        known = "; ".join(f"{name}: {what}" for name, what in DATASETS.items())
        raise typer.BadParameter(f"{dataset!r} is none of the sets known. {known}", param_hint="DATASET")
    try:
        _load(dataset, path, data_of(config, data), batch)
    except (MeshError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def _load(name: str, path: Path, data: Path, batch: int) -> None:
    console = Console(stderr=True)
    with console.status(f"reading {path}"):
        dataset: Dataset = import_module(f"datasets.{name}").open(path)
    ledger = Ledger(data, dataset)
    before = msgspec.structs.replace(ledger.loaded)
    when = datetime.fromtimestamp(before.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if before.at_ms and before.events == before.size:
        typer.echo(f"already loaded: {before.events:,} events on {when}; nothing to do")
        return
    if before.events:
        typer.echo(f"going on after {before.events:,} of {before.size:,} events, loaded until {when}", err=True)
        if wall_clock() - before.at_ms > DAY_MS:
            typer.echo(
                "if that load was killed, its last second of saves may count twice: it is over a day ago", err=True
            )
    began = time.perf_counter()
    opened: AbstractContextManager[Publisher] = import_module("roadrunner.client").open_publisher(data)
    with opened as publisher:
        _publish(dataset, publisher, ledger, batch, console)
    _summary(dataset, before, ledger.loaded, time.perf_counter() - began)


def _publish(dataset: Dataset, publisher: Publisher, ledger: Ledger, batch: int, console: Console) -> None:
    """`pump` under a progress bar. Ctrl-C stops it in good order and is a failure."""
    columns = (
        TextColumn("loading {task.fields[name]}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, TextColumn("{task.fields[said]}"), console=console) as progress:
        start: dict[str, Any] = {
            "total": dataset.size,
            "completed": ledger.loaded.events,
            "said": "",
            "name": dataset.name,
        }
        task = progress.add_task("", **start)

        def report(said: str) -> None:
            progress.update(task, completed=ledger.loaded.events, said=said)

        try:
            pump(dataset, publisher, ledger, batch, report)
        except KeyboardInterrupt:
            progress.stop()
            done = f"{ledger.loaded.events:,} of {dataset.size:,} events"
            typer.echo(f"stopped after {done}; the same command goes on from there", err=True)
            raise typer.Exit(1) from None


def _summary(dataset: Dataset, before: Loaded, after: Loaded, seconds: float) -> None:
    events = after.events - before.events
    accepted, duplicates = after.accepted - before.accepted, after.duplicates - before.duplicates
    rate = f"{seconds:.1f} s, {events / max(seconds, 1e-9):,.0f} events/s"
    typer.echo(f"{dataset.name}: {accepted:,} events accepted, {duplicates:,} duplicates, {rate}")
    for note in dataset.notes:
        typer.echo(f"  {note}")
