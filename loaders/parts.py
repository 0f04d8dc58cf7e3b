"""One table of a user's data: a Parquet file, or a folder of part files as Spark, DuckDB and Hive write them.

Each part is read by itself, so that parts may encode a column differently. Columns that stand in the names of folders
(`action=save/part-0.parquet`) are columns of the part.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from loaders.unpack import LOOKED_AT, PARQUET, kind_of
from services.core.errors import InvalidArgument, MeshError

NULL = "__HIVE_DEFAULT_PARTITION__"
#: Folders beside the parts that say that the parts alone are not the table.
_MANAGED = {"_delta_log": "a Delta table", "metadata": "an Iceberg table", ".hoodie": "a Hudi table"}


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of a table. names: its columns, twice where they occur twice; constants: those of its folders' names."""

    path: Path
    names: list[str]
    types: dict[str, Any]
    groups: list[int]  # rows of each row group
    constants: dict[str, str | None]
    metadata: Any

    def columns(self, group: int, wanted: list[str], words: list[str]) -> dict[str, Any]:
        """Those of the wanted columns that the part has, as chunks of a row group; `words` come as dictionaries."""
        stored = [name for name in wanted if name in self.types]
        with readable(self.path):
            options: dict[str, Any] = {"read_dictionary": [name for name in words if name in self.types]}
            with pq.ParquetFile(self.path, metadata=self.metadata, page_checksum_verification=True, **options) as file:
                table = file.read_row_group(group, columns=stored)
        found = {name: table[name] for name in stored}
        rest = {name: self.constants[name] for name in wanted if name in self.constants and name not in found}
        return found | {
            name: pa.repeat(pa.scalar(v, pa.large_string()), self.groups[group]) for name, v in rest.items()
        }


def parts_of(path: Path) -> list[TableFile]:
    """The parts of the file or folder `path`, in order of name. Raises InvalidArgument naming the file that can't be read."""
    if not path.is_dir():
        return [_part(path, {})]
    with readable(path):
        names = os.listdir(path)
    _refuse_unfinished(path, names)
    files = sorted(_files(path))
    if not files:
        raise InvalidArgument(f"{path}: the folder has no Parquet files")
    return [_part(file, _constants(file.relative_to(path).parts[:-1])) for file in files]


def is_hidden(name: str) -> bool:
    """Whether tools write it beside the data: _SUCCESS, .part-0.crc, .DS_Store."""
    return name.startswith(("_", "."))


def _files(folder: Path) -> Iterator[Path]:
    with readable(folder):
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    for entry in found:
        if is_hidden(entry.name):
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)


def _refuse_unfinished(path: Path, names: list[str]) -> None:
    if "_temporary" in names or any(n.startswith("_started_") for n in names) != any(
        n.startswith("_committed_") for n in names
    ):
        raise InvalidArgument(f"{path}: the job that writes this folder has not finished; load it when it has")
    for name, kind in _MANAGED.items():
        if name in names:
            raise InvalidArgument(
                f"{path}: {kind} ({name} is in it), whose old and deleted rows lie among its files: export it as Parquet"
            )


def _constants(folders: tuple[str, ...]) -> dict[str, str | None]:
    pairs = [folder.partition("=") for folder in folders if "=" in folder]
    return {unquote(name): None if value == NULL else unquote(value) for name, _, value in pairs}


def _part(path: Path, constants: dict[str, str | None]) -> TableFile:
    _refuse_others(path)
    with readable(path), pq.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        names = [field.name for field in schema]
        return TableFile(path, names, {f.name: f.type for f in schema}, groups, constants, metadata)


def _refuse_others(path: Path) -> None:
    """Name the format of a file that is not Parquet. Only a plain file is opened: a pipe would never answer."""
    with readable(path):
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):
            raise InvalidArgument(f"{path}: not a file")
        with path.open("rb") as file:
            head = file.read(LOOKED_AT)
    if not head:
        raise InvalidArgument(f"{path}: not a readable Parquet file: it is empty")
    if not head.startswith(PARQUET):
        raise InvalidArgument(f"{path}: not a readable Parquet file: {kind_of(head) or f'it begins with {head[:8]!r}'}")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises whatever goes wrong with a file as InvalidArgument naming it: missing rights, damage, absurd sizes."""
    try:
        yield
    except MeshError:
        raise
    except OSError as error:
        if error.errno is not None and error.strerror:
            raise InvalidArgument(f"{path}: could not be read: {error.strerror}") from None
        raise InvalidArgument(f"{path}: not a readable Parquet file: {_line(error)}") from None
    except (pa.ArrowException, ValueError, TypeError, MemoryError, OverflowError, RuntimeError) as error:
        raise InvalidArgument(f"{path}: not a readable Parquet file: {_line(error)}") from None


def _line(error: Exception) -> str:
    """The first line of an error, cut short; Arrow's have several."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
