"""`feedmesh log`: the topics of a log on Kafka."""

from typing import Annotated, Any

import typer

from cli.console import Config, out, plainly, sections_of
from services.core.errors import InvalidArgument
from services.log.reading import EMBEDDED, check_client

app = typer.Typer(help="The log on Kafka: make its topics, and check them.", no_args_is_help=True)
Timeout = Annotated[float, typer.Option(min=1, help="seconds that the cluster has for each answer")]


def _cluster(config: Config) -> Any:
    """The cluster that the settings name. Raises InvalidArgument where they name none."""
    sections = sections_of(config, None)
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
    cluster = _cluster(config)
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
    cluster = _cluster(config)
    from services.log import kafka_topics

    kafka_topics.check(cluster, timeout)
    out.print(f"{cluster}: the log {cluster.prefix} is as it must be", highlight=False)
