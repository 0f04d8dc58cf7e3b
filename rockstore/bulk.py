"""The bulk loader: one Parquet file of features becomes one version of a dataset, a sorted file a partition.

It needs no mesh: a shard takes the files from the blobs when the log says so. Errors of the Parquet file are
refused before a version is there. Keys are held in memory, rows one partition at a time: they pass through files of the draft.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rocksdict import BlockBasedOptions, DBCompressionType, Options, SstFileWriter

from loaders.convert import plain
from loaders.ids import read_ids
from loaders.place import Place
from loaders.text_ids import settle
from rockstore import keys, layout
from rockstore.versions import DatasetManifest, PartitionFile, check_name, checksum, read_manifest, summed, to_json
from services.blob.protocol import Blobs
from services.core.checks import check_ascending, check_lengths
from services.core.columns import F32, U64, Array, ids
from services.core.errors import Conflict, Exhausted, InvalidArgument, MeshError
from services.core.events import MAX_FEATURES
from services.core.topics import partition_of

VALUES_AT_ONCE = 4_000_000  # float32s of the Parquet file that are decoded at once
ROWS_AT_ONCE = 65_536
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
Report = Callable[[int, int], None]  # done, of


class ParquetSource:
    """A Parquet file of a key column and columns of numbers, checked by its schema and keys."""

    def __init__(self, path: Path, key: str) -> None:
        """Raises InvalidArgument naming the file, the column and the first row that is wrong. Keys are read as all ids are
        (loaders/ids.py), as text where text is being read.
        """
        self.path, self.key = path, key
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise InvalidArgument(f"{path}: can't be read as Parquet: {error}") from None
        self.columns = self._features(self._file.schema_arrow)
        self.keys = self._keys()

    def fail(self, column: str, why: str) -> None:
        """Refuse the file for a column. Raises InvalidArgument."""
        raise InvalidArgument(f"{self.path}: column {column!r} {why}")

    def _features(self, schema: pa.Schema) -> list[str]:
        """The columns other than the key."""
        for name in schema.names:
            if schema.names.count(name) > 1:
                self.fail(name, "is there more than once")
        if self.key not in schema.names:
            self.fail(self.key, f"is missing, and it is the key; the file has {', '.join(schema.names) or 'none'}")
        columns = [name for name in schema.names if name != self.key]
        if not 1 <= len(columns) <= MAX_FEATURES:
            count = f"{len(columns)} feature columns beside {self.key!r}"
            raise InvalidArgument(f"{self.path}: has {count}; allowed are 1 to {MAX_FEATURES}")
        for name in columns:
            kind = schema.field(name).type
            if not any(is_one(kind.value_type if pa.types.is_dictionary(kind) else kind) for is_one in _NUMBERS):
                self.fail(name, f"is {kind}; features are integers, floating-point numbers, decimals or booleans")
        return columns

    def _keys(self) -> U64:
        found, row = [], 0
        for batch in self._batches([self.key], ROWS_AT_ONCE):
            found.append(read_ids(batch.column(0), Place(self.path, self.key, row), null=False))
            row += batch.num_rows
        if not row:
            raise InvalidArgument(f"{self.path}: has no rows")
        keys = np.concatenate(found)
        settle()
        self._refuse_duplicates(keys)
        return keys

    def _refuse_duplicates(self, keys: U64) -> None:
        order = np.argsort(keys, kind="stable")
        again = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        if len(again):
            first, second = order[again[0]], order[again[0] + 1]
            self.fail(self.key, f"rows {first} and {second} (from 0): key {keys[first]} is there more than once")

    def matrices(self, columns: list[str]) -> Iterator[F32]:
        """All rows in order, some at a time: float32[m, c]; NaN for null."""
        size = max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // len(columns)))
        row = 0
        for batch in self._batches(columns, size):
            matrix = np.empty((batch.num_rows, len(columns)), np.float32)
            for i, name in enumerate(columns):
                matrix[:, i] = self._narrowed(batch.column(name), name, row)
            yield matrix
            row += len(matrix)

    def _narrowed(self, column: pa.Array, name: str, row: int) -> F32:
        numbers = np.asarray(pc.cast(plain(column), pa.float64(), safe=False).to_numpy(zero_copy_only=False))
        with np.errstate(over="ignore"):
            narrow = numbers.astype(np.float32)
        bad = np.isinf(narrow) & ~np.isinf(numbers)
        if bad.any():
            first = int(bad.argmax())
            self.fail(name, f"row {row + first} (from 0): {numbers[first]} is beyond what a float32 holds")
        return narrow

    def _batches(self, columns: list[str], size: int) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._file.iter_batches(size, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise InvalidArgument(f"{self.path}: can't be read as Parquet: {error}") from None


def load(
    path: Path,
    blobs: Blobs,
    dataset: str,
    partitions: int,
    as_of_ms: int,
    key: str = "pin",
    new_columns: bool = False,
    after: int = 0,
    report: Report = lambda done, of: None,
) -> DatasetManifest:
    """Publish the next version of a dataset, whole or not at all; `blobs` are those of all datasets.

    key: the column of keys. as_of_ms: when the values were computed. new_columns: other columns than those of the
    latest version are meant. after: the version number is above this one too. Raises InvalidArgument for a file that
    is refused, Exhausted on a full disk.
    """
    check_name(dataset)
    source = ParquetSource(path, key)
    there = keys.versions(blobs, dataset)
    columns = source.columns if new_columns or not there else _same_columns(source, blobs, dataset, there[-1])
    with _reserved(blobs, dataset, max([after, *there])) as version, blobs.draft(dataset) as draft:
        try:
            files = _write_files(source, columns, draft, (dataset, version, partitions), report)
            manifest = summed(DatasetManifest(dataset, version, columns, len(source.keys), as_of_ms, partitions, files))
            (draft / keys.MANIFEST).write_bytes(to_json(manifest))
        except Exception as error:
            if "No space" in str(error):  # of this module's files, or of those that RocksDB writes
                raise Exhausted(f"{dataset}: the disk is full; nothing was loaded") from None
            raise
        blobs.publish(draft, keys.version_key(dataset, version))
    return manifest


@contextmanager
def _reserved(blobs: Blobs, dataset: str, after: int) -> Iterator[int]:
    """A number for the next version, which no other load has: it is a part of every key in the files. It is given back when
    the load fails, unless another has the next one by then.
    """
    key = f"{dataset}/{keys.RESERVED}"
    while True:
        old = blobs.get(key) if blobs.exists(key) else None
        number = max(after, int(old) if old and old.isdigit() else 0) + 1
        with suppress(Conflict):
            blobs.swap(key, old, b"%d" % number)
            break
    try:
        yield number
    except BaseException:
        with suppress(MeshError):
            blobs.swap(key, b"%d" % number, b"%d" % (number - 1))
        raise


def _same_columns(source: ParquetSource, blobs: Blobs, dataset: str, version: int) -> list[str]:
    """The columns in the order that the latest version has, as live rows have no other names for theirs."""
    try:
        before = read_manifest(blobs, dataset, version).columns
    except MeshError as error:
        raise InvalidArgument(f"{error}; --new-columns loads without comparing the columns") from None
    for name in before:
        if name not in source.columns:
            source.fail(name, f"is missing; version {version} of {dataset} has it (--new-columns: that is meant)")
    for name in source.columns:
        if name not in before:
            source.fail(name, f"is new; version {version} of {dataset} does not have it (--new-columns: that is meant)")
    return before


def _write_files(
    source: ParquetSource, columns: list[str], draft: Path, of: tuple[str, int, int], report: Report
) -> dict[int, PartitionFile]:
    """The sorted files. Reading and sorting are half of the work each."""
    dataset, version, partitions = of
    partition, total = partition_of(source.keys, partitions), 2 * len(source.keys)
    done = 0
    for matrix in source.matrices(columns):
        _spool(draft, matrix, partition[done : done + len(matrix)])
        done += len(matrix)
        report(done, total)
    files = {}
    for p in range(partitions):
        mine = np.flatnonzero(partition == p)
        if len(mine):
            spool = draft / f"spool-{p}"
            matrix = np.fromfile(spool, "<f4").reshape(len(mine), len(columns))
            spool.unlink()
            order = np.argsort(source.keys[mine])
            files[p] = _write_file(
                draft / keys.file_name(p), source.keys[mine][order], matrix[order], (p, dataset, version)
            )
        done += len(mine)
        report(done, total)
    return files


def _spool(draft: Path, matrix: F32, partition: Array) -> None:
    """Append rows to the unsorted file of the partition of each."""
    order = np.argsort(partition, kind="stable")
    where = partition[order]
    starts = np.flatnonzero(np.diff(where, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(where)], strict=True):
        with (draft / f"spool-{where[start]}").open("ab") as file:
            file.write(np.ascontiguousarray(matrix[order[start:end]], "<f4").tobytes())


def _write_file(path: Path, keys: U64, matrix: F32, at: tuple[int, str, int]) -> PartitionFile:
    """One sorted file. Raises ValueError unless keys (uint64[n]) ascend and matrix has a row for each."""
    partition, dataset, version = at
    check_lengths(len(keys), matrix=matrix)
    check_ascending(keys=keys)
    writer = SstFileWriter(options=_options())
    writer.open(str(path))
    names = layout.row_keys(partition, layout.dataset_hash(dataset), version, keys)
    width = 4 * matrix.shape[1]
    data = np.ascontiguousarray(matrix, "<f4").tobytes()
    for i, name in enumerate(names):
        writer[name] = data[i * width : (i + 1) * width]
    writer.finish()
    return PartitionFile(len(keys), path.stat().st_size, checksum(path), int(ids(keys)[-1]))


def _options() -> Options:
    """As the database writes its own files (services/state/database.py)."""
    options, table = Options(raw_mode=True), BlockBasedOptions()
    options.set_compression_type(DBCompressionType.lz4())
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    return options
