"""Reads the fixed sets' Parquet files, and names what is missing. Files that people bring are read by `tables.py`."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.core.columns import Array
from services.core.errors import InvalidArgument


def input_files(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """name -> path of `<name>.parquet`. Raises InvalidArgument naming the folder and the first file that is missing."""
    files = {name: folder / f"{name}.parquet" for name in names}
    for path in files.values():
        if not path.is_file():
            expected = ", ".join(sorted(path.name for path in files.values()))
            raise InvalidArgument(f"{path}: no such file; this set is a folder with {expected}")
    return files


def columns(path: Path, *names: str) -> tuple[Array, ...]:
    """The columns, each an array of as many rows. Raises InvalidArgument naming the file and what it lacks."""
    try:
        present = pq.read_schema(path).names
        missing = [name for name in names if name not in present]
        if missing:
            raise InvalidArgument(f"{path}: no column {missing[0]}; it has {', '.join(present)}")
        table = pq.read_table(path, columns=list(names))
    except (OSError, pa.lib.ArrowInvalid) as error:
        raise InvalidArgument(f"{path}: not a readable Parquet file: {error}") from None
    for name in names:
        if table[name].null_count:
            raise InvalidArgument(f"{path}: column {name} has {table[name].null_count} nulls; none are allowed")
    return tuple(table[name].to_numpy() for name in names)
