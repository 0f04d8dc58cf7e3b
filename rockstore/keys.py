"""Where datasets lie among the blobs: `datasets/<dataset>/<version>/`, and beside the versions the list of removed ones."""

import re

from services.blob.opening import Place, open_blobs
from services.blob.protocol import Blobs

DATASETS = "datasets"
MANIFEST = "manifest.json"
REMOVED, RESERVED = (
    "removed.json",
    "reserved",
)  # beside the versions: those that will not come, the last number given out
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
VERSION = re.compile(r"[1-9]\d{0,18}")


def datasets_of(place: Place) -> Blobs:
    """The datasets of a mesh, or of a data folder, as a store of their own."""
    return open_blobs(place).below(DATASETS)


def version_key(dataset: str, version: int) -> str:
    """The prefix of the keys of one version's files."""
    return f"{dataset}/{version}"


def manifest_key(dataset: str, version: int) -> str:
    """Of the manifest of a version."""
    return f"{dataset}/{version}/{MANIFEST}"


def file_name(partition: int) -> str:
    """Of the sorted file of a partition."""
    return f"part-{partition}.sst"


def file_key(dataset: str, version: int, partition: int) -> str:
    """Of the sorted file of a partition of a version."""
    return f"{dataset}/{version}/{file_name(partition)}"


def versions(blobs: Blobs, dataset: str) -> list[int]:
    """The versions of a dataset, ascending."""
    return sorted(int(found) for found in blobs.names(dataset) if VERSION.fullmatch(found))


def loaded(blobs: Blobs) -> dict[str, list[int]]:
    """The versions that there are of each dataset, ascending; a dataset without one is left out."""
    found = {name: versions(blobs, name) for name in blobs.names() if NAME.fullmatch(name)}
    return {name: there for name, there in found.items() if there}
