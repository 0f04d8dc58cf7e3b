"""A model on disk: one folder, its four files and their formats, and the file that says which model is served.

    model.txt       LightGBM's own text
    features.json   the columns of its rows, in order
    golden.parquet  rows (float32, in that order) and the scores they must have
    manifest.json   format, name, columns, inputs of the training, how good it was
    report.html     for people, if training wrote one: the page of models shows it, and nothing here reads it
    checksums.json  of a folder in the registry: BLAKE2b of each of its files as they were taken

Models lie under `models/<name>/<version>` (`keys.py`); a version is never changed. `models/promoted.json` names the one that is
served, and those that were before it.
"""

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow
import pyarrow.parquet
from msgspec import Struct

from features.catalogue import FeatureSource
from scorpion import keys
from scorpion.kernel import F64
from services.core import summed
from services.core.columns import F32, Array
from services.core.durable import replace_durably
from services.core.errors import InvalidArgument
from services.core.words import unlike

FORMAT = "feedmesh model 1"
TEXT, FEATURES, GOLDEN, MANIFEST = "model.txt", "features.json", "golden.parquet", keys.MANIFEST
FILES = (TEXT, FEATURES, GOLDEN, MANIFEST)
REPORT = keys.REPORT
SUMS = "checksums.json"
SCORE = "score"  # of golden rows; of several classes: score_0, score_1, ...

S = TypeVar("S")


class FeatureEntry(Struct, forbid_unknown_fields=True, kw_only=True):
    """One entry of features.json. default: null is NaN, LightGBM's missing value."""

    name: str
    source: FeatureSource
    default: float | None = None
    categorical: bool = False


class Verdict(StrEnum):
    """Of a model beside the best baseline: whether the 95 % interval of the difference lies above 0, below it, or over it."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


class MetricMean(Struct, forbid_unknown_fields=True, kw_only=True):
    """A mean over requests with its 95 % interval; null where there was nothing to take it of."""

    value: float | None
    low: float | None = None
    high: float | None = None
    requests: int


class Comparison(Struct, forbid_unknown_fields=True, kw_only=True):
    """A new model beside the one that served when it was trained, on the same requests and candidates.

    model: name@version of that one; difference: the new one's deciding metric less its, request by request, null where
    the two could not be compared; users: of these requests; note: why they could not, or another remark.
    """

    model: str
    difference: MetricMean
    users: int = 0
    verdict: Verdict = Verdict.UNDECIDED
    needed_requests: int = 0
    note: str = ""


class Evaluation(Struct, forbid_unknown_fields=True, kw_only=True):
    """How a model did on a later period than it learned from, beside baselines on the same requests and candidates.

    metric: the one that decides; requests: those that distinguish methods, of so many `users`; methods: by method (one of
    them is "model") and metric; difference: the model's less the best baseline's, request by request; needed_requests:
    about how many would detect such a difference, 0 when that is not known; from_ms: when that period begins,
    0 when that is not known; serving: beside the model that served then, null where none did.
    """

    metric: str
    requests: int
    users: int
    methods: dict[str, dict[str, MetricMean]]
    best_baseline: str
    difference: MetricMean
    verdict: Verdict
    needed_requests: int
    words: str = ""  # the same as a sentence
    from_ms: int = 0
    serving: Comparison | None = None


class ModelManifest(Struct, forbid_unknown_fields=True, kw_only=True):
    """manifest.json. inputs: what it was trained on and how, in the words of its author; evaluation: null of a model
    that was not judged here.
    """

    format: str
    name: str
    columns: list[str]
    objective: str
    trees: int
    leaves: int  # of the largest tree
    trained_ms: int
    metrics: dict[str, float] = {}
    inputs: dict[str, Any] = {}
    evaluation: Evaluation | None = None


class Promoted(Struct, forbid_unknown_fields=True, kw_only=True):
    """promoted.json: "name@version" of the model that is served, and of those before it, the last one last."""

    promoted: str = ""
    before: list[str] = []
    checksum: str = ""  # of versions that wrote another than services/core/summed.py


class Golden(NamedTuple):
    """rows: float32[n, f]; scores: float64[n, classes]."""

    columns: tuple[str, ...]
    rows: F32
    scores: F64


def read_json(path: Path, kind: type[S]) -> S:
    """A file's content. Raises InvalidArgument naming file and field."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path.name}: {error.strerror}") from None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path.name}: {unlike(error, data, kind)}") from None


def write_json(path: Path, content: Struct | list[FeatureEntry]) -> None:
    """Write a file of ours, readable by people."""
    replace_durably(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def encode_promoted(said: Promoted) -> bytes:
    """Which model is served, so that a bit that flips is noticed."""
    return summed.encoded({"promoted": said.promoted, "before": said.before})


def decode_promoted(content: bytes) -> Promoted:
    """Which model is served. Raises msgspec.MsgspecError when it is damaged."""
    return summed.decoded(content, Promoted)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write_sums(folder: Path) -> None:
    """Write the checksum of each file of a folder that the registry takes."""
    sums = {path.name: _digest(path.read_bytes()) for path in sorted(folder.iterdir()) if path.name != SUMS}
    replace_durably(folder / SUMS, msgspec.json.format(msgspec.json.encode(sums)) + b"\n")


def check_sums(folder: Path) -> None:
    """Raise InvalidArgument for a file that is not as the registry took it. A folder without checksums has none to differ:
    it is not in the registry, or was taken before there were any.
    """
    if not (folder / SUMS).exists():
        return
    for name, stated in read_json(folder / SUMS, dict[str, str]).items():
        try:
            found = _digest((folder / name).read_bytes())
        except OSError as error:
            raise InvalidArgument(f"{name}: {error.strerror}, and {SUMS} names it") from None
        if found != stated:
            raise InvalidArgument(f"{name}: damaged: its checksum is {found}, {SUMS} says {stated}")


def score_names(classes: int) -> tuple[str, ...]:
    """The columns of the scores in golden.parquet."""
    return (SCORE,) if classes == 1 else tuple(f"{SCORE}_{k}" for k in range(classes))


def read_golden(path: Path, classes: int) -> Golden:
    """The golden rows of a model. Raises InvalidArgument for another file."""
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(path.read_bytes()))  # whose errors name no path
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidArgument(f"{GOLDEN}: {getattr(error, 'strerror', None) or error}") from None
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
    replace_durably(path, sink.getvalue().to_pybytes())


def fingerprint(folder: Path) -> int:
    """A 64-bit BLAKE2b of all files of a model's folder: their names, lengths and contents."""
    state = hashlib.blake2b(digest_size=8)
    for name in FILES:
        content = (folder / name).read_bytes()
        state.update(f"{name}\0{len(content)}\0".encode() + content)
    return int.from_bytes(state.digest(), "little")
