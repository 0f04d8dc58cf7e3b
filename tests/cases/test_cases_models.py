"""Models as people push them: of several classes, of old LightGBMs, dumped, damaged, and those of other tools."""

import shutil
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from features import catalogue
from scorpion import forest, keys, layout, registry
from scorpion.layout import TEXT
from scorpion.models import Models
from scorpion.registry import Ref
from scorpion.text import decoded
from services.core.errors import InvalidArgument, NotReady
from tests.scorpion.making import features_of, rows_of, written

CASES = Path(__file__).parent / "inputs"
FOREIGN = CASES / "M04-files-of-other-tools"
PLAIN = ("pin_quality", "pin_age_days")
ROWS = np.random.default_rng(5).random((500, 2)).astype(np.float32)


def scores(content: bytes) -> object:
    return forest.parse(decoded(content)).score(ROWS)


def as_lightgbm(content: bytes) -> object:
    return lightgbm.Booster(model_str=content.decode()).predict(ROWS, num_threads=1)


def test_M01_a_model_of_several_classes_may_be_pushed_and_is_not_promoted(tmp_path: Path) -> None:
    ref = registry.push(CASES / "M01-multiclass-model", tmp_path)
    with pytest.raises(
        InvalidArgument, match=r"gives 3 scores of a pin \(multiclass num_class:3\), and feeds rank by one"
    ):
        registry.promote(tmp_path, str(ref))
    assert not registry.promoted(tmp_path).promoted


def test_M01_a_pointer_to_a_model_of_several_classes_is_refused_where_it_is_read(tmp_path: Path) -> None:
    """One that an earlier version promoted, or that a person wrote: the model before it goes on."""
    written(tmp_path / "good", trees=3)
    good = registry.promote(tmp_path, str(registry.push(tmp_path / "good", tmp_path)))
    bad = registry.push(CASES / "M01-multiclass-model", tmp_path)
    layout.write_json(tmp_path / keys.PROMOTED, layout.Promoted(promoted=str(bad), before=[str(good)]))
    served = Models(tmp_path, lambda: {}, lambda columns: None)
    served.refresh()
    assert str(served.get("").ref) == str(good)
    assert "feeds rank by one" in {f"{m.name}@{m.version}": m.problem for m in served.listed()}[str(bad)]
    assert served.get(str(bad)).model.forest.classes == 3  # by name it may be asked


@pytest.mark.parametrize("objective", ["multiclass", "multiclassova"])
def test_M01_other_objectives_of_several_outputs(tmp_path: Path, objective: str) -> None:
    rows = rows_of(features_of(PLAIN), 300, 1)
    data = lightgbm.Dataset(rows, np.arange(300) % 3, feature_name=list(PLAIN))
    how = {"objective": objective, "num_class": 3, "verbose": -1, "num_threads": 1}
    features = [catalogue.feature(name) for name in PLAIN]
    registry.write(tmp_path / "m", lightgbm.train(how, data, 2), features, rows[:9], name="kinds", trained_ms=1)
    with pytest.raises(InvalidArgument, match="gives 3 scores of a pin"):
        registry.promote(tmp_path, str(registry.push(tmp_path / "m", tmp_path)))


def test_M01_several_classes_of_ones_own_objective(tmp_path: Path) -> None:
    """A custom objective leaves no objective in the text: the number of trees an iteration says how many scores."""
    content = (CASES / "M01-multiclass-model" / TEXT).read_bytes().replace(b"objective=multiclass num_class:3\n", b"")
    shutil.copytree(CASES / "M01-multiclass-model", tmp_path / "m")
    (tmp_path / "m" / TEXT).write_bytes(content)
    assert forest.parse(decoded(content)).classes == 3


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda folder: (folder / TEXT).write_bytes(b"tree\n")])
def test_M01_a_promoted_model_that_is_lost_leaves_the_one_before(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    written(tmp_path / "made", trees=3)
    for _ in range(2):
        registry.promote(tmp_path, str(registry.push(tmp_path / "made", tmp_path)))
    damage(registry.folder_of(tmp_path, Ref("ranker", 2)))
    served = Models(tmp_path, lambda: {}, lambda columns: None)
    served.refresh()
    assert str(served.get("").ref) == "ranker@1"
    damage(registry.folder_of(tmp_path, Ref("ranker", 1)))
    served.refresh()
    assert str(served.get("").ref) == "ranker@1", "the model in memory goes on"
    anew = Models(tmp_path, lambda: {}, lambda columns: None)
    anew.refresh()
    with pytest.raises(NotReady, match="no model is promoted") as refused:
        anew.get("")
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("case", ["M02-old-text-without-end-of-trees", "M03-old-text-without-tree-sizes"])
def test_M02_M03_old_texts_score_as_lightgbm_scores_them(case: str) -> None:
    content = (CASES / case / TEXT).read_bytes()
    np.testing.assert_array_equal(scores(content), as_lightgbm(content))


def lines_changed(content: bytes, change: Callable[[str], bool]) -> bytes:
    return "".join(line for line in content.decode().splitlines(keepends=True) if not change(line)).encode()


@pytest.mark.parametrize(
    "older",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: lines_changed(text, lambda line: line.startswith(("is_linear", "num_cat=", "shrinkage"))),
        lambda text: lines_changed(text, lambda line: line.startswith("num_tree_per_iteration")),
        lambda text: text.partition(b"end of trees")[0] + b"feature importances:\npin_quality=6\n",
        lambda text: text.partition(b"end of trees")[0] + b"feature_importances:\npin_quality=6\n",
    ],
    ids=["CRLF", "CR", "BOM", "no newer fields", "no trees an iteration", "importances", "underscore"],
)
def test_M02_M03_other_shapes_of_a_text(older: Callable[[bytes], bytes]) -> None:
    whole = (CASES / "M03-old-text-without-tree-sizes" / TEXT).read_bytes()
    np.testing.assert_array_equal(scores(older(whole)), as_lightgbm(whole))


def test_M02_a_text_without_an_end_that_is_cut_short_is_refused_wherever_it_is_cut() -> None:
    whole = (CASES / "M02-old-text-without-end-of-trees" / TEXT).read_bytes().partition(b"\nfeature importances")[0]
    for end in range(0, len(whole) - 8, 7):
        with pytest.raises(InvalidArgument, match=r"^model\.txt: "):
            scores(whole[:end])


def test_M03_a_text_with_neither_sizes_nor_an_end_is_refused() -> None:
    whole = (CASES / "M03-old-text-without-tree-sizes" / TEXT).read_bytes()
    with pytest.raises(InvalidArgument, match="has neither the line 'end of trees' nor 'tree_sizes'"):
        scores(whole.partition(b"end of trees")[0])


def test_M04_a_dump_is_named_with_its_remedy() -> None:
    with pytest.raises(InvalidArgument, match=r"JSON of Booster\.dump_model.*Booster\.save_model"):
        scores((CASES / "M04-json-dump-as-model" / TEXT).read_bytes())


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("xgboost.json", "an XGBoost model"),
        ("xgboost.ubj", "an XGBoost model"),
        ("xgboost.pickle", "a pickle, which is never loaded"),
        ("xgboost-dump.txt", "XGBoost's dump"),
        ("catboost.cbm", "a CatBoost model"),
        ("catboost.json", "a CatBoost model"),
        ("catboost.onnx", "an ONNX model"),
        ("lightgbm.pickle", "a pickle, which is never loaded"),
        ("lightgbm.joblib", "a pickle, which is never loaded"),
        ("lightgbm.txt.gz", "packed with gzip"),
    ],
)
def test_M04_files_of_other_tools_are_named(file: str, named: str) -> None:
    """As xgboost 3.2, CatBoost 1.2.10, joblib and gzip wrote them."""
    with pytest.raises(InvalidArgument, match=rf"^model\.txt: is {named}"):
        scores((FOREIGN / file).read_bytes())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a page of HTML"),
        (b'{"a": 1}', "JSON"),
        (b"\0\1\2", "binary"),
        ("tree\nversion=v4\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_M04_other_files_are_named(content: bytes, named: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^model\.txt: is {named}"):
        scores(content)


def test_M04_what_lightgbm_writes_today_is_read() -> None:
    content = (FOREIGN / "lightgbm.txt").read_bytes()
    np.testing.assert_array_equal(scores(content), as_lightgbm(content))
