"""The phases of a mesh before it has anything to show."""

from pathlib import Path

import pytest

from services.ops.phase import phase, phase_file, present


def test_it_is_said_for_as_long_as_it_lasts(tmp_path: Path) -> None:
    phase_file(tmp_path).parent.mkdir()
    assert present(tmp_path) == ""
    with phase(tmp_path, "a world is being loaded"):
        assert present(tmp_path) == "a world is being loaded"
    assert present(tmp_path) == ""
    with pytest.raises(ZeroDivisionError), phase(tmp_path, "it fails"):
        raise ZeroDivisionError
    assert present(tmp_path) == ""


def test_what_is_no_text_is_nothing(tmp_path: Path) -> None:
    phase_file(tmp_path).parent.mkdir()
    phase_file(tmp_path).write_bytes(b"\xff\xfe")
    assert present(tmp_path) == ""
