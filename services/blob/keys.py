"""How blobs may be called: names separated by slashes, which no backend can take for anything but names."""

import re

from services.core.errors import InvalidArgument

MOST = 512  # characters of a key
RULE = (
    f"at most {MOST} characters: names separated by single slashes, each 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', "
    "no dot first"
)
_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}")


def is_name(text: str) -> bool:
    """Whether this may stand between two slashes. Names that begin with a dot are a backend's own."""
    return _NAME.fullmatch(text) is not None


def check_key(key: str) -> str:
    """The key. Raises InvalidArgument for what is none: an empty one, an absolute path, one with `..`."""
    if len(key) > MOST or not all(map(is_name, key.split("/"))):
        raise InvalidArgument(f"key = {key[:80]!r} is not allowed: {RULE}")
    return key


def check_prefix(prefix: str) -> str:
    """The prefix, which is the first whole names of keys, or "" for all. Raises InvalidArgument."""
    return check_key(prefix) if prefix else ""
