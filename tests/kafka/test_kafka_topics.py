"""`feedmesh log init` on a real broker: what it makes, and what it refuses, by topic, setting, value and what is allowed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from typer.testing import CliRunner

from cli.main import app
from services.core.errors import Conflict, DeadlineExceeded, InvalidArgument, NotReady, Unavailable
from services.core.settings import KafkaSettings
from services.log import kafka_topics
from services.log.kafka import KafkaReader
from services.log.kafka_cluster import Cluster, parse, security
from tests.kafka.broker import SETTINGS, Broker, running_broker
from tests.kafka.logs import WITHIN_S, new_log

PARTITIONS = 2


def with_settings(cluster: Cluster, **changes: object) -> Cluster:
    return replace(cluster, settings=msgspec.structs.replace(SETTINGS, **changes))


def alter(cluster: Cluster, topic: str, setting: str, value: str) -> None:
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": cluster.servers})
    admin.incremental_alter_configs([resource])[resource].result(WITHIN_S)


def test_topics_are_made_once_and_then_checked(broker: Broker) -> None:
    cluster = parse(broker.url(), PARTITIONS, SETTINGS)
    with pytest.raises(Conflict, match=rf"topic {cluster.prefix}\.meta is missing; `feedmesh log init` makes it"):
        kafka_topics.check(cluster, WITHIN_S)
    assert sorted(kafka_topics.make(cluster, WITHIN_S)) == sorted(cluster.names)
    reader = KafkaReader(cluster)
    before = reader.history(WITHIN_S)
    assert kafka_topics.make(cluster, WITHIN_S) == []
    kafka_topics.check(cluster, WITHIN_S)
    assert reader.history(WITHIN_S) == before
    reader.close()


def test_topics_that_a_broker_has_not_heard_of_are_not_led_yet(broker: Broker) -> None:
    """Brokers hear of a new topic one after the other, and any of them is asked."""
    cluster = parse(broker.url(), PARTITIONS, SETTINGS)
    assert not kafka_topics._are_led(cluster, cluster.admin(), [], WITHIN_S)
    kafka_topics.make(cluster, WITHIN_S)
    assert kafka_topics._are_led(cluster, cluster.admin(), cluster.names, WITHIN_S)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("message.timestamp.type", "CreateTime"),
        ("retention.ms", "86400000"),
        ("cleanup.policy", "compact"),
        ("max.message.bytes", "1000"),
    ],
)
def test_a_setting_that_is_otherwise_is_named_with_its_value_and_what_is_allowed(
    broker: Broker, setting: str, value: str
) -> None:
    cluster = new_log(broker, PARTITIONS)
    topic = f"{cluster.prefix}.objects"
    wanted = kafka_topics.wanted(cluster)[topic].config[setting]
    alter(cluster, topic, setting, value)
    with pytest.raises(Conflict, match=rf"topic {topic} has {setting} = {value}, allowed is {wanted}"):
        kafka_topics.make(cluster, WITHIN_S)


def test_another_number_of_partitions_is_refused_everywhere(broker: Broker) -> None:
    cluster = new_log(broker, PARTITIONS)
    other = replace(cluster, partitions=3)
    with pytest.raises(Conflict, match=r"has 2 partitions, allowed are 3: \[mesh\] partitions"):
        kafka_topics.make(other, WITHIN_S)
    reader = KafkaReader(other)
    with pytest.raises(NotReady, match=r"was made with 2 partitions, and \[mesh\] partitions = 3"):
        reader.history(WITHIN_S)
    reader.close()


def test_more_replicas_than_brokers_are_refused(broker: Broker) -> None:
    cluster = with_settings(parse(broker.url(), PARTITIONS, SETTINGS), replication_factor=3)
    with pytest.raises(InvalidArgument, match=r"can't be made with \[kafka\] replication_factor = 3"):
        kafka_topics.make(cluster, WITHIN_S)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"min_insync_replicas": 2}, r"min_insync_replicas = 2: allowed are 1 to the replication_factor, 1"),
        ({"retention_hours": 0}, r"retention_hours = 0: allowed are -1, without limit, and 1 or more"),
        ({"ingest_retention_hours": 24}, r"ingest_retention_hours = 24: allowed are -1, without limit, and 48 or more"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, int], says: str) -> None:
    cluster = with_settings(parse("kafka://nowhere:1/any", PARTITIONS, SETTINGS), **changes)
    with pytest.raises(InvalidArgument, match=says):
        kafka_topics.wanted(cluster)


def test_a_cluster_that_is_away_is_an_error_within_the_deadline() -> None:
    cluster = parse("kafka://127.0.0.1:1/any", PARTITIONS, SETTINGS)
    with pytest.raises((DeadlineExceeded, Unavailable), match=r"Kafka at 127\.0\.0\.1:1"):
        kafka_topics.make(cluster, 1.0)
    reader = KafkaReader(cluster)
    for ask in (reader.history, reader.ends):
        with pytest.raises((DeadlineExceeded, Unavailable), match=r"Kafka at 127\.0\.0\.1:1"):
            ask(1.0)
    reader.close()


def test_topics_that_are_made_again_are_another_log_and_an_epoch_begins_at_their_ends(broker: Broker) -> None:
    cluster = new_log(broker, PARTITIONS)
    reader = KafkaReader(cluster)
    first = reader.history(WITHIN_S)
    number = kafka_topics.begin_epoch(cluster, WITHIN_S)
    second = reader.history(WITHIN_S)
    assert second.identity == first.identity
    assert [epoch.number for epoch in second.epochs] == [first.epoch, number]
    kafka_topics.delete(cluster, WITHIN_S)
    reader.close()
    kafka_topics.make(replace(cluster, prefix=f"{cluster.prefix}-again"), WITHIN_S)
    again = KafkaReader(replace(cluster, prefix=f"{cluster.prefix}-again"))
    assert again.history(WITHIN_S).identity != first.identity
    again.close()


def test_security_is_passed_on_and_nothing_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("# of the mesh\nsasl.password = a=b \n\n")
    settings = KafkaSettings(client={"security.protocol": "SASL_SSL"}, client_file=str(secret))
    assert security(settings) == {"security.protocol": "SASL_SSL", "sasl.password": "a=b"}
    with pytest.raises(InvalidArgument, match=r"'acks' is not allowed; allowed are names that begin with security\."):
        security(KafkaSettings(client={"acks": "0"}))
    secret.write_text("sasl.password\n")
    with pytest.raises(InvalidArgument, match=r"secret:1: allowed are lines of `name = value`"):
        security(settings)
    with pytest.raises(InvalidArgument, match="client_file = '/nowhere': No such file"):
        security(KafkaSettings(client_file="/nowhere"))


def test_the_command_makes_and_checks_them(broker: Broker, tmp_path: Path) -> None:
    config, url = tmp_path / "mesh.toml", broker.url()
    config.write_text(
        f'[mesh]\npartitions = 2\nlog = "{url}"\n[kafka]\nreplication_factor = 1\nmin_insync_replicas = 1\n'
    )
    ran = CliRunner().invoke(app, ["log", "check", "--config", str(config)])
    assert ran.exit_code == 1
    for said in ("made", "is as it must be"):
        ran = CliRunner().invoke(app, ["log", "init", "--config", str(config)])
        assert (ran.exit_code, said in ran.stdout) == (0, True), ran.output
    assert CliRunner().invoke(app, ["log", "check", "--config", str(config)]).exit_code == 0
    config.write_text("[mesh]\n")
    assert CliRunner().invoke(app, ["log", "init", "--config", str(config)]).exit_code == 2


def test_another_number_of_partitions_of_accepted_batches_is_refused(broker: Broker) -> None:
    cluster = new_log(broker, 4, ingest=2)
    other = with_settings(cluster, ingest_partitions=3)
    with pytest.raises(Conflict, match=r"ingest has 2 partitions, allowed are 3: \[kafka\] ingest_partitions is"):
        kafka_topics.check(other, WITHIN_S)
    reader = KafkaReader(other)
    with pytest.raises(
        NotReady, match=r"made with 2 partitions of accepted batches, and \[kafka\] ingest_partitions = 3"
    ):
        reader.history(WITHIN_S)
    reader.close()
    assert with_settings(cluster, ingest_partitions=9).ingest_partitions == 4, "no more than other topics have"


def test_a_question_is_answered_though_its_broker_was_away_for_a_while(broker: Broker) -> None:
    """On a broker of its own: others use that of the session."""
    with running_broker() as mine:
        reader = KafkaReader(new_log(mine, PARTITIONS))
        ends, history = reader.ends(WITHIN_S), reader.history(WITHIN_S)
        mine.stop()
        with pytest.raises((DeadlineExceeded, Unavailable)):
            reader.ends(0.5)
        with ThreadPoolExecutor(2) as pool:
            asked = pool.submit(reader.ends, WITHIN_S), pool.submit(reader.history, WITHIN_S)
            mine.start()
            assert [one.result() for one in asked] == [ends, history]
        reader.close()
