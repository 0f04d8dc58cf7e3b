"""Settings: a wrong one is refused by its name, and every setting is described."""

from pathlib import Path

import pytest

from cli.schema import SCHEMA, SERVICE_SETTINGS
from services.core import settings
from services.core.errors import InvalidArgument

#: The mesh's own sections and two more are under test, not those of services that come and go.
SMALL = {name: SCHEMA[name] for name in ("mesh", "learning", "roadrunner", "apiary")}


def load(tmp_path: Path, text: str) -> settings.Sections:
    path = tmp_path / "mesh.toml"
    path.write_text(text)
    return settings.load(path, SMALL)


def test_defaults_are_valid_and_the_same_as_an_empty_file(tmp_path: Path) -> None:
    assert settings.load(None, SMALL) == load(tmp_path, "")
    assert list(settings.load(None, SMALL)) == ["mesh", "learning", "roadrunner", "apiary"]


def test_what_is_set_is_taken_and_the_rest_is_default(tmp_path: Path) -> None:
    sections = load(tmp_path, "[mesh]\npartitions = 32\n[apiary]\nshards = 2\nthrough_weight = 0.5\n")
    assert sections["mesh"].partitions == 32
    assert sections["mesh"].host == "127.0.0.1"
    assert (sections["apiary"].shards, sections["apiary"].through_weight) == (2, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[apairy]\nshards = 2", r"unknown section \[apairy\]; known are mesh, learning, roadrunner, apiary"),
        ("shards = 2", r"unknown section \[shards\]"),
        ("apiary = 3", r"\[apiary\]: the section = 3 is not allowed: an object of port, "),
        ("[apiary]\nshard = 2", r"\[apiary\]: shard is not known here; known are .*shards"),
        ("[apiary]\nshards = '2'", r'\[apiary\]: shards = "2" is not allowed: a whole number, 1 to 1024'),
        ("[apiary]\nshards = 0", r"\[apiary\]: shards = 0 is not allowed: a whole number, 1 to 1024"),
        ("[apiary]\nshards = 1025", r"\[apiary\]: shards = 1025 is not allowed: a whole number, 1 to 1024"),
        ("[apiary]\ndirect_weight = 0", r"\[apiary\]: direct_weight = 0 is not allowed: a number, above 0, to 100"),
        ("[roadrunner]\nport = 70000", r"\[roadrunner\]: port = 70000 is not allowed: a whole number, 0 to 65535"),
        ("[mesh]\ndata = ''", r'\[mesh\]: data = "" is not allowed: text of 1 characters or more'),
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
        settings.load(tmp_path / "none.toml", SMALL)
    with pytest.raises(InvalidArgument, match=r"Is a directory"):
        settings.load(tmp_path, SMALL)
    (tmp_path / "mesh.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument, match=r"mesh.toml: not TOML: "):
        settings.load(tmp_path / "mesh.toml", SMALL)


def test_bounds_are_described() -> None:
    rows = {name: (default, allowed) for name, default, allowed, _ in settings.describe(SERVICE_SETTINGS["apiary"])}
    assert rows["shards"] == ("1", "int from 1 to 1024")
    assert rows["direct_weight"] == ("1.0", "float above 0 to 100")
    assert rows["port"] == ("0", "int from 0 to 65535")


def test_every_setting_of_every_service_is_described() -> None:
    for section, struct in SCHEMA.items():
        rows = settings.describe(struct)
        assert {row[0] for row in rows} == set(struct.__struct_fields__)
        for name, _, allowed, description in rows:
            assert description, f"[{section}] {name} has no description"
            assert allowed
