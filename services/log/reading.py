"""How a process reads the log of its mesh, whichever log that is."""

import time
from collections.abc import Iterator

from services.core.errors import Unavailable
from services.log.embedded import EmbeddedReader
from services.log.progress import Progress
from services.log.protocol import Positions, Reader, Record
from services.rpc.mesh import Mesh


def open_reader(mesh: Mesh) -> Reader:
    """A reader of its own of the log that this mesh has: today the embedded one, which roadrunner serves."""
    return EmbeddedReader(mesh)


def read_all(log: Reader, positions: Positions, timeout: float) -> Iterator[list[Record]]:
    """Chunks of records from the positions to the log's present end, where a record of each partition lies, then stop. Repeats
    come without their events (services/log/progress.py). Raises Unavailable after `timeout`, NotReady when a record was lost.
    """
    ends = {at: end.next for at, end in log.ends(timeout).items() if at in positions}
    missing = {at for at, end in ends.items() if positions[at] < end}
    progress = {at: Progress(positions[at], whole=not positions[at]) for at in missing}
    started = time.monotonic()
    for chunk in log.subscribe(positions) if missing else ():
        wanted = [r for r in chunk if r.offset < ends[r.topic, r.partition]]
        yield [found for r in wanted if (found := progress[r.topic, r.partition].pass_over(r)) is not None]
        missing = {at for at in missing if progress[at].next < ends[at]}
        if not missing:
            return
        if time.monotonic() - started > timeout:
            raise Unavailable(f"{len(missing)} partitions of the log were not read to their end within {timeout} s")
