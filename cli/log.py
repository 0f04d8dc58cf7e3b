"""`feedmesh log`: the topics of a log on Kafka, and the way there from an embedded log."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import Config, Data, existing, hint, out, plainly, sections_of
from cli.progress import progress
from roadrunner import begun
from services.core.clock import wall_clock
from services.core.durable import rename_durably
from services.core.errors import InvalidArgument
from services.log.reading import EMBEDDED, check_client
from services.ops.supervisor import DataFolder

if TYPE_CHECKING:
    from roadrunner.migration import Migrated
    from services.core.settings import Sections

app = typer.Typer(
    help="The log on Kafka: make its topics, check them, move an embedded log there.", no_args_is_help=True
)
Timeout = Annotated[float, typer.Option(min=1, help="seconds that the cluster has for each answer")]


def _cluster(sections: "Sections") -> Any:
    """The cluster that the settings name. Raises InvalidArgument where they name none."""
    common = sections["mesh"]
    if common.log == EMBEDDED:
        raise InvalidArgument(
            f'[mesh] log = {EMBEDDED!r}: it has no topics; name a cluster, log = "kafka://host:port,host:port/prefix"'
        )
    check_client()
    from services.log.kafka_cluster import parse

    return parse(common.log, common.partitions, sections["kafka"])


@app.command()
@plainly
def init(
    config: Config = None,
    timeout: Timeout = 30.0,
    new_epoch: Annotated[
        bool,
        typer.Option(
            "--new-epoch",
            help="begin an epoch at the log's present end, after brokers were restored from an older copy",
        ),
    ] = False,
) -> None:
    """Make the topics of the log that [mesh] log names, and check those that are there.

    It may be run again at any time, and changes nothing that is there: a topic that is otherwise than it must be is named, with
    its setting, the value, and what is allowed.

    Examples:

        feedmesh log init --config mesh.toml
    """
    cluster = _cluster(sections_of(config, None))
    from services.log import kafka_topics

    made = kafka_topics.make(cluster, timeout)
    if new_epoch:
        out.print(f"epoch {kafka_topics.begin_epoch(cluster, timeout):016x} begins", highlight=False)
    for name in made:
        out.print(f"made {name}", highlight=False)
    out.print(f"{cluster}: the log {cluster.prefix} is as it must be", highlight=False)


@app.command()
@plainly
def check(config: Config = None, timeout: Timeout = 30.0) -> None:
    """Check the topics of the log that [mesh] log names, and make none.

    Examples:

        feedmesh log check --config mesh.toml
    """
    cluster = _cluster(sections_of(config, None))
    from services.log import kafka_topics

    kafka_topics.check(cluster, timeout)
    out.print(f"{cluster}: the log {cluster.prefix} is as it must be", highlight=False)


@app.command()
@plainly
def migrate(
    timeout: Timeout = 30.0,
    config: Config = None,
    data: Data = None,
) -> None:
    """Copy the embedded log of a data folder to the log on Kafka that [mesh] log names, while the mesh is stopped.

    The topics are made if they are not there. The whole history is copied, and with it what was decided by it: owners of boards,
    qualities of pins, ids of the last day. Then all of it is read back and compared. It can be interrupted: called again, it goes
    on behind what is there. When it is done, the log and the views of before are put aside in the data folder, and
    `feedmesh up` builds the views anew from Kafka.

    Examples:

        feedmesh log migrate --config mesh.toml --data data
    """
    sections = sections_of(config, data)
    cluster, folder = _cluster(sections), existing(Path(sections["mesh"].data))
    from services.log import kafka_topics

    held = DataFolder(folder)
    try:
        from cli.checking import LOG_FOLDER

        begun.check_there(folder, folder / LOG_FOLDER)
        if not (folder / LOG_FOLDER).is_dir():
            raise InvalidArgument(f"{folder}: holds no embedded log")
        began = time.monotonic()
        kafka_topics.make(cluster, timeout)
        done = _copied(cluster, folder, folder / LOG_FOLDER)
        took = time.monotonic() - began
        aside = _put_aside(folder)
    finally:
        held.release()
    before = f", {done.before:,} of them there before" if done.before else ""
    out.print(
        f"{cluster}: the log {cluster.prefix} has the whole history: {done.records:,} records{before}, {done.events:,} events of "
        f"views, copied and compared in {took:,.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    hint(f"`feedmesh up` builds the views from it; start it within a week. The log and views of before are in {aside}")


def _copied(cluster: Any, folder: Path, at: Path) -> "Migrated":
    from roadrunner.accepting import Shape
    from roadrunner.migration import EmbeddedHistory, Migration
    from roadrunner.retention import Retention
    from roadrunner.settings import Settings
    from roadrunner.store import EventLog

    log = EventLog(at, cluster.partitions, Retention(0, 0, Settings().segment_mb << 20), wall_clock)
    try:
        with progress() as say, tempfile.TemporaryDirectory(prefix="migrate-", dir=folder / "run") as scratch:
            say("reading the log's last day", 0, 0)
            source = EmbeddedHistory(log, Shape(cluster.partitions, cluster.ingest_partitions))
            return Migration(source, cluster, Path(scratch) / "splitter", say).run()
    finally:
        log.close()


def _put_aside(folder: Path) -> Path:
    """The log and the views that were made of it, out of the way of those to come."""
    from cli.checking import LOG, VIEWS

    aside = folder / begun.ASIDE
    if aside.exists():
        rename_durably(aside, aside.with_name(f"{aside.name}.{wall_clock()}"))
    aside.mkdir()
    for name in (*VIEWS, LOG):  # the log last: with it, it can be called again
        if (folder / name).is_dir():
            rename_durably(folder / name, aside / name)
    return aside
