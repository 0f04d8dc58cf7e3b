"""Saves of Pinterest ("pinterest-20", He et al., WWW 2017): each of its boards is one owner with one board."""

from pathlib import Path

from loaders.dataset import EventDataset, fingerprint
from loaders.files import columns, input_files
from loaders.undated import notes, sections


def open(path: Path) -> EventDataset:
    """Read train.parquet of `path`. Raises InvalidArgument naming what is missing."""
    files = input_files(path, ("train",))
    user, item = columns(files["train"], "user", "item")
    made_up = [*notes("pin"), "the set has boards only: each is taken as one user who owns that one board"]
    return EventDataset("pinterest", fingerprint(list(files.values())), sections(user, item, "pin"), made_up)
