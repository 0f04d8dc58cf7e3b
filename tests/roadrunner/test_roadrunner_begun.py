"""A data folder knows which log it was begun with."""

from pathlib import Path

import pytest

from roadrunner import begun
from services.core.errors import Damaged

ONE, OTHER = bytes(16), bytes(range(16))


def test_a_log_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "roadrunner" / "0of1"
    begun.check_there(tmp_path, folder)  # nothing was begun
    begun.check_same(tmp_path, folder, ONE)
    begun.check_same(tmp_path, folder, ONE)
    with pytest.raises(Damaged, match="the log is missing; restore it"):
        begun.check_there(tmp_path, folder)
    with pytest.raises(Damaged, match=f"is the log {OTHER.hex()}, and .* says '{ONE.hex()}'"):
        begun.check_same(tmp_path, folder, OTHER)
    folder.mkdir(parents=True)
    (folder / "CURRENT").touch()
    begun.check_there(tmp_path, folder)
    (tmp_path / begun.NOTE).unlink()
    begun.check_same(tmp_path, folder, OTHER)
