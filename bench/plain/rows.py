"""The values in Redis: lists of packed elements, packed features of pins, documents for people to read.

user:<id>:users, :boards, :interests   list of (id, at_ms), newest first: the follows of a user
user:<id>:own                          list of (id, at_ms), newest first: the boards of a user
user:<id>:recent                       list of (pin, action, at_ms), oldest first, the newest 500
user:<id>:seen                         set of pins
board:<id>, interest:<id>              list of (pin, at_ms, quality), as they were saved
boards                                 set of all boards
facts:<pin>                            quality, date, counts and interests, packed
saved:pins, saved:interests            sorted sets by number of saves
doc:<kind>:<id>                        msgpack of title, link, owner, interests
served                                 stream of the pages that were served
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]

ID = np.dtype("<u8")
FOLLOW = np.dtype([("id", "<u8"), ("at_ms", "<i8")])
DONE = np.dtype([("pin", "<u8"), ("at_ms", "<i8"), ("action", "u1")])
POSTING = np.dtype([("pin", "<u8"), ("at_ms", "<i8"), ("quality", "<f4")])
KEPT = 23  # created day, quality, number of interests, then five actions' counts in four windows
FACTS = np.dtype([("kept", "<f4", (KEPT,)), ("interests", "<u8", (8,)), ("down", "u1")])

UNKNOWN = np.zeros(1, FACTS)
UNKNOWN["kept"][:, :3] = np.nan
NO_FACTS = UNKNOWN.tobytes()


def opened_redis(socket: str) -> Any:
    """An asyncio client; hiredis parses for it."""
    return import_module("redis.asyncio").Redis(unix_socket_path=socket, protocol=2)


#: Of each key the elements of its list up to ARGV[1], as one string: one command, where a pipeline of LRANGE is one a key,
#: and each takes the client longer than the list takes the server.
LISTS = """
local found = {}
for i, key in ipairs(KEYS) do found[i] = table.concat(redis.call('LRANGE', key, 0, ARGV[1])) end
return found
"""


class Doc(msgspec.Struct, array_like=True):
    """The text that people read of a pin, a board, a user or an interest."""

    title: str = ""
    link: str = ""
    owner: int = 0
    interests: list[int] = []


NO_DOC = Doc()
_doc = msgspec.msgpack.Decoder(Doc)


def doc_of(value: bytes | None) -> Doc:
    """A document; an empty one where nothing is known."""
    return _doc.decode(value) if value else NO_DOC


def read(elements: Sequence[bytes], dtype: np.dtype[Any]) -> Rows:
    """The elements of lists or a set as one array."""
    return np.frombuffer(b"".join(elements), dtype)


def lengths(lists: Sequence[bytes], dtype: np.dtype[Any]) -> Rows:
    """int64[n]: how many elements each of the lists has."""
    return np.array([len(of) for of in lists], np.int64) // dtype.itemsize


def facts_of(values: Sequence[bytes | None]) -> Rows:
    """FACTS[n] of what MGET answered."""
    return np.frombuffer(b"".join([value or NO_FACTS for value in values]), FACTS)


def among(values: Rows, ascending: Rows) -> Rows:
    """bool[n]: which of the values are in a sorted array."""
    if not len(ascending):
        return np.zeros(len(values), bool)
    at = np.searchsorted(ascending, values)
    at[at == len(ascending)] = 0
    return np.asarray(ascending[at] == values)
