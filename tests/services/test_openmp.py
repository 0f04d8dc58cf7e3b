"""LightGBM's library made to use the OpenMP library of another wheel, as on a machine that has none."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.ops import openmp

LOADED = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print([l for l in open('/proc/self/maps') if 'gomp' in l])"


def packages() -> Path:
    spec = importlib.util.find_spec("lightgbm")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent.parent


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An environment's folder with the two libraries where their wheels put them."""
    (tmp_path / "lightgbm" / "lib").mkdir(parents=True)
    for package in ("lightgbm", "sklearn"):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").touch()
    shutil.copy(packages() / "lightgbm" / "lib" / "lib_lightgbm.so", tmp_path / "lightgbm" / "lib")
    shutil.copytree(packages() / "scikit_learn.libs", tmp_path / "scikit_learn.libs")
    return tmp_path


def test_the_library_loads_with_the_openmp_of_the_other_wheel_alone(site: Path) -> None:
    library = site / "lightgbm" / "lib" / "lib_lightgbm.so"
    (bundled,) = (site / "scikit_learn.libs").glob("libgomp-*.so*")
    openmp.link(library, bundled)
    loaded = subprocess.run([sys.executable, "-c", LOADED, library], capture_output=True, text=True, check=True).stdout
    assert str(bundled) in loaded
    assert openmp.NEEDED not in loaded.replace(bundled.name, "")
    assert sorted(p.name for p in library.parent.iterdir()) == ["lib_lightgbm.so"]


def test_a_machine_with_neither_is_given_the_command_that_mends_it(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(site / "scikit_learn.libs")
    monkeypatch.setattr(openmp, "NEEDED", "libgomp-that-is-missing.so.1")
    monkeypatch.setattr(openmp, "_folder", lambda package: site / package)
    assert openmp.main() == 1
    assert "apt-get install libgomp1" in capsys.readouterr().err


def test_a_machine_that_has_one_is_left_alone(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "NEEDED", "libc.so.6")
    monkeypatch.setattr(openmp, "_folder", lambda package: pytest.fail("looked for libraries though there is one"))
    assert openmp.main() == 0
