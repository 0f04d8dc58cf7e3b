"""The models that a process serves of a registry: at its start, and as the pointer moves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scorpion import keys, layout, models, registry
from scorpion.layout import TEXT, Promoted
from scorpion.models import Models
from scorpion.registry import Ref
from services.core.errors import InvalidArgument, NotFound, NotReady
from tests.scorpion.making import written
from tests.services.children import until


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models 1 to 3."""
    folder = tmp_path_factory.mktemp("made")
    for seed in (1, 2, 3):
        written(folder / str(seed), seed, trees=3)
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A registry of versions 1 to 3 of which none is promoted."""
    for seed in (1, 2, 3):
        registry.push(made / str(seed), tmp_path)
    return tmp_path


@pytest.fixture
def served(data: Path) -> Iterator[Models]:
    made = Models(data, lambda: {}, lambda columns: None)
    yield made
    made.stop()


def damage(data: Path, version: int) -> None:
    text = registry.folder_of(data, Ref("ranker", version)) / TEXT
    text.write_text(text.read_text()[:400])


def name_of(served: Models) -> str:
    return str(served.get("").ref)


def test_nothing_promoted_is_no_trouble(served: Models) -> None:
    served.start()
    assert served.promoted() is None
    with pytest.raises(NotReady, match="no model is promoted; feedmesh model train makes one"):
        served.get("")
    assert [one.loaded for one in served.listed()] == [False] * 3
    assert all(one.trees == 3 and one.fingerprint for one in served.listed()), "read from the folders"


def test_a_promotion_is_found_by_itself(served: Models, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "LOOK_S", 0.02)
    registry.promote(data, "ranker@1")
    served.start()
    assert name_of(served) == "ranker@1"
    registry.promote(data, "ranker@2")
    until(lambda: name_of(served) == "ranker@2")
    registry.rollback(data)
    until(lambda: name_of(served) == "ranker@1")
    (data / keys.PROMOTED).unlink()
    until(lambda: served.promoted() is None)


def test_a_bad_one_at_the_start_leaves_the_one_before(served: Models, data: Path) -> None:
    for version in (1, 2, 3):
        registry.promote(data, f"ranker@{version}")
    damage(data, 3)
    damage(data, 2)
    served.start()
    assert name_of(served) == "ranker@1"
    problems = {one.version: one.problem for one in served.listed()}
    assert "damaged" in problems[3]
    assert "damaged" in problems[2]
    assert problems[1] == ""


def test_no_good_one_at_the_start_says_why(served: Models, data: Path) -> None:
    registry.promote(data, "ranker@1")
    damage(data, 1)
    served.start()
    with pytest.raises(NotReady, match=r"no model is promoted.*ranker@1: model\.txt: damaged"):
        served.get("")


def test_a_bad_one_later_leaves_what_is_served(served: Models, data: Path) -> None:
    registry.promote(data, "ranker@1")
    served.refresh()
    damage(data, 2)
    layout.write_json(data / keys.PROMOTED, Promoted(promoted="ranker@2", before=["ranker@3", "ranker@1"]))
    served.refresh()
    assert name_of(served) == "ranker@1"
    assert [one.promoted for one in served.listed()] == [True, False, False]
    layout.write_json(data / keys.PROMOTED, Promoted(promoted="gone@9"))
    served.refresh()
    gone = next(one for one in served.listed() if one.name == "gone")
    assert (gone.version, gone.loaded) == (9, False)
    assert "is not in the registry" in gone.problem
    assert name_of(served) == "ranker@1"


def test_a_pointer_that_is_none_leaves_what_is_served(served: Models, data: Path) -> None:
    registry.promote(data, "ranker@1")
    served.refresh()
    (data / keys.PROMOTED).write_text("{")
    served.refresh()
    assert name_of(served) == "ranker@1"
    assert [one.problem[:15] for one in served.listed() if one.problem] == ["promoted.json: "]
    registry_again = Promoted(promoted="ranker@2")
    layout.write_json(data / keys.PROMOTED, registry_again)
    served.refresh()
    assert name_of(served) == "ranker@2"
    assert not [one for one in served.listed() if one.problem]


def test_others_are_loaded_when_asked_for_and_few_are_kept(served: Models, data: Path, made: Path) -> None:
    registry.promote(data, "ranker@1")
    served.refresh()
    for seed in range(models.MOST_LOADED + 2):
        registry.push(made / str(1 + seed % 3), data)
    for ref in registry.models(data):
        assert served.get(str(ref)).ref == ref
        assert served.get(str(ref)) is served.get(str(ref))
    assert Ref("ranker", 1) in served.state.loaded, "the promoted one stays"
    assert len(served.state.loaded) <= models.MOST_LOADED + 1
    assert served.get("ranker").ref == Ref("ranker", 1), "by its name alone: the promoted one of that name"
    with pytest.raises(NotFound, match="model 'other' is not in the registry"):
        served.get("other")
    damage(data, 2)
    fresh = Models(data, lambda: {}, lambda columns: None)
    with pytest.raises(InvalidArgument, match="damaged"):
        fresh.get("ranker@2")
    assert fresh.get("ranker").ref.version == models.MOST_LOADED + 5, "none is promoted there: the newest"


def test_a_model_of_a_dataset_waits_for_it(tmp_path: Path) -> None:
    written(tmp_path / "made", names=("pin_quality", "taste.x0"), trees=2)
    registry.push(tmp_path / "made", tmp_path)
    registry.promote(tmp_path, "ranker")
    known: dict[str, list[str]] = {}
    widened: list[tuple[str, ...]] = []
    served = Models(tmp_path, lambda: known, lambda columns: widened.append(tuple(columns)))
    served.refresh()
    assert served.promoted() is None
    assert widened == []
    known["taste"] = ["x0"]
    served.refresh()
    assert name_of(served) == "ranker@1"
    assert widened == [("taste.x0",)], "the cache has the columns before a request is scored"
