"""The packages installed besides the command itself: those that it needs, those of the training extra, and strangers' modules
of our names.
"""

import ctypes
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement

from services.core.errors import NotReady
from services.core.installation import remedy
from services.ops import openmp

NAME = "feedmesh"
TRAINING = "training"


def lacking(extra: str = "") -> list[str]:
    """The missing packages of those that we run on, or of an extra's besides, in words."""
    return [words for wanted in _required(extra) if (words := _wrong(wanted))]


def _required(extra: str) -> Iterator[Requirement]:
    for line in importlib.metadata.requires(NAME) or []:
        wanted = Requirement(line)
        always = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if always != bool(extra) and (always or (wanted.marker and wanted.marker.evaluate({"extra": extra}))):
            yield wanted


def _wrong(wanted: Requirement) -> str:
    try:
        there = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{wanted.name} is missing"
    return (
        ""
        if wanted.specifier.contains(there, prereleases=True)
        else f"{wanted.name} is {there}, and must be {wanted.specifier}"
    )


def openmp_lacking() -> str:
    """Why LightGBM's library does not load; empty when it does. Raises PackageNotFoundError where there is no LightGBM."""
    package = importlib.metadata.distribution("lightgbm").locate_file("lightgbm")
    try:
        ctypes.CDLL(str(Path(str(package)) / "lib" / "lib_lightgbm.so"))
    except OSError as error:
        return str(error)
    return ""


def training() -> ModuleType:
    """The module that trains models. Raises NotReady, with a remedy, where its packages are not installed or do not load."""
    if wrong := lacking(TRAINING):
        raise NotReady(
            f"to train a model takes packages that are not here: {'; '.join(wrong)}; install them: `{remedy(TRAINING)}`"
        )
    if why := openmp_lacking():
        raise NotReady(f"to train a model takes LightGBM, which does not load: {why}. {openmp.REMEDY}")
    from learning.training import command

    return command


def namesakes() -> list[str]:
    """Modules at the top of ours that another distribution has installed under the same name, in words."""
    shipped = importlib.metadata.packages_distributions()
    return [
        f"{module} is also a module of {', '.join(sorted(others))}"
        for module, owners in sorted(shipped.items())
        if NAME in owners and (others := set(owners) - {NAME})
    ]
