"""The mesh's file, as processes of this version and of another one read it."""

from pathlib import Path

import msgspec
import pytest

from services.core import summed
from services.core.errors import NotFound
from services.core.settings import MeshSettings, ShardSettings
from services.rpc import mesh as meshes
from services.rpc.mesh import Address, Mesh

PROCESS = Address(service="apiary", shard=0, shards=1, address="127.0.0.1:7001")


def test_settings_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    """A process of the version before reads the file of an upgrade that has begun."""
    later = {"mesh": {"zone": "east", "of_the_next_version": 3}, "apiary": {"cache_mb": 8, "another": ["a"]}}
    path = tmp_path / "mesh.json"
    path.write_bytes(summed.encoded(Mesh(settings=later, processes=[PROCESS])))
    found = meshes.load(path)
    assert found.common == MeshSettings(zone="east")
    assert found.section("apiary", ShardSettings).cache_mb == 8


def test_a_setting_of_the_wrong_type_is_not_passed_over() -> None:
    with pytest.raises(msgspec.ValidationError, match="cache_mb"):
        Mesh(settings={"apiary": {"cache_mb": "many"}}, processes=[]).section("apiary", ShardSettings)


def test_a_field_of_a_process_that_is_not_known_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "mesh.json"
    body = {"settings": {"mesh": {}}, "processes": [{**msgspec.to_builtins(PROCESS), "rack": "r7"}]}
    path.write_bytes(summed.encoded(body))
    assert meshes.load(path).of("apiary") == [PROCESS]


def test_no_file_names_the_commands(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="feedmesh up"):
        meshes.load(tmp_path / "mesh.json")
