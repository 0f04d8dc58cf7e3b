"""The files of a folder of a user's data: those that are known, and those that are not understood.

A file that is not read may be all that people did, under another name. A file that looks like data is therefore refused by
name, and everything else is named in the notes of the load.
"""

import os
from difflib import get_close_matches
from pathlib import Path

from loaders.parts import is_hidden, readable
from loaders.unpack import PARQUET
from services.core.errors import InvalidArgument

SUFFIX = ".parquet"


def find(folder: Path, known: list[str]) -> tuple[dict[str, Path], list[str]]:
    """(name -> file or folder of parts, notes on files that are not read) of the known names that `folder` has.

    `events.parquet` may be a file or a folder of part files, and `events` a folder of them. Raises InvalidArgument naming
    what looks like data and is not known, or what stands there twice.
    """
    with readable(folder):
        entries = sorted(os.listdir(folder))
    found: dict[str, Path] = {}
    unknown: list[str] = []
    for entry in entries:
        name = entry.removesuffix(SUFFIX)
        path = folder / entry
        if is_hidden(entry):
            continue
        if name not in known or (entry == name and not path.is_dir()):
            unknown.append(entry)
        elif name in found:
            raise InvalidArgument(f"{found[name]} and {path}: both are {name}; leave one of them in the folder")
        else:
            found[name] = path
    for entry in unknown:
        _refuse_data(folder / entry, known, found)
    return found, [f"{entry} is not read: it is none of {files(known)}" for entry in unknown]


def files(known: list[str]) -> str:
    """The names of the known files, for messages."""
    return ", ".join(f"{name}{SUFFIX}" for name in known)


def _refuse_data(path: Path, known: list[str], found: dict[str, Path]) -> None:
    word = path.name.split(".")[0].strip().casefold().rstrip("0123456789-_ ()")
    close = close_to(word, [name for name in known if name not in found])
    if close or _is_parquet(path):
        meant = f"; perhaps {close}{SUFFIX} is meant" if close else ""
        raise InvalidArgument(
            f"{path}: not one of the files that are read, which are {files(known)}{meant}. Rename it, or move it elsewhere"
        )


def close_to(word: str, names: list[str]) -> str | None:
    """The name that `word` may be meant to be: the same but for case, spaces and an ending, or a slip of the pen."""
    bare = "".join(c for c in word.casefold() if c.isalnum())
    for name in names:
        if bare in (name, f"{name}id", f"{name}ids", f"{name}s", name.rstrip("s")):
            return name
    near = get_close_matches(bare, [name for name in names if len(name) > 3], 1, 0.8)
    return near[0] if near else None


def _is_parquet(path: Path) -> bool:
    """Whether it is a Parquet file by its name or bytes, or a folder that has one."""
    if path.is_dir():
        return any(_is_parquet(Path(folder) / name) for folder, _, names in os.walk(path) for name in names)
    if path.suffix.casefold() in (SUFFIX, ".pq", ".parq"):
        return True
    if not path.is_file():
        return False
    with readable(path), path.open("rb") as file:
        return file.read(4) == PARQUET
