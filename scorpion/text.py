"""The text of a model's file: read as LightGBM reads it, or refused with the name of the format that the file has instead.

People push what their tools saved. A file of another tool, of another format of LightGBM, or that was packed or fetched
wrongly is named as such, with the remedy, rather than as a model text with something missing.
"""

import re
from typing import NamedTuple

from scorpion.trees import refused

SAVE = "save the booster with Booster.save_model"
_FIRST_BYTES = (
    (b"\x1f\x8b", "packed with gzip: unpack it"),
    (b"BZh", "packed with bzip2: unpack it"),
    (b"\xfd7zXZ", "packed with xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it"),
    (b"PK\x03\x04", f"a zip archive, as numpy, skops and PyTorch write them: {SAVE}"),
    (b"\x80", f"a pickle, which is never loaded, as it may run code: load it where it was made, and {SAVE}"),
    (b"ccopy_reg", f"a pickle, which is never loaded, as it may run code: load it where it was made, and {SAVE}"),
    (b"CBM1", "a CatBoost model: train with LightGBM"),
    (b"binf", "an XGBoost model: train with LightGBM"),
    (b"PAR1", "a Parquet file"),
    (b"\xff\xfe", "UTF-16, as some shells redirect text: write UTF-8"),
    (b"\xfe\xff", "UTF-16, as some shells redirect text: write UTF-8"),
    (b"\x89HDF", "an HDF5 file"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself with git lfs pull"),
    (b"<?xml", f"XML, such as PMML: {SAVE}"),
    (b"<PMML", f"PMML: {SAVE}"),
    (b"<!DOCTYPE", "a page of HTML: the download failed"),
    (b"<html", "a page of HTML: the download failed"),
    (b"booster[", "XGBoost's dump of trees: train with LightGBM"),
    (b"#include", f"C++ of Booster.model_to_if_else: {SAVE}"),
)
_IN_JSON = (  # the first of these that it holds: XGBoost's has a "tree_info" too
    (b'"oblivious_trees"', "a CatBoost model: train with LightGBM"),
    (b"learner", "an XGBoost model: train with LightGBM"),
    (b'"tree_info"', f"JSON of Booster.dump_model, which keeps fewer digits than the model has: {SAVE}"),
)
_ONNX = (b"onnx", b"ai.onnx", b"skl2onnx")
_LOOKED_AT = 1 << 16
_TREE = re.compile(r"^Tree=", re.MULTILINE)
_END = re.compile(r"^(?:end of trees|feature[ _]importances:.*|parameters:|pandas_categorical:.*)$", re.MULTILINE)


class Sections(NamedTuple):
    """Of a model text: the part before the trees, and each tree without its first line's `Tree=`."""

    head: str
    trees: list[str]


def decoded(content: bytes) -> str:
    """The text of a file, with "\\n" between its lines. Raises InvalidArgument naming the format that the file has instead."""
    what = _other_format(content)
    if what:
        raise refused(f"is {what}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(f"is no LightGBM model text: byte {error.start} is not UTF-8; {SAVE}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _other_format(content: bytes) -> str:
    """The format of a file that is no model text; empty: none that is known."""
    begin = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:_LOOKED_AT]
    if not begin:
        return f"empty: {SAVE}"
    for first, what in _FIRST_BYTES:
        if begin.startswith(first):
            return what
    if begin.startswith((b"{", b"[")):
        ends = begin + content[-_LOOKED_AT:]
        return next((what for mark, what in _IN_JSON if mark in ends), f"JSON: {SAVE}")
    if begin[0] == 8 and any(mark in begin for mark in _ONNX):
        return "an ONNX model: train with LightGBM"
    return f"binary: {SAVE}" if b"\0" in begin[:1024] else ""


def sections(text: str) -> Sections:
    """Head and trees of a text (as `decoded` has it). Raises InvalidArgument for one that may be cut short.

    Every LightGBM reads texts of every older one, so this does: a text of before 2.3 ends its trees with the
    importances of features, and one of before 2.1 does not announce the sizes of its trees. It must have one of the two:
    else a whole text could not be told from the first half of one.
    """
    head, *trees = _TREE.split(text)
    if not trees and not head.startswith("tree\n"):
        raise refused("is no LightGBM model: a text of one begins with the line 'tree'")
    if not trees and "tree_sizes=" not in head:
        raise refused("is cut short, or of a model without trees: no line begins with 'Tree='")
    *whole, last = trees or [""]
    end = _END.search(last)
    sizes = next((line[len("tree_sizes=") :] for line in head.splitlines() if line.startswith("tree_sizes=")), None)
    if end is None:
        _check_sizes(sizes, trees)
    elif sizes is not None and len(sizes.split()) != len(trees):
        raise refused(f"has {len(trees)} trees, its header announces {len(sizes.split())}")
    return Sections(head, [*whole, last[: end.start()] if end else last] if trees else [])


def _check_sizes(sizes: str | None, trees: list[str]) -> None:
    """Of a text without an end: the announced sizes say whether it is whole."""
    if sizes is None:
        raise refused("is cut short: it has neither the line 'end of trees' nor 'tree_sizes', one of which ends a text")
    try:
        announced = [int(size) for size in sizes.split()]
    except ValueError:
        raise refused(f"tree_sizes={sizes[:100]}: sizes are whole numbers") from None
    found = [len("Tree=") + len(tree.encode()) for tree in trees]
    if len(found) != len(announced) or any(n < size for n, size in zip(found, announced, strict=True)):
        raise refused("is cut short: the line 'end of trees' is missing, and so is a part of the trees announced")
