"""Small files: whole under their name, for their owner alone, and refused by name when they are odd."""

from pathlib import Path

import pytest

from feedgen.cursor import secret_of
from services.core.durable import replace_durably
from services.core.errors import Damaged, InvalidArgument
from services.ops.supervisor import FORMAT, DataFolder


def test_a_file_is_replaced_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        replace_durably(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [(p.name, p.stat().st_mode & 0o777) for p in tmp_path.iterdir()] == [("file", 0o600)]


def test_what_can_not_be_written_leaves_the_old_one_and_no_draft(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        replace_durably(tmp_path / "file", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 33])
def test_a_secret_of_another_length_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    secret = secret_of(tmp_path)
    assert len(secret) == 32
    assert secret_of(tmp_path) == secret
    (tmp_path / "cursor.secret").write_bytes(content)
    with pytest.raises(Damaged, match=f"cursor.secret: is damaged: it has {len(content)} bytes, not 32; restore it"):
        secret_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"feedmash data 1\n", b"\x00" * 16])
def test_a_format_that_is_none_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    DataFolder(tmp_path).release()
    (tmp_path / "FORMAT").write_bytes(content)
    with pytest.raises(InvalidArgument, match="FORMAT: is damaged: it holds"):
        DataFolder(tmp_path)


def test_a_format_of_another_version_names_both_and_a_missing_one_beside_data_is_not_made_up(tmp_path: Path) -> None:
    (tmp_path / "roadrunner").mkdir()
    with pytest.raises(InvalidArgument, match="FORMAT: is missing, and the folder holds data"):
        DataFolder(tmp_path)
    (tmp_path / "FORMAT").write_text("feedmesh data 0\n")
    with pytest.raises(InvalidArgument, match=f"was written as 'feedmesh data 0', this version reads '{FORMAT}'"):
        DataFolder(tmp_path)


def test_a_data_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Also one that was made before."""
    (tmp_path / "data" / "models").mkdir(parents=True, mode=0o755)
    DataFolder(tmp_path / "data").release()
    found = {p.name: p.stat().st_mode & 0o077 for p in [tmp_path / "data", *(tmp_path / "data").iterdir()]}
    assert set(found.values()) == {0}, found
