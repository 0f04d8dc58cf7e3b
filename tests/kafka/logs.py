"""Logs on the broker of the tests."""

from services.log import kafka_topics
from services.log.kafka_cluster import Cluster, parse
from tests.kafka.broker import SETTINGS, Broker

WITHIN_S = 60.0


def new_log(broker: Broker, partitions: int) -> Cluster:
    """A log of its own, with nothing in it."""
    cluster = parse(broker.url(), partitions, SETTINGS)
    kafka_topics.make(cluster, WITHIN_S)
    return cluster
