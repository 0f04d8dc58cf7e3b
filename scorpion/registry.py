"""The registry of models: folders that are checked before they are taken, and which of them is served.

It lies in a store of blobs (`keys.py`), and asks no process: the caller that promotes a model informs the running mesh
(`promote`'s `ask`). A model is refused with the reason, whole: nothing of it stays behind.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from features import catalogue
from features.catalogue import Feature
from features.matrix import Assembler
from scorpion import forest, keys, layout
from scorpion.kernel import F64
from scorpion.layout import FILES, GOLDEN, MANIFEST, TEXT, Evaluation, FeatureEntry, Golden, ModelManifest, Promoted
from scorpion.text import decoded
from scorpion.verdict import against, against_unasked
from services.blob.opening import Place, open_blobs
from services.core.columns import F32
from services.core.durable import replace_durably
from services.core.errors import Conflict, InvalidArgument, MeshError, NotFound

TOLERANCE = 1e-6  # relative, of a golden score
DRAFT_S = 3_600.0  # after which a push that has not ended was killed
MAX_FEATURES, MAX_GOLDEN, KEPT_BEFORE = 1024, 100_000, 50
Datasets = Mapping[str, Collection[str]]  # the columns of each dataset of rockstore


class Ref(NamedTuple):
    """One version of a model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, eq=False)
class CheckedModel:
    """A folder that was checked."""

    features: tuple[Feature, ...]
    assembler: Assembler
    forest: forest.ForestModel
    manifest: ModelManifest
    fingerprint: int

    @property
    def datasets(self) -> tuple[str, ...]:
        """The features that are columns of datasets, as `dataset.column`."""
        return tuple(f.name for f in self.features if f.name not in catalogue.CATALOGUE)

    def score(self, rows: F32) -> F64:
        """float64[n], or [n, classes], for rows as its assembler makes them."""
        return self.forest.score(rows)


def check(folder: Path, known_datasets: Datasets | None) -> CheckedModel:
    """The model of a folder. Raises InvalidArgument naming the error.

    known_datasets: None when rockstore can't be asked; then the columns that a model names are believed to be there.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise InvalidArgument(f"{name} is missing; a model is a folder of {', '.join(FILES)}")
    layout.check_sums(folder)
    try:
        content = (folder / TEXT).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{TEXT}: cannot be read: {error.strerror}") from None
    trees = forest.parse(decoded(content))
    manifest = layout.read_json(folder / MANIFEST, ModelManifest)
    if manifest.format != layout.FORMAT:
        raise InvalidArgument(f"{MANIFEST}: format {manifest.format!r}, this version reads {layout.FORMAT!r}")
    check_name(manifest.name, MANIFEST)
    features = tuple(_feature(s) for s in layout.read_json(folder / layout.FEATURES, list[FeatureEntry]))
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
    return CheckedModel(features, Assembler(features), trees, manifest, layout.fingerprint(folder))


def check_ranks(model: CheckedModel) -> CheckedModel:
    """The model, which may be promoted. Raises InvalidArgument for one that feeds could not rank by.

    A promoted model ranks the pins of every feed, so it must score a pin with one number. A model of several classes may be
    pushed and asked for by name.
    """
    if model.forest.classes != 1:
        raise InvalidArgument(
            f"{TEXT}: gives {model.forest.classes} scores of a pin ({model.forest.objective}), and feeds rank by one: "
            "train with one output (binary, lambdarank, regression, ...) to promote it"
        )
    return model


def check_name(name: str, where: str) -> None:
    """Raise InvalidArgument for a name that no model can have; where: the place of the name, for the message."""
    if not keys.NAME.fullmatch(name):
        raise InvalidArgument(f"{where}: name {name!r}: allowed are 1 to 64 of a-z, 0-9, _ and -, no _ or - first")


def _feature(stated: FeatureEntry) -> Feature:
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


def _kinds(features: Sequence[Feature], trees: forest.ForestModel) -> None:
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


def _golden(golden: Golden, trees: forest.ForestModel) -> None:
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
    evaluation: Evaluation | None = None,
) -> CheckedModel:
    """Write a trained lightgbm.Booster as a model's folder, and check it as `push` and every shard will.

    golden_rows: float32[n, len(features)], of which LightGBM itself says the scores. Raises InvalidArgument.
    """
    text = str(booster.model_to_string())
    trees = forest.parse(text)
    rows = np.ascontiguousarray(golden_rows, np.float32)
    scores = np.asarray(booster.predict(rows), np.float64).reshape(len(rows), trees.classes)
    columns = [f.name for f in features]
    manifest = ModelManifest(
        format=layout.FORMAT,
        name=name,
        columns=columns,
        objective=trees.objective,
        trees=trees.trees,
        leaves=trees.leaves,
        trained_ms=trained_ms,
        metrics=dict(metrics or {}),
        inputs=dict(inputs or {}),
        evaluation=evaluation,
    )
    stated = [
        FeatureEntry(
            name=f.name, source=f.source, default=None if np.isnan(f.default) else f.default, categorical=f.categorical
        )
        for f in features
    ]
    folder.mkdir(parents=True, exist_ok=True)
    replace_durably(folder / TEXT, text.encode())
    layout.write_json(folder / layout.FEATURES, stated)
    layout.write_golden(folder / GOLDEN, Golden(tuple(columns), rows, scores))
    layout.write_json(folder / MANIFEST, manifest)
    return check(folder, None)


def push(folder: Path, data: Place, known_datasets: Datasets | None = None) -> Ref:
    """Check a model and copy it into the registry as the next version of its name, whole or not at all."""
    name, blobs = check(folder, known_datasets).manifest.name, open_blobs(data)
    with blobs.draft(keys.model_key(name), DRAFT_S) as draft:
        for file in FILES:
            replace_durably(draft / file, folder / file)
        if (folder / layout.REPORT).is_file():
            replace_durably(draft / layout.REPORT, folder / layout.REPORT)
        check(draft, known_datasets)  # the copy, not the folder, which may have changed since
        layout.write_sums(draft)
        version = max(versions(blobs, name), default=0) + 1
        while True:
            try:
                blobs.publish(draft, keys.version_key(name, version))
            except Conflict:
                version += 1  # another took it meanwhile
            else:
                return Ref(name, version)


def versions(data: Place, name: str) -> list[int]:
    """The versions of a model, ascending."""
    return keys.versions(open_blobs(data), name)


def models(data: Place) -> list[Ref]:
    """Every version of every model, by name and version."""
    return [Ref(*found) for found in keys.models(open_blobs(data))]


def find(data: Place, text: str) -> Ref:
    """The model meant by "name@version", or by "name": its newest version. Raises NotFound naming those there are."""
    name, at, version = text.partition("@")
    known = versions(data, name) if keys.NAME.fullmatch(name) else []
    if known and not at:
        return Ref(name, known[-1])
    if version.isascii() and version.isdigit() and int(version) in known:
        return Ref(name, int(version))
    there = ", ".join(map(str, models(data))) or "none; feedmesh model train makes one"
    raise NotFound(f"model {text!r} is not in the registry; there are {there}")


def folder_of(data: Place, ref: Ref) -> Path:
    """A local folder of a version's files, to be read alone. Raises NotFound."""
    return open_blobs(data).folder(keys.version_key(*ref))


def manifest_of(data: Place, ref: Ref) -> ModelManifest:
    """The manifest of a version. Raises NotFound, and InvalidArgument when it is damaged."""
    return layout.read_json(folder_of(data, ref) / MANIFEST, ModelManifest)


def fingerprint_of(data: Place, ref: Ref) -> int:
    """A 64-bit BLAKE2b of a version's files. Raises NotFound, and OSError for a file that can't be read."""
    return layout.fingerprint(folder_of(data, ref))


def promoted(data: Place) -> Promoted:
    """Which model is served; none when none is promoted. Raises InvalidArgument when the pointer is damaged."""
    return _said(data)[0]


def promoted_mark(data: Place) -> str:
    """Another text once another model was promoted; empty when nothing says which one is."""
    try:
        return open_blobs(data).stat(keys.PROMOTED).mark
    except MeshError:
        return ""


def _said(data: Place) -> tuple[Promoted, bytes | None]:
    """Which model is served, and the blob that says so; None: there is none."""
    remedy = "remove it, and `feedmesh model promote NAME@VERSION` writes it anew"
    try:
        content = open_blobs(data).get(keys.PROMOTED)
        return layout.decode_promoted(content), content
    except NotFound:
        return Promoted(), None
    except MeshError as error:
        raise InvalidArgument(f"{str(error).removeprefix(f'{keys.MODELS}/')}; {remedy}") from None
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"promoted.json: {error}; {remedy}") from None


Ask = Callable[[Ref], str]  # asks the running mesh to read the registry; why it refuses this model, empty: it serves it


def judged(data: Place, ref: Ref) -> Evaluation | None:
    """How a version did beside the baselines, as its manifest says; None when nothing there judged it."""
    return manifest_of(data, ref).evaluation


def serving(data: Place) -> tuple[Ref, CheckedModel] | None:
    """The model that feeds are ranked by: the promoted one, or the latest before it that can be used; None: none is.

    Raises InvalidArgument when the file that says so is damaged.
    """
    said = promoted(data)
    for text in (said.promoted, *reversed(said.before)) if said.promoted else ():
        try:
            ref = find(data, text)
            return ref, check_ranks(check(folder_of(data, ref), None))
        except MeshError:
            continue  # the mesh says so of it, and goes on with the one before
    return None


def not_unasked(data: Place, ref: Ref) -> str:
    """Why a version that was just trained must not serve without a person who decides so; empty: it may."""
    found, now = judged(data, ref), serving(data)
    return "" if found is None else against_unasked(found, str(now[0]) if now else "")


def promote(
    data: Place, text: str, known_datasets: Datasets | None = None, ask: Ask = lambda _: "", force: bool = False
) -> Ref:
    """Serve this model from now on. Raises InvalidArgument when it, or the running mesh, refuses, and Conflict when another
    was promoted meanwhile: then nothing changed.

    A model that was found below a baseline, or below the model that serves, is refused too, unless `force`.
    """
    ref, (was, there) = find(data, text), _said(data)
    found = None if force else judged(data, ref)
    why = against(found, was.promoted) if found is not None else ""
    if why:
        raise InvalidArgument(f"{ref} is not promoted: {why}. --force promotes it all the same")
    before = was.before if was.promoted in ("", str(ref)) else [*was.before, was.promoted][-KEPT_BEFORE:]
    _point(data, ref, Promoted(promoted=str(ref), before=before), there, known_datasets, ask)
    return ref


def rollback(data: Place, known_datasets: Datasets | None = None, ask: Ask = lambda _: "") -> Ref:
    """Serve the model that was served before. Raises NotFound when there is none."""
    was, there = _said(data)
    if not was.before:
        raise NotFound(
            f"no model was served before {was.promoted or 'any was promoted'}; feedmesh model list shows all"
        )
    ref = find(data, was.before[-1])
    _point(data, ref, Promoted(promoted=str(ref), before=was.before[:-1]), there, known_datasets, ask)
    return ref


def _point(data: Place, ref: Ref, to: Promoted, there: bytes | None, known_datasets: Datasets | None, ask: Ask) -> None:
    """Serve a model, unless another was promoted meanwhile (Conflict) or the mesh refuses it. there: the pointer now."""
    check_ranks(check(folder_of(data, ref), known_datasets))
    blobs, new = open_blobs(data), layout.encode_promoted(to)
    blobs.swap(keys.PROMOTED, there, new)
    why = ask(ref)
    if why:
        with suppress(Conflict):  # of another that was promoted since it is not for this one to say
            blobs.swap(keys.PROMOTED, new, layout.encode_promoted(Promoted()) if there is None else there)
        ask(ref)  # to look again
        raise InvalidArgument(f"{ref} was not promoted, the running mesh refuses it: {why}")
