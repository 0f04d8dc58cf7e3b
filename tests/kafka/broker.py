"""A real Kafka broker for tests, of the jars that `make kafka` fetches: one for the session, a prefix of topics for each test."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from services.core.settings import KafkaSettings

ROOT = Path(__file__).resolve().parents[2] / ".kafka"
LIBS = ROOT / "libs"
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # one that begins with a dash would be taken for an option
WITHIN_S = 120.0  # the JVM starts slowly on a machine that is shared
CONFIG = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
JAVA = ["-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{LIBS}/*"]
#: Of one broker.
SETTINGS = KafkaSettings(replication_factor=1, min_insync_replicas=1)


def missing() -> str:
    """Why there is no broker here, and how to get one; empty where there is."""
    if shutil.which("java") is None or not any(LIBS.glob("kafka_*.jar")):
        return (
            "NOT TESTED: the log on Kafka. There is no broker here; to test it: "
            "apt-get install openjdk-17-jre-headless maven && make kafka"
        )
    if find_spec("confluent_kafka") is None:
        return "NOT TESTED: the log on Kafka. There is no client here; to test it: make setup .venv/made-dev"
    return ""


class Broker:
    """One broker, which is also its controller; stopped and started again on the same ports and folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, controller = _free_ports()
        self._config = folder / "server.properties"
        self._config.write_text(CONFIG.format(port=self.port, controller=controller, logs=folder / "logs"))
        shutil.copytree(_formatted(), folder / "logs")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once it answers."""
        with (self._folder / "log").open("ab") as log:
            command = ["java", *JAVA, "kafka.Kafka", str(self._config)]
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._folder
            )
        end = time.monotonic() + WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-4000:]
            assert time.monotonic() < end, (
                f"no broker within {WITHIN_S} s: {(self._folder / 'log').read_text()[-4000:]}"
            )

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            # A client of its own each time: one that was refused waits ever longer before it connects again.
            return bool(AdminClient({"bootstrap.servers": self.servers, "log_level": 0}).list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def stop(self) -> None:
        """kill -9: what it has acknowledged is in the kernel's hands."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def url(self) -> str:
        """`[mesh] log` of a log of its own."""
        return f"kafka://{self.servers}/t{secrets.token_hex(6)}"


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _formatted() -> Path:
    """A formatted folder, which is made once: the tool takes seconds."""
    made = ROOT / "formatted"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=ROOT) as draft:
            logs, config = Path(draft, "logs"), Path(draft, "server.properties")
            config.write_text(CONFIG.format(port=9092, controller=9093, logs=logs))
            command = ["java", *JAVA, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(config)]
            subprocess.run(command, check=True, capture_output=True, timeout=WITHIN_S)
            try:
                os.rename(logs, made)
            except OSError:  # another test process was quicker
                assert made.exists()
    return made


@contextmanager
def running_broker() -> Iterator[Broker]:
    """A broker until the block ends."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-kafka-", ignore_cleanup_errors=True) as folder:
        broker = Broker(Path(folder))
        try:
            yield broker
        finally:
            broker.stop()
