"""The registry of models: folders that are checked before they are taken, and which of them is served.

It asks no process; whoever promotes a model tells the running mesh (`promote`'s `ask`). A model is refused with the
reason, whole: nothing of it stays behind.
"""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features import catalogue
from features.catalogue import Feature
from features.matrix import Assembler
from scorpion import forest, layout
from scorpion.kernel import F64
from scorpion.layout import FILES, GOLDEN, MANIFEST, TEXT, Golden, Manifest, Promoted, Stated
from services.columns import F32
from services.errors import InvalidArgument, NotFound

TOLERANCE = 1e-6  # relative, of a golden score
MAX_FEATURES, MAX_GOLDEN, KEPT_BEFORE = 1024, 100_000, 50
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
Datasets = Mapping[str, Collection[str]]  # the columns of each dataset of rockstore


class Ref(NamedTuple):
    """One version of a model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A folder that was checked."""

    features: tuple[Feature, ...]
    assembler: Assembler
    forest: forest.Model
    manifest: Manifest
    fingerprint: int

    @property
    def datasets(self) -> tuple[str, ...]:
        """The features that are columns of datasets, as `dataset.column`."""
        return tuple(f.name for f in self.features if f.name not in catalogue.CATALOGUE)

    def score(self, rows: F32) -> F64:
        """float64[n], or [n, classes], for rows as its assembler makes them."""
        return self.forest.score(rows)


def check(folder: Path, known_datasets: Datasets | None) -> Model:
    """The model of a folder. Raises InvalidArgument with what is wrong with it.

    known_datasets: None when rockstore can't be asked; then what a model names of it is believed.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise InvalidArgument(f"{folder}: {name} is missing; a model is a folder of {', '.join(FILES)}")
    try:
        text = (folder / TEXT).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{TEXT}: cannot be read: {error}") from None
    trees = forest.parse(text)
    manifest = layout.read_json(folder / MANIFEST, Manifest)
    if manifest.format != layout.FORMAT:
        raise InvalidArgument(f"{MANIFEST}: format {manifest.format!r}, this version reads {layout.FORMAT!r}")
    _named(manifest.name, MANIFEST)
    features = tuple(_feature(s) for s in layout.read_json(folder / layout.FEATURES, list[Stated]))
    _same("features.json", [f.name for f in features], "model.txt", trees.feature_names)
    _same("manifest.json", manifest.columns, "features.json", [f.name for f in features])
    if (manifest.trees, manifest.leaves) != (trees.trees, trees.leaves):
        stated, found = f"{manifest.trees} trees of {manifest.leaves} leaves", f"{trees.trees} of {trees.leaves}"
        raise InvalidArgument(f"{MANIFEST}: states {stated}, {TEXT} has {found}")
    _kinds(features, trees)
    if known_datasets is not None:
        check_datasets(features, known_datasets)
    golden = layout.read_golden(folder / GOLDEN, trees.classes)
    _same("golden.parquet", golden.columns, "features.json", [f.name for f in features])
    _golden(golden, trees)
    return Model(features, Assembler(features), trees, manifest, layout.fingerprint(folder))


def _named(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"{where}: name {name!r}: allowed are 1 to 64 of a-z, 0-9, _ and -, no _ or - first")


def _feature(stated: Stated) -> Feature:
    try:
        known = catalogue.feature(stated.name)
    except InvalidArgument as error:
        raise InvalidArgument(f"features.json: {error}") from None
    if stated.source is not known.source:
        raise InvalidArgument(f"features.json: {stated.name} is of {known.source}, not of {stated.source}")
    if known.name in catalogue.CATALOGUE and stated.categorical != known.categorical:
        what = "a category" if known.categorical else "a number"
        raise InvalidArgument(f"features.json: {stated.name} is {what} in features/catalogue.py")
    default = float("nan") if stated.default is None else stated.default
    return Feature(stated.name, stated.source, default, stated.categorical)


def _same(one: str, names: Sequence[str], other: str, others: Sequence[str]) -> None:
    """Raise naming the first difference."""
    for i, (name, expected) in enumerate(zip(names, others, strict=False)):
        if name != expected:
            raise InvalidArgument(f"column {i} is {name!r} in {one}, {expected!r} in {other}")
    if len(names) != len(others):
        raise InvalidArgument(f"{one} has {len(names)} columns, {other} {len(others)}")
    if len(set(names)) != len(names) or not 1 <= len(names) <= MAX_FEATURES:
        raise InvalidArgument(f"{one}: {len(names)} columns; allowed are 1 to {MAX_FEATURES}, each once")


def _kinds(features: Sequence[Feature], trees: forest.Model) -> None:
    for i, f in enumerate(features):
        if f.categorical and i in trees.numerical:
            raise InvalidArgument(f"features.json: {f.name} is a category, model.txt splits it as a number")
        if not f.categorical and i in trees.categorical:
            raise InvalidArgument(f"features.json: {f.name} is a number, model.txt splits it as a category")


def check_datasets(features: Sequence[Feature], known: Datasets) -> None:
    """Raise InvalidArgument for a column of a dataset that rockstore does not have."""
    for f in features:
        dataset, _, column = f.name.partition(".")
        if f.name in catalogue.CATALOGUE:
            continue
        if dataset not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise InvalidArgument(f"feature {f.name}: rockstore has no dataset {dataset!r}; {has}")
        if column not in known[dataset]:
            has = ", ".join(known[dataset])
            raise InvalidArgument(f"feature {f.name}: rockstore's {dataset} has no column {column!r}; it has {has}")


def _golden(golden: Golden, trees: forest.Model) -> None:
    n = len(golden.rows)
    if not 1 <= n <= MAX_GOLDEN:
        raise InvalidArgument(f"{GOLDEN}: {n} rows; allowed are 1 to {MAX_GOLDEN}")
    found = trees.score(golden.rows).reshape(golden.scores.shape)
    for what, scores in (("the expected score", golden.scores), ("the model's score", found)):
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise InvalidArgument(f"{GOLDEN}: row {row}: {what} is {scores[row].tolist()}")
    wrong = (np.abs(found - golden.scores) > TOLERANCE * np.maximum(np.abs(golden.scores), 1e-12)).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        expected, got = golden.scores[row].tolist(), found[row].tolist()
        raise InvalidArgument(f"{GOLDEN}: row {row}: expected score {expected}, got {got}; {wrong.sum()} of {n} differ")


def write(
    folder: Path,
    booster: Any,
    features: Sequence[Feature],
    golden_rows: F32,
    *,
    name: str,
    trained_ms: int,
    metrics: Mapping[str, float] | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Model:
    """Write a trained lightgbm.Booster as a model's folder, and check it as whoever takes it will.

    golden_rows: float32[n, len(features)], of which LightGBM itself says the scores. Raises InvalidArgument.
    """
    text = str(booster.model_to_string())
    trees = forest.parse(text)
    rows = np.ascontiguousarray(golden_rows, np.float32)
    scores = np.asarray(booster.predict(rows), np.float64).reshape(len(rows), trees.classes)
    columns = [f.name for f in features]
    manifest = Manifest(
        format=layout.FORMAT,
        name=name,
        columns=columns,
        objective=trees.objective,
        trees=trees.trees,
        leaves=trees.leaves,
        trained_ms=trained_ms,
        metrics=dict(metrics or {}),
        inputs=dict(inputs or {}),
    )
    stated = [
        Stated(
            name=f.name, source=f.source, default=None if np.isnan(f.default) else f.default, categorical=f.categorical
        )
        for f in features
    ]
    folder.mkdir(parents=True, exist_ok=True)
    layout.write_file(folder / TEXT, text.encode())
    layout.write_json(folder / layout.FEATURES, stated)
    layout.write_golden(folder / GOLDEN, Golden(tuple(columns), rows, scores))
    layout.write_json(folder / MANIFEST, manifest)
    return check(folder, None)


def push(folder: Path, data: Path, known_datasets: Datasets | None = None) -> Ref:
    """Check a model and copy it into the registry as the next version of its name, whole or not at all."""
    name = check(folder, known_datasets).manifest.name
    home = layout.models_folder(data) / name
    home.mkdir(parents=True, exist_ok=True)
    draft = home / f".draft-{secrets.token_hex(8)}"
    try:
        draft.mkdir()
        for file in FILES:
            layout.write_file(draft / file, (folder / file).read_bytes())
        if (folder / layout.REPORT).is_file():
            layout.write_file(draft / layout.REPORT, (folder / layout.REPORT).read_bytes())
        check(draft, known_datasets)  # what is kept, not what lay there a moment ago
        version = max(versions(data, name), default=0) + 1
        while True:
            try:
                os.rename(draft, home / str(version))
            except OSError:
                if not (home / str(version)).exists():
                    raise
                version += 1  # another took it meanwhile
            else:
                layout.sync_folder(home)
                return Ref(name, version)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def versions(data: Path, name: str) -> list[int]:
    """The versions of a model, ascending."""
    with suppress(FileNotFoundError, NotADirectoryError):
        found = [entry.name for entry in (layout.models_folder(data) / name).iterdir() if entry.is_dir()]
        return sorted(int(version) for version in found if re.fullmatch(r"[1-9][0-9]{0,8}", version))
    return []


def models(data: Path) -> list[Ref]:
    """Every version of every model, by name and version."""
    root = layout.models_folder(data)
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    return [Ref(name, version) for name in names if _NAME.fullmatch(name) for version in versions(data, name)]


def find(data: Path, text: str) -> Ref:
    """The model meant by "name@version", or by "name": its newest version. Raises NotFound naming those there are."""
    name, at, version = text.partition("@")
    known = versions(data, name) if _NAME.fullmatch(name) else []
    if known and not at:
        return Ref(name, known[-1])
    if version.isascii() and version.isdigit() and int(version) in known:
        return Ref(name, int(version))
    there = ", ".join(map(str, models(data))) or "none; feedmesh model train makes one"
    raise NotFound(f"model {text!r} is not in the registry; there are {there}")


def folder_of(data: Path, ref: Ref) -> Path:
    """Where a version lies."""
    return layout.models_folder(data) / ref.name / str(ref.version)


def promoted(data: Path) -> Promoted:
    """Which model is served. Raises InvalidArgument when the file is no such file."""
    path = layout.promoted_file(data)
    return layout.read_json(path, Promoted) if path.exists() else Promoted()


Ask = Callable[[Ref], str]  # tells the running mesh to look; why it refuses this model, empty: it serves it


def promote(data: Path, text: str, known_datasets: Datasets | None = None, ask: Ask = lambda _: "") -> Ref:
    """Serve this model from now on. Raises InvalidArgument when it, or the running mesh, refuses: then nothing changed."""
    ref, was = find(data, text), promoted(data)
    before = was.before if was.promoted in ("", str(ref)) else [*was.before, was.promoted][-KEPT_BEFORE:]
    _point(data, ref, Promoted(promoted=str(ref), before=before), was, known_datasets, ask)
    return ref


def rollback(data: Path, known_datasets: Datasets | None = None, ask: Ask = lambda _: "") -> Ref:
    """Serve the model that was served before. Raises NotFound when there is none."""
    was = promoted(data)
    if not was.before:
        raise NotFound(
            f"no model was served before {was.promoted or 'any was promoted'}; feedmesh model list shows all"
        )
    ref = find(data, was.before[-1])
    _point(data, ref, Promoted(promoted=str(ref), before=was.before[:-1]), was, known_datasets, ask)
    return ref


def _point(data: Path, ref: Ref, to: Promoted, was: Promoted, known_datasets: Datasets | None, ask: Ask) -> None:
    check(folder_of(data, ref), known_datasets)
    path = layout.promoted_file(data)
    layout.write_json(path, to)
    why = ask(ref)
    if why:
        layout.write_json(path, was)
        ask(ref)  # to look again
        raise InvalidArgument(f"{ref} was not promoted, the running mesh refuses it: {why}")
