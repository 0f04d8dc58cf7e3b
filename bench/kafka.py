"""The log on Kafka: one broker beside the mesh, on the same cores. The ingest API, and views that apply from it and from the
embedded log, each on one core.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aperture import layout as aperture_layout
from aperture.store import ApertureStore
from apiary import layout as apiary_layout
from apiary.store import ApiaryStore
from bench import ingest
from bench.report import Figure
from bench.rounds import on_one_core
from bench.views import BATCH, OWN, PARTITIONS, engagements, follows
from cli.schema import SCHEMA
from roadrunner.client import Publisher
from services.core import settings
from services.core.clock import wall_clock
from services.core.events import Batch
from services.core.topics import INGEST, Topic
from services.log.protocol import Reader
from services.log.reading import kafka_reader, on_kafka, open_reader
from services.ops import supervisor
from services.ops.planning import plan
from services.rpc.mesh import Mesh
from services.state.shard import Shard
from tests.kafka.broker import missing, running_broker
from tests.kafka.logs import on_broker
from tests.running import Running, ends_of, until_gone_through

EVENTS = 400_000
TARGETS = {"batches of 1,000, 8 writers": 100_000.0}  # that of the log on Kafka
VIEWS: dict[str, tuple[Any, Any, Batch]] = {
    "apiary": (lambda shard: ApiaryStore(shard, OWN, PARTITIONS), apiary_layout, follows(EVENTS, 1)),
    "aperture": (
        lambda shard: ApertureStore(shard, OWN, PARTITIONS, wall_clock),
        aperture_layout,
        engagements(EVENTS, 3),
    ),
}


@contextmanager
def roadrunner(sections: dict[str, Any]) -> Iterator[Running]:
    """It alone, on a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        given = {name: dict(section) for name, section in sections.items()}
        given["mesh"] = {"data": folder, "partitions": PARTITIONS} | given.get("mesh", {})
        planned = plan(settings.validated(given, "bench", SCHEMA), ["roadrunner"])
        running = Running(supervisor.Supervisor(planned, print), [])
        running.supervisor.start()
        try:
            running.until_ready()
            yield running
        finally:
            running.end()


def measure(_: str | None) -> list[Figure]:
    """Raises RuntimeError where there is no broker."""
    if why := missing():
        raise RuntimeError(why)
    figures: list[Figure] = []
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker())
        with roadrunner(on_broker(broker)) as running:
            found = ingest.of_process(running.mesh.of("roadrunner")[0].address, "kafka")
            figures += [replace(one, target=TARGETS.get(one.what, one.target)) for one in found]
        for name in VIEWS:
            rates = {}
            for log in ("embedded", "Kafka"):
                with roadrunner(on_broker(broker) if log == "Kafka" else {}) as running:
                    rates[log] = applied(running.mesh, name)
                figures.append(Figure("kafka", f"{name} applies, log: {log}", rates[log], "events/s"))
            share = rates["Kafka"] / rates["embedded"]
            figures.append(Figure("kafka", f"{name}: from Kafka, of the embedded rate", share, "share", 0.7))
    return figures


def applied(mesh: Mesh, name: str) -> float:
    """Events a second that a view applies which begins with all of them in the log; the first of three is not counted."""
    make, layout, batch = VIEWS[name]
    publisher = Publisher(mesh)
    for start in range(0, EVENTS, BATCH):
        publisher.publish(batch.slice(start, start + BATCH), 60)
    publisher.close()
    if on_kafka(mesh):
        until_gone_through(mesh, ends_of(kafka_reader(mesh, (INGEST,))), 300)
    rates = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder, on_one_core():
            shard = Shard(Path(folder), layout.FORMAT, layout.FAMILIES, 32, 16)
            log = open_reader(mesh)
            rates.append(followed(log, make(shard)))
            log.close()
            shard.close()
    return sorted(rates[1:])[0]


def followed(log: Reader, view: Any) -> float:
    """Events a second from the first chunk to the last record of USERS."""
    ends = {at: end.next for at, end in log.ends(30).items() if at[0] == Topic.USERS and end.next}
    missing, count, started = set(ends), 0, 0.0
    for chunk in log.subscribe(dict.fromkeys(ends, 0)):
        started = started or time.perf_counter()
        view.apply(view.shard.fresh(chunk))
        count += sum(record.events for record in chunk)
        missing -= {(int(r.topic), r.partition) for r in chunk if r.offset + 1 == ends[int(r.topic), r.partition]}
        if not missing:
            break
    return count / (time.perf_counter() - started)
