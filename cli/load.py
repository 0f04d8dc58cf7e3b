"""`feedmesh load`: publishes the new rows of a set of events through roadrunner.

Which rows are in the log is recorded beside the data (ledger.py), so loading again goes on where it stopped, adds new
rows, or does nothing. Several batches are under way in parallel; the record holds the contiguous run of acknowledged
ones.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, redirect_stdout
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
import typer

from cli.archive import move_text, moved
from cli.console import data_of, err, hint, out, plainly
from cli.graph import build
from cli.ledger import AcceptedCounts, Ledger, LedgerDataset, Loaded, alone
from cli.names import reading
from cli.progress import progress
from roadrunner.client import open_publisher
from services.core.clock import DAY_MS, date_text, wall_clock
from services.core.columns import I64, U64
from services.core.errors import DeadlineExceeded, Exhausted, InvalidArgument, Unavailable
from services.core.events import Action, Batch

DATASETS = {
    "lastfm": "Last.fm tag assignments (HetRec 2011)",
    "flickr": "Flickr favourites and follows (DiffNet)",
    "pinterest": "Pinterest saves (NCF)",
    "parquet": "your own: users, interests, boards, pins, follows and events as Parquet files",
    "csv": "ratings or interactions as CSV: MovieLens, Amazon, Goodreads, or your own",
}
IN_FLIGHT = 8
TIMEOUT_S = 10.0
PATIENCE_S = 60.0  # of one batch, over all its attempts
RETRIED = (Unavailable, Exhausted, DeadlineExceeded)
Say = Callable[[str], None]
_as_json: ContextVar[bool] = ContextVar("as_json", default=False)


class Publisher(Protocol):
    """The ingest API; safe to call from several threads."""

    def publish(self, batch: Batch, timeout: float) -> AcceptedCounts:
        """Returns once the batch is on disk. Raises MeshError."""


def pump(dataset: LedgerDataset, publisher: Publisher, ledger: Ledger, batch: int, report: Say) -> None:
    """Publish the rows that are new to the ledger, up to IN_FLIGHT batches in parallel.

    A batch with an unsave waits for those before it, and holds back those after it: it undoes their effect. Raises
    the MeshError of the first batch that failed for good; the ledger is saved whatever happens.
    """
    flight: deque[tuple[int, Future[AcceptedCounts]]] = deque()
    found = ledger.begin()
    ledger.save()  # with the number of this load: events published from here on have its ids
    stop, single = threading.Event(), False
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        try:
            for events in moved(_new(dataset, found, batch), ledger.loaded.moved_ms or 0):
                was_single, single = single, bool((events.action == Action.UNSAVE).any())
                _land(flight, ledger, 0 if single or was_single else IN_FLIGHT - 1, report)
                flight.append((len(events), pool.submit(_patiently, publisher, events, stop, report)))
            _land(flight, ledger, 0, report)
        except BaseException:
            stop.set()
            _land_what_came(flight, ledger)
            ledger.save()
            raise
    ledger.finish()


def _new(dataset: LedgerDataset, found: tuple[I64, U64], size: int) -> Iterator[Batch]:
    """The events at positions, under the ids to publish them under."""
    rows, ids = found
    at = 0
    for events in dataset.chosen(rows, size):
        yield events.replace(id=ids[at : at + len(events)])
        at += len(events)


def _land(flight: deque[tuple[int, Future[AcceptedCounts]]], ledger: Ledger, leave: int, report: Say) -> None:
    """Take acknowledged batches off the front, until `leave` are under way."""
    while len(flight) > leave:
        published = flight[0][1].result()
        events, _ = flight.popleft()
        ledger.add(events, published)  # a Ctrl-C between these two lines repeats a batch, and never skips one
        report("")


def _land_what_came(flight: deque[tuple[int, Future[AcceptedCounts]]], ledger: Ledger) -> None:
    """After a failure or Ctrl-C: the batches that still are acknowledged, up to the first that is not."""
    for _, future in flight:
        future.cancel()
    while flight and not flight[0][1].cancelled() and flight[0][1].exception() is None:
        events, future = flight.popleft()
        ledger.add(events, future.result())


def _patiently(publisher: Publisher, events: Batch, stop: threading.Event, report: Say) -> AcceptedCounts:
    """Publish, and try again for up to PATIENCE_S while the ingest API is away or sheds."""
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


Csv = partial(typer.Option, rich_help_panel="csv")
Columns = Annotated[str, Csv(help="the columns, in order, of a file without a header; - is not read")]
Separator = Annotated[str, Csv(help="one character, or ::, or tab; found out by default")]
Encoding = Annotated[str, Csv(help="such as latin-1 or utf-16; by default UTF-8, or else windows-1252")]
SaveFrom = Annotated[float | None, Csv(help="the lowest rating that is a save; by default 3/4 up the scale: 4 of 5")]
Quotes = Annotated[bool, Csv(help="whether quotes enclose values")]
KeepDates = Annotated[
    bool,
    typer.Option("--keep-dates", help="leave old dates; else a set whose newest is over a week old is moved to today"),
]
Graph = Annotated[
    bool | None, typer.Option("--graph/--no-graph", help="build the graph afterwards; csv does, others do not")
]


@plainly
def load(
    dataset: Annotated[str, typer.Argument(help=f"one of {', '.join(DATASETS)}")],
    path: Annotated[Path, typer.Argument(help="the folder of its files; with csv a file, too", exists=True)],
    config: Annotated[Path | None, typer.Option(help="the mesh.toml that the mesh was started with")] = None,
    data: Annotated[Path | None, typer.Option(help="the mesh's data folder; that of the config by default")] = None,
    batch: Annotated[int, typer.Option(min=1, max=20_000, help="events a batch")] = 1000,
    keep_dates: KeepDates = False,
    graph: Graph = None,
    columns: Columns = "",
    separator: Separator = "",
    encoding: Encoding = "",
    save_from: SaveFrom = None,
    quotes: Quotes = True,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
) -> None:
    """Load people's data into the running mesh; rows that were loaded before are not loaded again.

    Examples:

    feedmesh load parquet data/demo

    feedmesh load lastfm ~/lastfm --config mesh.toml --batch 5000

    feedmesh load csv ml-latest-small

    feedmesh load csv ratings.dat.gz --columns user,item,rating,timestamp --save-from 4

    feedmesh load csv plays.tsv --columns user,item,-,timestamp --keep-dates

    csv reads a file of interactions (user and item; rating, timestamp, board, title, genres and link if there are any), or a
    folder with one and a file of items (item, title, genres, link). Separator, encoding, header and compression are found
    out. Each user gets a board; the graph is built afterwards.
    """
    if dataset not in DATASETS:
        known = "; ".join(f"{name}: {what}" for name, what in DATASETS.items())
        raise typer.BadParameter(f"{dataset!r} is none of the sets known. {known}", param_hint="DATASET")
    folder = data_of(config, data)
    _as_json.set(as_json)
    try:
        opened = _opening(dataset, path, (columns, separator, encoding, quotes), save_from)
        with alone(folder, dataset):
            summary = _load(opened, path, folder, batch, keep_dates)
    except OSError as error:
        raise Unavailable(f"{error.filename or path}: {error.strerror or error}") from None
    if summary.new and (dataset == "csv" if graph is None else graph):
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            build(data=folder)
    if as_json:
        out.print_json(data=msgspec.to_builtins(summary))


def _opening(
    name: str, path: Path, form: tuple[str, str, str, bool], save_from: float | None
) -> Callable[[], LedgerDataset]:
    """The function that opens the set. form: columns, separator, encoding, quotes, as stated."""
    if name == "csv":
        from loaders import ratings
        from loaders.delimited import form_of

        options = ratings.Options(form_of(*form), save_from)
        return partial(ratings.open, path, options)
    if form != ("", "", "", True) or save_from is not None:
        raise InvalidArgument(
            "--columns, --separator, --encoding, --no-quotes and --save-from are allowed with csv alone"
        )
    if not path.is_dir():
        raise InvalidArgument(f"{path}: not a folder; {name} is a folder of files, and csv may be a file")
    from loaders import flickr, lastfm, parquet, pinterest

    opens = {"flickr": flickr.open, "lastfm": lastfm.open, "parquet": parquet.open, "pinterest": pinterest.open}
    return partial(opens[name], path)


class Summary(msgspec.Struct, kw_only=True):
    """The result of a load. `new` of `rows` rows were published by it; `duplicates` of them roadrunner knew by their ids."""

    set: str
    rows: int
    new: int
    accepted: int = 0
    duplicates: int = 0
    moved_ms: int = 0
    seconds: float = 0.0
    notes: list[str] = msgspec.field(default_factory=list)


def _load(opened: Callable[[], LedgerDataset], path: Path, data: Path, batch: int, keep_dates: bool) -> Summary:
    with reading(data) as named:
        with err.status(f"reading {path}"):
            dataset: LedgerDataset = named(opened())
        return _load_read(dataset, data, batch, keep_dates)


def _load_read(dataset: LedgerDataset, data: Path, batch: int, keep_dates: bool) -> Summary:
    ledger = Ledger(data, dataset)
    before = msgspec.structs.replace(ledger.loaded)
    when = date_text(before.at_ms)
    if ledger.is_done:
        _say(f"already loaded: {before.size:,} rows, 0 new; loaded on {when}; nothing to do")
        return Summary(set=dataset.name, rows=dataset.size, new=0, moved_ms=before.moved_ms or 0, notes=dataset.notes)
    if 0 < before.events < before.size:
        hint(f"going on after {before.events:,} of {before.size:,} events, loaded until {when}")
        if wall_clock() - before.at_ms > DAY_MS:
            hint("if that load was killed, its last second of saves may count twice: it is over a day ago")
    by_ms = ledger.decide_dates(dataset.newest_ms, keep_dates)
    dataset.notes.append(move_text(dataset.newest_ms, by_ms, wall_clock()))
    began = time.perf_counter()
    with open_publisher(data) as publisher:
        _publish(dataset, publisher, ledger, batch)
    return _summary(dataset, before, ledger, time.perf_counter() - began)


def _publish(dataset: LedgerDataset, publisher: Publisher, ledger: Ledger, batch: int) -> None:
    """`pump` with its progress. Ctrl-C stops it in good order and is a failure."""
    with progress(counted=True) as shown:

        def report(said: str) -> None:
            shown(f"loading {dataset.name}", ledger.landed, ledger.new)
            if said:
                err.print(said, highlight=False, markup=False, soft_wrap=True)

        try:
            pump(dataset, publisher, ledger, batch, report)
        except KeyboardInterrupt:
            stopped = f"stopped after {ledger.loaded.events:,} of {dataset.size:,} events"
            hint(f"{stopped}; the same command goes on from there")
            raise typer.Exit(1) from None


def _summary(dataset: LedgerDataset, before: Loaded, ledger: Ledger, seconds: float) -> Summary:
    after, new = ledger.loaded, ledger.new
    accepted, duplicates = after.accepted - before.accepted, after.duplicates - before.duplicates
    if new:
        rate = f"{seconds:.1f} s, {new / max(seconds, 1e-9):,.0f} events/s"
        _say(
            f"{dataset.name}: {dataset.size:,} rows, {new:,} new: {accepted:,} events accepted, {duplicates:,} duplicates, {rate}"
        )
    else:
        _say(f"already loaded: {dataset.size:,} rows, 0 new; nothing to do")
    for note in dataset.notes:
        _say(f"  {note}")
    return Summary(
        set=dataset.name, rows=dataset.size, new=new, accepted=accepted, duplicates=duplicates,
        moved_ms=after.moved_ms or 0, seconds=round(seconds, 3), notes=dataset.notes,
    )  # fmt: skip


def _say(text: str) -> None:
    """A line for people: standard output, or standard error where that is for JSON."""
    (err if _as_json.get() else out).print(text, highlight=False, markup=False, soft_wrap=True)
