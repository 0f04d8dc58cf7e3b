"""Three Kafka brokers, one on each host, which are their own controllers: each record on all three, two of which must have it."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from services.core.settings import KafkaSettings, MeshSettings
from services.log import kafka_topics
from services.log.kafka_cluster import parse
from tests.drill.cluster.hosts import Host
from tests.kafka.broker import CLUSTER_ID, JAVA, WITHIN_S

PORT, CONTROLLER_PORT = 9092, 9093
SETTINGS = KafkaSettings(replication_factor=3, min_insync_replicas=2)
HEAP = ["-Xmx256m", *JAVA[1:]]
CONFIG = """process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{address}:9092,CONTROLLER://{address}:9093
advertised.listeners=PLAINTEXT://{address}:9092
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=6000
offsets.topic.num.partitions=3
offsets.topic.replication.factor=3
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


class Broker:
    """The broker of one host."""

    def __init__(self, host: Host, number: int, voters: str) -> None:
        self.host = host
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = host.folder / "broker"
        self._folder.mkdir()
        self._config = self._folder / "server.properties"
        logs = self._folder / "logs"
        self._config.write_text(CONFIG.format(number=number, voters=voters, address=host.address, logs=logs))

    def format(self) -> "subprocess.Popen[bytes]":
        """Begin to format its folder."""
        words = ["java", *HEAP, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", self._config]
        with (self._folder / "said").open("ab") as said:
            return subprocess.Popen([*map(str, words)], stdout=said, stderr=said, stdin=subprocess.DEVNULL)

    def start(self) -> None:
        """Begin to start."""
        with (self._folder / "said").open("ab") as said:
            command = self.host.inside("java", *HEAP, "kafka.Kafka", self._config)
            self.process = subprocess.Popen(
                command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, cwd=self._folder, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Of the process, which is the Java machine itself, since the programs before it become it."""
        assert self.process is not None
        return self.process.pid

    def said(self) -> str:
        """The end of what it wrote."""
        return (self._folder / "said").read_text()[-2000:]

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            if self.runs:
                os.kill(self.pid, signal.SIGKILL)
            self.process.wait(WITHIN_S)


class Brokers:
    """All of them."""

    def __init__(self, on: Sequence[Host]) -> None:
        """Prepare them."""
        voters = ",".join(f"{number}@{host.address}:{CONTROLLER_PORT}" for number, host in enumerate(on, 1))
        self.servers = ",".join(f"{host.address}:{PORT}" for host in on)
        self.url = f"kafka://{self.servers}/drill"
        self.all = [Broker(host, number, voters) for number, host in enumerate(on, 1)]

    def start(self) -> None:
        """Format and start them; returns once the mesh's topics are there."""
        for formatting in [broker.format() for broker in self.all]:
            assert not formatting.wait(WITHIN_S), "a broker's folder could not be formatted"
        for broker in self.all:
            broker.start()
        self.until_in_sync()
        kafka_topics.make(parse(self.url, MeshSettings().partitions, SETTINGS), WITHIN_S)

    def of(self, host: str) -> Broker:
        """The broker of a host."""
        return next(broker for broker in self.all if broker.host.name == host)

    def sections(self) -> dict[str, Any]:
        """The settings of a mesh whose log is there."""
        return {"mesh": {"log": self.url}, "kafka": msgspec.to_builtins(SETTINGS)}

    def until_in_sync(self) -> None:
        """Wait until all answer and every partition is on all of them."""
        end, why = time.monotonic() + WITHIN_S, ""
        while (why := self.out_of_sync()) and time.monotonic() < end:
            for broker in self.all:
                assert broker.runs, broker.said()
            time.sleep(0.3)
        assert not why, f"brokers are not in sync within {WITHIN_S} s: {why}"

    def out_of_sync(self) -> str:
        """What keeps them from being in sync; empty when all are."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            found = AdminClient({"bootstrap.servers": self.servers, "log_level": 0}).list_topics(timeout=5)
        except KafkaException as error:
            return str(error)
        if len(found.brokers) < len(self.all):
            return f"{len(found.brokers)} brokers"
        partitions = [part for topic in found.topics.values() for part in topic.partitions.values()]
        behind = sum(len(part.isrs) < len(part.replicas) for part in partitions)
        return f"{behind} partitions are not on all" if behind else ""

    def stop(self) -> None:
        """End all of them."""
        for broker in self.all:
            broker.kill()
