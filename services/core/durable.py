"""Small files and new names that last: a crash of the machine leaves the old one or the new one, whole."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

COPIED = 1 << 20  # bytes at once


def replace_durably(path: Path, content: bytes | Path) -> None:
    """Write a file, for its owner alone, that is on the disk under its name when this returns: bytes, or another file's."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            if isinstance(content, Path):
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file, COPIED)
            else:
                file.write(content)
            sync_written(file)
        rename_durably(draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def rename_durably(draft: Path, path: Path) -> None:
    """Give a file or folder whose content is on the disk another name in its folder, or in one on the same disk."""
    os.rename(draft, path)
    sync_folder(path.parent)


def make_folder_durably(folder: Path) -> None:
    """Make a folder and those above it that are not there, each to last under its name."""
    if folder.is_dir():
        return
    make_folder_durably(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_written(file: IO[bytes]) -> None:
    """Have what was written to an open file on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Have the content of a file on the disk."""
    sync_folder(path)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
