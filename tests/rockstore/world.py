"""Datasets in rockstores that really listen, and the log that they apply."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from protos.rockstore_pb2_grpc import add_RockstoreServicer_to_server
from rockstore import bulk, layout
from rockstore.client import MergedRows, RockstoreClient, ServedDataset
from rockstore.keys import datasets_of
from rockstore.service import Rockstore
from rockstore.store import TOPICS, RockstoreStore
from rockstore.versions import DatasetManifest
from services.core.columns import F32, U64, ids
from services.core.events import Action, Batch, events
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.rpc.mesh import Mesh
from services.rpc.server import AddServicer
from tests.kit import asked, open_shards, serve_shards

A = Action
PARTITIONS = 8
T0 = 1_700_000_000_000
KEYS = np.unique(np.random.default_rng(5).integers(1, 2**64, 500, np.uint64, endpoint=False))
MATRIX: F32 = np.random.default_rng(6).standard_normal((len(KEYS), 3)).astype(np.float32)


def parquet(path: Path, keys: U64, **columns: Any) -> Path:
    pq.write_table(pa.table({"pin": keys, **columns}), path, row_group_size=100)
    return path


def load(folder: Path, keys: U64 = KEYS, matrix: F32 = MATRIX, names: str = "abc", **options: Any) -> DatasetManifest:
    """A version of the dataset `taste`, its rows in any order."""
    order = np.random.default_rng(7).permutation(len(keys))
    columns = {name: matrix[order, i] for i, name in enumerate(names)}
    path = parquet(folder / "in.parquet", keys[order], **columns)
    return bulk.load(path, datasets_of(folder), "taste", PARTITIONS, options.pop("as_of_ms", T0), **options)


def switch(version: int, dataset: str = "taste") -> Batch:
    return events(1, action=A.SWITCH_DATASET, target=version, title=[dataset], at_ms=T0)


def put(key: int, values: list[float], at_ms: int, dataset: str = "taste") -> Batch:
    return events(1, action=A.PUT_FEATURES, target=key, title=[dataset], at_ms=at_ms, features=[values])


class Rockstores:
    """The shards of a rockstore, and the log that they apply."""

    def __init__(self, folder: Path, stores: list[RockstoreStore], owns: list[range], mesh: Mesh) -> None:
        self.folder, self.stores, self.mesh, self._owns = folder, stores, mesh, owns
        self.offsets, self.log = MemoryLog(PARTITIONS), list[Record]()

    def apply(self, *batches: Batch) -> None:
        """Append to the log, and have every shard apply it."""
        for batch in batches:
            self.log += self.offsets.append(batch, TOPICS)
        self.follow()

    def follow(self) -> None:
        for store, own in zip(self.stores, self._owns, strict=True):
            store.apply(store.shard.fresh([record for record in self.log if record.partition in own]))

    def rows(self, keys: object, dataset: str = "taste") -> MergedRows:
        found: MergedRows = asked(RockstoreClient, self.mesh, lambda client: client.rows(dataset, ids(keys), 5))
        return found

    def datasets(self) -> list[ServedDataset]:
        return asked(RockstoreClient, self.mesh, lambda client: client.datasets(5))


def servicer(store: RockstoreStore) -> AddServicer:
    return lambda server: add_RockstoreServicer_to_server(Rockstore(store), server)


@contextmanager
def opened(folder: Path, shards: int) -> Iterator[Rockstores]:
    with ExitStack() as stack:
        made = stack.enter_context(
            open_shards(folder / "rockstore", layout.FORMAT, layout.FAMILIES, shards, PARTITIONS)
        )
        stores = [RockstoreStore(shard, own, PARTITIONS, datasets_of(folder), 3) for shard, own in made]
        mesh = stack.enter_context(serve_shards("rockstore", [[servicer(store)] for store in stores], PARTITIONS))
        yield Rockstores(folder, stores, [own for _, own in made], mesh)
