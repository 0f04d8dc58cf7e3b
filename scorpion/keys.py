"""Where the registry of models lies among the blobs: the keys, and which versions there are."""

import re

from services.blob.protocol import Blobs

MODELS = "models"
PROMOTED = f"{MODELS}/promoted.json"  # which model is served
MANIFEST, REPORT = "manifest.json", "report.html"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # no dot: no other blob beside the models is taken for one
VERSION = re.compile(r"[1-9][0-9]{0,8}")


def model_key(name: str) -> str:
    """The prefix of the keys of all versions of a model."""
    return f"{MODELS}/{name}"


def version_key(name: str, version: int) -> str:
    """The prefix of the keys of one version's files."""
    return f"{MODELS}/{name}/{version}"


def versions(blobs: Blobs, name: str) -> list[int]:
    """The versions of a model, ascending."""
    return sorted(int(found) for found in blobs.names(model_key(name)) if VERSION.fullmatch(found))


def models(blobs: Blobs) -> list[tuple[str, int]]:
    """Name and version of every version of every model, ascending."""
    names = [name for name in blobs.names(MODELS) if NAME.fullmatch(name)]
    return [(name, version) for name in names for version in versions(blobs, name)]
