"""Logs on the broker of the tests."""

from typing import Any

import msgspec
from msgspec.structs import replace

from services.core.settings import MeshSettings
from services.log import kafka_topics
from services.log.kafka_cluster import Cluster, parse
from tests.kafka.broker import SETTINGS, Broker

WITHIN_S = 60.0


def on_broker(broker: Broker) -> dict[str, Any]:
    """The sections of settings of a mesh whose log is a new one there, with its topics."""
    url = broker.url()
    kafka_topics.make(parse(url, MeshSettings().partitions, SETTINGS), WITHIN_S)
    return {"mesh": {"log": url}, "kafka": msgspec.to_builtins(SETTINGS)}


def new_log(broker: Broker, partitions: int, ingest: int = 2) -> Cluster:
    """A log of its own, with nothing in it. ingest: partitions of the accepted batches."""
    cluster = parse(broker.url(), partitions, replace(SETTINGS, ingest_partitions=ingest))
    kafka_topics.make(cluster, WITHIN_S)
    return cluster
