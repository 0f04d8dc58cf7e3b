"""The registry: what is taken, what is refused and why, and what is served."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from scorpion import keys, registry
from scorpion.layout import FEATURES, FILES, GOLDEN, MANIFEST, TEXT
from scorpion.models import Models
from scorpion.registry import Ref
from services.blob.folder import FolderBlobs
from services.blob.memory import MemoryBlobs
from services.core.errors import Conflict, InvalidArgument, NotFound
from tests.scorpion.making import NAMES, booster_of, features_of, rows_of, written

WITH_DATASET = (*NAMES, "embeddings.e0", "embeddings.e1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    written(made)
    return made


def changed(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    made = change(content)
    path.write_text(json.dumps(made if isinstance(made, list) and made and isinstance(made[0], dict) else content))


def golden_changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    columns = dict(pyarrow.parquet.read_table(folder / GOLDEN).to_pydict())
    types = {name: np.float64 if name == "score" else np.float32 for name in columns}
    arrays = {name: np.array(values, types[name]) for name, values in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(change(arrays) or arrays), folder / GOLDEN)


def test_a_model_as_training_writes_it_is_taken(folder: Path) -> None:
    model = registry.check(folder, {})
    features = features_of(NAMES)
    rows = rows_of(features, 50, 77)
    np.testing.assert_array_equal(model.score(rows), booster_of(features).predict(rows, num_threads=1))
    assert [f.name for f in model.features] == list(NAMES)
    assert (model.manifest.trees, model.manifest.columns, model.datasets) == (12, list(NAMES), ())
    assert model.manifest.metrics == {"auc": 0.71}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InvalidArgument, match=f"{name} is missing; a model is a folder of model.txt, features.json"):
        registry.check(folder, None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", r"model\.txt: is empty"),
        (b"\xff\xfe\x00", r"model\.txt: is UTF-16"),
        (b"tree\nversion=v\xe4", r"model\.txt: is no LightGBM model text: byte 14 is not UTF-8"),
        (b"tree\nversion=v4\nend of trees", r"model\.txt: is cut short, or of a model without trees"),
        (b"tree\nversion=v4\n\nTree=0\nend of trees", r"model\.txt: is no LightGBM model: feature_names is missing"),
        (b"hello", r"model\.txt: is no LightGBM model: a text of one begins with the line 'tree'"),
    ],
)
def test_a_text_that_is_no_model_is_refused(folder: Path, content: bytes, why: str) -> None:
    (folder / TEXT).write_bytes(content)
    with pytest.raises(InvalidArgument, match=why):
        registry.check(folder, None)


def test_a_linear_tree_is_refused(tmp_path: Path) -> None:
    features = features_of(("pin_quality", "pin_age_days"))
    linear = booster_of(features, linear_tree=True, objective="regression", trees=2)
    with pytest.raises(InvalidArgument, match=r"is_linear=1.*not supported"):
        registry.write(tmp_path / "x", linear, features, rows_of(features, 5, 1), name="linear", trained_ms=1)


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        (FEATURES, lambda f: f[3].update(name="pin_mood"), "feature 'pin_mood' is not known: known are user_interests"),
        (FEATURES, lambda f: f[3].update(source="user"), "pin_age_days is of pin, not of user"),
        (FEATURES, lambda f: f[1].update(categorical=False), "origin is a category in features/catalogue.py"),
        (FEATURES, lambda f: f[3].update(categorical=True), "pin_age_days is a number in features/catalogue.py"),
        (FEATURES, lambda f: f[3].update(default="none"), r"features\.json: \[3\]\.default = .none. is not allowed: a number"),
        (FEATURES, lambda f: f[3].update(mood=1), r"features\.json: \[3\]\.mood is not known here; known are "),
        (FEATURES, lambda f: [f[0], f[2], f[1], *f[3:]], r"column 1 is 'rank_in_source' in features.json, 'origin' in model"),
        (FEATURES, lambda f: f[:-1], r"features\.json has 9 columns, model\.txt 10"),
        (MANIFEST, lambda m: m["columns"].reverse(), r"column 0 is 'affinity_share' in manifest.json, 'user_interests'"),
        (MANIFEST, lambda m: m["columns"].append("hour"), r"manifest\.json has 11 columns, features\.json 10"),
        (MANIFEST, lambda m: m.update(format="other 9"), r"format 'other 9', this version reads 'feedmesh model 1'"),
        (MANIFEST, lambda m: m.update(name="../up"), r"name '../up': allowed are 1 to 64 of a-z"),
        (MANIFEST, lambda m: m.update(trees=13), r"states 13 trees of 15 leaves, model.txt has 12 of 15"),
        (MANIFEST, lambda m: m.pop("columns"), r"manifest\.json: columns is missing: a list"),
    ],
    ids=lambda value: "edit" if callable(value) else str(value),
)  # fmt: skip
def test_a_description_that_is_not_the_models_is_refused(
    folder: Path, file: str, change: Callable[[Any], Any], why: str
) -> None:
    changed(folder / file, change)
    with pytest.raises(InvalidArgument, match=why):
        registry.check(folder, None)


def test_json_that_is_none_is_refused(folder: Path) -> None:
    (folder / FEATURES).write_text("[{")
    with pytest.raises(InvalidArgument, match=r"features\.json: "):
        registry.check(folder, None)


def test_a_number_that_the_model_splits_as_a_category_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "made", names=WITH_DATASET)
    changed(tmp_path / "made" / FEATURES, lambda f: f[-1].update(categorical=True))
    with pytest.raises(InvalidArgument, match=r"embeddings\.e1 is a category, model\.txt splits it as a number"):
        registry.check(tmp_path / "made", None)


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({}, "feature embeddings.e0: rockstore has no dataset 'embeddings'; it has none"),
        ({"other": ["e0"]}, "rockstore has no dataset 'embeddings'; it has other"),
        (
            {"embeddings": ["e0", "e2"]},
            "feature embeddings.e1: rockstore's embeddings has no column 'e1'; it has e0, e2",
        ),
    ],
)
def test_a_column_that_rockstore_does_not_have_is_refused(
    tmp_path: Path, known: dict[str, list[str]], why: str
) -> None:
    written(tmp_path / "made", names=WITH_DATASET)
    with pytest.raises(InvalidArgument, match=why):
        registry.check(tmp_path / "made", known)
    assert registry.check(tmp_path / "made", None).datasets == ("embeddings.e0", "embeddings.e1")
    registry.check(tmp_path / "made", {"embeddings": ["e0", "e1", "e2"]})


def scored(columns: dict[str, Any], row: int, value: float) -> None:
    columns["score"][row] = value


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda g: scored(g, 4, float("nan")), r"row 4: the expected score is \[nan\]"),
        (lambda g: scored(g, 7, g["score"][7] * (1 + 2e-6)), r"row 7: expected score \[0\.\d+\], got \[0\.\d+\]; 1 of 20 differ"),
        (lambda g: g["pin_quality"].__iadd__(100), r"row \d+: expected score .*, got "),
        (lambda g: {name: column[:0] for name, column in g.items()}, "0 rows; allowed are 1 to 100000"),
        (lambda g: g.pop("score") is None, "has no column 'score'"),
        (lambda g: g.pop("pin_quality") is None, "column 4 is 'pin_saves_7d' in golden.parquet, 'pin_quality' in feat"),
        (lambda g: {**g, "pin_quality": g["pin_quality"].astype(float)}, "'pin_quality' is double, expected float"),
        (lambda g: {**g, "score": g["score"].astype(np.float32)}, "'score' is float, expected double"),
    ],
)  # fmt: skip
def test_golden_rows_that_do_not_score_as_they_should_are_refused(
    folder: Path, change: Callable[[dict[str, Any]], Any], why: str
) -> None:
    golden_changed(folder, lambda g: made if isinstance(made := change(g), dict) else None)
    with pytest.raises(InvalidArgument, match=why):
        registry.check(folder, None)


def test_a_golden_score_within_a_millionth_is_taken(folder: Path) -> None:
    golden_changed(folder, lambda g: scored(g, 7, g["score"][7] * (1 + 5e-7)))
    registry.check(folder, None)


def test_golden_rows_that_are_no_parquet_are_refused(folder: Path) -> None:
    (folder / GOLDEN).write_bytes(b"PAR1 no")
    with pytest.raises(InvalidArgument, match=r"golden\.parquet: "):
        registry.check(folder, None)


def test_a_model_of_several_classes(tmp_path: Path) -> None:
    features = features_of(NAMES)
    rows = rows_of(features, 300, 1)
    import lightgbm

    data = lightgbm.Dataset(rows, np.arange(300) % 3, feature_name=list(NAMES), categorical_feature=["origin"])
    booster = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}, data, 4)
    model = registry.write(tmp_path / "m", booster, features, rows[:9], name="kinds", trained_ms=1)
    np.testing.assert_allclose(model.score(rows), booster.predict(rows), rtol=1e-12)
    assert pyarrow.parquet.read_table(tmp_path / "m" / GOLDEN).column_names[-3:] == ["score_0", "score_1", "score_2"]


def test_a_fingerprint_is_of_every_file(folder: Path) -> None:
    before = registry.check(folder, None).fingerprint
    assert registry.check(folder, None).fingerprint == before
    changed(folder / MANIFEST, lambda m: m["metrics"].update(auc=0.72))
    assert registry.check(folder, None).fingerprint != before


def test_push_takes_whole_models_as_next_versions(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert registry.models(data) == []
    assert registry.push(folder, data) == Ref("ranker", 1)
    assert registry.push(folder, data) == Ref("ranker", 2)
    changed(folder / MANIFEST, lambda m: m.update(name="other"))
    assert registry.push(folder, data, {}) == Ref("other", 1)
    assert registry.models(data) == [Ref("other", 1), Ref("ranker", 1), Ref("ranker", 2)]
    there = registry.folder_of(data, Ref("ranker", 2))
    assert sorted(p.name for p in there.iterdir()) == sorted([*FILES, "checksums.json"])
    assert registry.find(data, "ranker") == Ref("ranker", 2)
    assert registry.find(data, "ranker@1") == Ref("ranker", 1)
    for unknown in ("ranker@3", "none", "../data", "ranker@", "ranker@x", "@1", ""):
        with pytest.raises(NotFound, match="is not in the registry; there are other@1, ranker@1, ranker@2"):
            registry.find(data, unknown)


def test_what_is_refused_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    registry.push(folder, tmp_path / "data")
    golden_changed(folder, lambda g: scored(g, 0, float("nan")))
    with pytest.raises(InvalidArgument):
        registry.push(folder, tmp_path / "data")
    assert registry.models(tmp_path / "data") == [Ref("ranker", 1)]
    assert [p.name for p in (tmp_path / "data" / "models" / "ranker").iterdir()] == ["1"]


def test_a_push_removes_what_a_killed_one_has_left_and_no_other(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / keys.MODELS / "ranker"
    for name in ("killed", "going-on"):
        (home / f".draft-{name}").mkdir(parents=True)
    os.utime(home / ".draft-killed", (time.time() - 7_200,) * 2)
    registry.push(folder, tmp_path)
    assert sorted(path.name for path in home.iterdir()) == [".draft-going-on", "1"]


def test_pushes_at_once_get_versions_of_their_own(folder: Path, tmp_path: Path) -> None:
    refs: list[Ref] = []
    threads = [threading.Thread(target=lambda: refs.append(registry.push(folder, tmp_path / "data"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ref.version for ref in refs) == [1, 2, 3, 4, 5, 6]


def test_promote_and_rollback_move_the_pointer(folder: Path, tmp_path: Path) -> None:
    data, asked = tmp_path / "data", []
    with pytest.raises(NotFound, match="there are none; feedmesh model train makes one"):
        registry.promote(data, "ranker")
    for _ in range(3):
        registry.push(folder, data)
    with pytest.raises(NotFound, match="no model was served before any was promoted"):
        registry.rollback(data)

    def ask(ref: Ref) -> str:
        asked.append(registry.promoted(data).promoted)
        return ""

    for version in (1, 2, 2, 3):
        registry.promote(data, f"ranker@{version}", None, ask)
    assert asked == ["ranker@1", "ranker@2", "ranker@2", "ranker@3"], "a shard that is called to look finds it"
    said = json.loads((data / keys.PROMOTED).read_text())
    assert (said["promoted"], said["before"]) == ("ranker@3", ["ranker@1", "ranker@2"])
    assert registry.rollback(data) == Ref("ranker", 2)
    assert registry.rollback(data) == Ref("ranker", 1)
    with pytest.raises(NotFound, match="no model was served before ranker@1"):
        registry.rollback(data)


def test_a_promotion_that_the_mesh_refuses_is_undone(folder: Path, tmp_path: Path) -> None:
    data, seen = tmp_path / "data", []
    for _ in range(2):
        registry.push(folder, data)
    registry.promote(data, "ranker@1")

    def refuse(ref: Ref) -> str:
        seen.append(registry.promoted(data).promoted)
        return "no memory"

    with pytest.raises(InvalidArgument, match="ranker@2 was not promoted, the running mesh refuses it: no memory"):
        registry.promote(data, "ranker@2", None, refuse)
    assert seen == ["ranker@2", "ranker@1"], "and the mesh is called to look again"
    assert registry.promoted(data).before == []


def test_a_model_that_was_damaged_is_not_promoted(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    ref = registry.push(folder, data)
    text = registry.folder_of(data, ref) / TEXT
    text.write_text(text.read_text()[:500])
    with pytest.raises(InvalidArgument, match="model.txt: damaged"):
        registry.promote(data, "ranker")
    assert registry.promoted(data).promoted == ""


def test_a_pointer_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "promoted.json").write_text('{"promoted": 3}')
    with pytest.raises(InvalidArgument, match=r"promoted\.json: Expected `str`, got `int`"):
        registry.promoted(tmp_path)


def test_a_bit_of_a_model_in_the_registry_that_flips_is_noticed(folder: Path, tmp_path: Path) -> None:
    """In a leaf that no golden row reaches, the scores of some pins would be wrong and nothing else."""
    there = registry.folder_of(tmp_path, registry.push(folder, tmp_path))
    for name in (*FILES, "checksums.json"):
        content = (there / name).read_bytes()
        (there / name).write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        with pytest.raises(InvalidArgument):
            registry.check(there, None)
        (there / name).write_bytes(content)
    registry.check(there, None)


def test_a_bit_of_what_says_which_model_is_served_is_noticed(folder: Path, tmp_path: Path) -> None:
    for _ in range(3):
        registry.push(folder, tmp_path)
    registry.promote(tmp_path, "ranker@3")
    path = tmp_path / keys.PROMOTED
    path.write_bytes(path.read_bytes().replace(b"ranker@3", b"ranker@1"))  # is there too
    with pytest.raises(InvalidArgument, match="promoted.json: damaged"):
        registry.promoted(tmp_path)
    path.unlink()
    registry.promote(tmp_path, "ranker@2")
    assert registry.promoted(tmp_path).promoted == "ranker@2"


def test_the_registry_needs_no_folder(folder: Path, tmp_path: Path) -> None:
    """A store elsewhere has blobs by key, and local copies of them."""
    blobs = MemoryBlobs(tmp_path / "cache")
    for _ in range(2):
        registry.push(folder, blobs)
    assert registry.models(blobs) == [Ref("ranker", 1), Ref("ranker", 2)]
    registry.promote(blobs, "ranker@1")
    registry.promote(blobs, "ranker")
    assert (registry.promoted(blobs).promoted, registry.rollback(blobs)) == ("ranker@2", Ref("ranker", 1))
    served = Models(blobs, lambda: None, lambda _: None)
    served.refresh()
    assert str(served.get("").ref) == "ranker@1"
    assert [one.loaded for one in served.listed()] == [True, False]
    blobs.put("models/ranker/2/model.txt", b"tree\n")
    with pytest.raises(InvalidArgument, match="model.txt: damaged"):
        registry.promote(blobs, "ranker@2")


def test_of_two_promotions_at_once_the_later_gets_an_error(folder: Path, tmp_path: Path) -> None:
    """A promotion of another model during the check is not undone by it, nor by its refusal."""
    for _ in range(3):
        registry.push(folder, tmp_path)
    blobs = FolderBlobs(tmp_path)

    class Slow(FolderBlobs):
        """Where another promotes between the look and the write."""

        def folder(self, prefix: str) -> Path:
            if blobs.exists(keys.PROMOTED) is False:
                registry.promote(blobs, "ranker@1", force=True)
            return super().folder(prefix)

    with pytest.raises(Conflict, match="promoted.json: was changed meanwhile"):
        registry.promote(Slow(tmp_path), "ranker@2", force=True)
    assert registry.promoted(tmp_path).promoted == "ranker@1"

    def refuse(ref: Ref) -> str:
        if registry.promoted(tmp_path).promoted == "ranker@2":
            registry.promote(tmp_path, "ranker@3", force=True)
        return "no memory"

    with pytest.raises(InvalidArgument, match="no memory"):
        registry.promote(tmp_path, "ranker@2", ask=refuse, force=True)
    assert registry.promoted(tmp_path).promoted == "ranker@3"
