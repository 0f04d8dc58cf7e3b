"""A few cuts of the power under the embedded log and under a view; `make drill-power` makes 200 of each. And that the file system
does forget: a drill on one that keeps everything would find nothing.
"""

import os
from pathlib import Path

import pytest

from tests.drill.power.rounds import NotMountedError, cut, lossy, missing, rounds
from tests.drill.power.stores import CarelessLog, Log, Store, View

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.usefixtures("mounts")]
CUTS = 5


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where a container may not mount."""
    try:
        with lossy(tmp_path_factory.mktemp("mounts"), seed=0):
            pass
    except NotMountedError as error:
        pytest.skip(f"NOT TESTED: a cut of the power. {error}; it takes a container with CAP_SYS_ADMIN")


@pytest.mark.parametrize("store", [Log(), View()], ids=lambda store: store.name)
def test_nothing_acknowledged_is_lost_and_every_store_opens(store: Store, tmp_path: Path) -> None:
    found = rounds(store, tmp_path, CUTS, seed=3)
    assert found.wrong == []
    assert found.count == CUTS
    assert found.lines > CUTS


def test_a_cut_takes_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    with lossy(tmp_path, seed=1) as mount:
        for number in range(40):
            with (mount / f"{number}").open("wb", buffering=0) as file:
                file.write(b"synced")
                os.fsync(file.fileno())
                file.write(b", and not synced")
            assert (mount / f"{number}").read_bytes() == b"synced, and not synced"
        cut(mount)
        left = [(mount / f"{number}").read_bytes() for number in range(40)]
    assert all(found.startswith(b"synced") for found in left)
    assert b"synced" in left
    assert any(found.startswith(b"synced,") for found in left), "a beginning of it"
    assert any(found.startswith(b"synced\0") for found in left), "zeros in its place"


def test_a_store_that_syncs_nothing_is_found(tmp_path: Path) -> None:
    found = rounds(CarelessLog(), tmp_path, 12, seed=5)
    assert any("acknowledged events are gone" in what or "did not open" in what for what in found.wrong), found
