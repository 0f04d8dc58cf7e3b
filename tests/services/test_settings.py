"""Settings: what is wrong is refused by its name, and every setting is described."""

from pathlib import Path

import pytest

from services import settings
from services.errors import InvalidArgument


@pytest.fixture
def two_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mesh's own sections are under test, not those of services that come and go."""
    monkeypatch.setattr(settings, "SERVICES", ("roadrunner", "apiary"))


pytestmark = pytest.mark.usefixtures("two_services")


def load(tmp_path: Path, text: str) -> settings.Sections:
    path = tmp_path / "mesh.toml"
    path.write_text(text)
    return settings.load(path)


def test_defaults_are_valid_and_the_same_as_an_empty_file(tmp_path: Path) -> None:
    assert settings.load(None) == load(tmp_path, "")
    assert list(settings.load(None)) == ["mesh", "roadrunner", "apiary"]


def test_what_is_set_is_taken_and_the_rest_is_default(tmp_path: Path) -> None:
    sections = load(tmp_path, "[mesh]\npartitions = 32\n[apiary]\nshards = 2\nthrough_weight = 0.5\n")
    assert sections["mesh"].partitions == 32
    assert sections["mesh"].host == "127.0.0.1"
    assert (sections["apiary"].shards, sections["apiary"].through_weight) == (2, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[apairy]\nshards = 2", r"unknown section \[apairy\]; known are mesh, roadrunner, apiary"),
        ("shards = 2", r"unknown section \[shards\]"),
        ("apiary = 3", r"\[apiary\]: Expected `object`, got `int`"),
        ("[apiary]\nshard = 2", r"\[apiary\]: Object contains unknown field `shard` \(settings here: .*shards"),
        ("[apiary]\nshards = '2'", r"\[apiary\]: Expected `int`, got `str` - at `\$.shards`"),
        ("[apiary]\nshards = 0", r"\[apiary\]: Expected `int` >= 1 - at `\$.shards`"),
        ("[apiary]\nshards = 1025", r"\[apiary\]: Expected `int` <= 1024 - at `\$.shards`"),
        ("[apiary]\ndirect_weight = 0", r"\[apiary\]: Expected `float` > 0.0 - at `\$.direct_weight`"),
        ("[roadrunner]\nport = 70000", r"\[roadrunner\]: Expected `int` <= 65535 - at `\$.port`"),
        ("[mesh]\ndata = ''", r"\[mesh\]: Expected `str` of length >= 1 - at `\$.data`"),
        ("[mesh]\ndrain_s = nan", r"\[mesh\]: .*drain_s"),
        ("[mesh\n", r"mesh.toml: not TOML: "),
        ("[mesh]\nzone = 'a'\nzone = 'b'", r"mesh.toml: not TOML: "),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as refused:
        load(tmp_path, text)
    assert str(refused.value).startswith(str(tmp_path / "mesh.toml"))


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"none.toml: No such file or directory"):
        settings.load(tmp_path / "none.toml")
    with pytest.raises(InvalidArgument, match=r"Is a directory"):
        settings.load(tmp_path)
    (tmp_path / "mesh.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument, match=r"mesh.toml: not TOML: "):
        settings.load(tmp_path / "mesh.toml")


def test_bounds_are_described() -> None:
    rows = {
        name: (default, allowed) for name, default, allowed, _ in settings.describe(settings.door_settings("apiary"))
    }
    assert rows["shards"] == ("1", "int from 1 to 1024")
    assert rows["direct_weight"] == ("1.0", "float above 0 to 100")
    assert rows["port"] == ("0", "int from 0 to 65535")


def test_every_setting_of_every_service_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for section, struct in settings.schema().items():
        rows = settings.describe(struct)
        assert {row[0] for row in rows} == set(struct.__struct_fields__)
        for name, _, allowed, description in rows:
            assert description, f"[{section}] {name} has no description"
            assert allowed
