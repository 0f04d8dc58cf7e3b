"""Flickr favourites with the follow graph (DiffNet, SIGIR 2019): pin = image, board = a user's favourites.

Only the training part is read: the held-out part of the set is for evaluation.
"""

from pathlib import Path

from loaders.dataset import EventDataset, fingerprint
from loaders.files import columns, input_files
from loaders.undated import notes, sections


def open(path: Path) -> EventDataset:
    """Read train.parquet and follows.parquet of `path`. Raises InvalidArgument naming what is missing."""
    files = input_files(path, ("train", "follows"))
    user, item = columns(files["train"], "user", "item")
    follower, followed = columns(files["follows"], "follower", "followee")
    parts = sections(user, item, "image", (follower, followed))
    return EventDataset("flickr", fingerprint(list(files.values())), parts, notes("image"))
