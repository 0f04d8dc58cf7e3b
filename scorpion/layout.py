"""A model on disk: one folder, its four files and their formats, and the file that says which model is served.

    model.txt       LightGBM's own text
    features.json   what each column of its rows is, in order
    golden.parquet  rows (float32, in that order) and the scores they must have
    manifest.json   format, name, columns, what was trained on what, how good it was
    report.html     for people, if training wrote one: the page of models shows it, and nothing here reads it

Models lie in `<data>/models/<name>/<version>`; a version is never changed. `<data>/models/promoted.json` names the one
that is served, and those that were before it.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow
import pyarrow.parquet
from msgspec import Struct

from features.catalogue import Source
from scorpion.kernel import F64
from services.columns import F32, Array
from services.errors import InvalidArgument

FORMAT = "feedmesh model 1"
TEXT, FEATURES, GOLDEN, MANIFEST = "model.txt", "features.json", "golden.parquet", "manifest.json"
FILES = (TEXT, FEATURES, GOLDEN, MANIFEST)
REPORT = "report.html"
SCORE = "score"  # of golden rows; of several classes: score_0, score_1, ...

S = TypeVar("S")


class Stated(Struct, forbid_unknown_fields=True, kw_only=True):
    """One entry of features.json. default: null is NaN, LightGBM's missing value."""

    name: str
    source: Source
    default: float | None = None
    categorical: bool = False


class Manifest(Struct, forbid_unknown_fields=True, kw_only=True):
    """manifest.json. inputs: what it was trained on and how, in the words of who trained it."""

    format: str
    name: str
    columns: list[str]
    objective: str
    trees: int
    leaves: int  # of the largest tree
    trained_ms: int
    metrics: dict[str, float] = {}
    inputs: dict[str, Any] = {}


class Promoted(Struct, forbid_unknown_fields=True, kw_only=True):
    """promoted.json: "name@version" of the model that is served, and of those before it, the last one last."""

    promoted: str = ""
    before: list[str] = []


class Golden(NamedTuple):
    """rows: float32[n, f]; scores: float64[n, classes]."""

    columns: tuple[str, ...]
    rows: F32
    scores: F64


def models_folder(data: Path) -> Path:
    """Where the registry is."""
    return data / "models"


def promoted_file(data: Path) -> Path:
    """Where it says which model is served."""
    return models_folder(data) / "promoted.json"


def read_json(path: Path, kind: type[S]) -> S:
    """A file's content. Raises InvalidArgument naming file and field."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InvalidArgument(f"{path.name}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path.name}: {error}") from None


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is on disk when this returns; a crash leaves the old one or the new one."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Struct | list[Stated]) -> None:
    """Write a file of ours, readable by people."""
    write_file(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def score_names(classes: int) -> tuple[str, ...]:
    """The columns of the scores in golden.parquet."""
    return (SCORE,) if classes == 1 else tuple(f"{SCORE}_{k}" for k in range(classes))


def read_golden(path: Path, classes: int) -> Golden:
    """The golden rows of a model. Raises InvalidArgument for what is no such file."""
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidArgument(f"{GOLDEN}: {error}") from None
    scores = score_names(classes)
    columns = tuple(name for name in table.column_names if name not in scores)
    if len(set(table.column_names)) < table.num_columns:
        raise InvalidArgument(f"{GOLDEN}: has two columns of one name")
    for name in scores:
        if name not in table.column_names:
            raise InvalidArgument(f"{GOLDEN}: has no column {name!r} of the scores that are expected")
    for name in table.column_names:
        expected = pyarrow.float64() if name in scores else pyarrow.float32()
        if table.schema.field(name).type != expected:
            raise InvalidArgument(f"{GOLDEN}: column {name!r} is {table.schema.field(name).type}, expected {expected}")
    rows = np.empty((table.num_rows, len(columns)), np.float32)
    for i, name in enumerate(columns):
        rows[:, i] = table[name].to_numpy()
    return Golden(columns, rows, np.stack([table[name].to_numpy() for name in scores], axis=1))


def write_golden(path: Path, golden: Golden) -> None:
    """Write golden rows with the scores that are expected of them."""
    names = score_names(golden.scores.shape[1])
    columns: dict[str, Array] = {name: golden.rows[:, i] for i, name in enumerate(golden.columns)}
    columns |= {name: golden.scores[:, k] for k, name in enumerate(names)}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    write_file(path, sink.getvalue().to_pybytes())


def fingerprint(folder: Path) -> int:
    """A 64-bit BLAKE2b of all files of a model's folder: their names, lengths and contents."""
    state = hashlib.blake2b(digest_size=8)
    for name in FILES:
        content = (folder / name).read_bytes()
        state.update(f"{name}\0{len(content)}\0".encode() + content)
    return int.from_bytes(state.digest(), "little")
