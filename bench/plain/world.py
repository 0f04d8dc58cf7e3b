"""The events of a running mesh's log as files, for the plain stack to load: the same data in the same order."""

from pathlib import Path

import msgspec
import numpy as np

from services.core.events import IS_ENGAGEMENT, RESERVED_FROM, Batch
from services.core.topics import Topic
from services.log.reading import open_reader, read_all
from services.rpc.mesh import Mesh

WITHIN_S = 300.0
COLUMNS = ("action", "user", "pin", "board", "target", "at_ms", "quality")
TOPICS = {Topic.USERS: "users", Topic.SOURCES: "sources", Topic.OBJECTS: "objects"}


def export(mesh: Mesh, folder: Path) -> int:
    """`<topic>.npz` of the columns, and `texts.msgpack`: title, link and interests of objects. How many events there were."""
    log, total = open_reader(mesh), 0
    try:
        ends = log.ends(WITHIN_S)
        for topic, name in TOPICS.items():
            of_topic = {at: end.first for at, end in ends.items() if at[0] == topic}
            chunks = read_all(log, of_topic, WITHIN_S)
            batch = _people(Batch.concat([record.batch for chunk in chunks for record in chunk]))
            np.savez(folder / f"{name}.npz", **{column: getattr(batch, column) for column in COLUMNS})
            total += len(batch)
            if topic == Topic.OBJECTS:
                (folder / "texts.msgpack").write_bytes(msgspec.msgpack.encode(_texts(batch)))
    finally:
        log.close()
    return total


def _people(batch: Batch) -> Batch:
    """Without the events by which the mesh watches itself."""
    own = [getattr(batch, name) >= np.uint64(RESERVED_FROM) for name in ("user", "pin", "board", "target")]
    return batch.take(np.flatnonzero(~np.logical_or.reduce(own)))


def _texts(batch: Batch) -> list[tuple[str, str, list[int]]]:
    stated = batch.take(np.flatnonzero(~IS_ENGAGEMENT[batch.action]))
    rows = range(len(stated))
    return [
        (bytes(stated.title.run(i)).decode(), bytes(stated.link.run(i)).decode(), stated.interests.run(i).tolist())
        for i in rows
    ]
