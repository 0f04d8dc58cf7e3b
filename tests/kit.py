"""What the tests of several services share: log records without a log, and a mesh of real servers in this process."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from services import mesh as meshes
from services import server as servers
from services.events import Batch
from services.log import Record
from services.mesh import Address, Mesh
from services.metrics import Metrics
from services.server import AddServicer, WaitForToken
from services.settings import MeshSettings
from services.topics import Topic, split


class Offsets:
    """Hands out records as the log would: consecutive offsets in every partition."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._next: dict[tuple[int, int], int] = {}

    def records(self, batch: Batch, topics: tuple[Topic, ...], accepted_ms: int = 0) -> list[Record]:
        """The records of a batch in the topics named."""
        found = []
        for part in split(batch, self.partitions):
            if part.topic in topics:
                at = (int(part.topic), part.partition)
                offset = self._next.get(at, 0)
                self._next[at] = offset + 1
                found.append(Record(part.topic, part.partition, offset, accepted_ms, part.batch))
        return found


def records_of(batch: Batch, partitions: int, topic: Topic) -> list[Record]:
    """The records of the first batch of a log, in one topic."""
    return Offsets(partitions).records(batch, (topic,))


@contextmanager
def serve_shards(
    service: str, shards: list[list[AddServicer]], partitions: int, wait: WaitForToken | None = None
) -> Iterator[Mesh]:
    """A mesh whose one service has these shards (the servicers of each), really listening, until the block ends."""
    with serve_services({service: shards}, partitions, wait) as mesh:
        yield mesh


@contextmanager
def serve_services(
    services: dict[str, list[list[AddServicer]]], partitions: int, wait: WaitForToken | None = None
) -> Iterator[Mesh]:
    """A mesh of several services, each with its shards, in this process."""
    addresses: list[Address] = []
    with ExitStack() as running:
        for service, shards in services.items():
            for shard, servicers in enumerate(shards):
                address = running.enter_context(_serving(service, shard, servicers, wait))
                addresses.append(Address(service=service, shard=shard, shards=len(shards), address=address))
        yield meshes.resolve({"mesh": MeshSettings(partitions=partitions)}, addresses)


@contextmanager
def _serving(service: str, shard: int, servicers: list[AddServicer], wait: WaitForToken | None) -> Iterator[str]:
    server = servers.threaded(Metrics(service, shard), wait, servicers, threads=8, max_requests=128)
    port = servers.bind(server, "127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
