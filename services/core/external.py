"""Ids outside of the mesh, where they are text (`[mesh] ids = "text"`): UUIDs, `u-0651`, hashes, anything.

Inside, an id is a number: the hash of its text. NAME_ID events carry the texts to `objects`, where rockstore keeps them
beside the other attributes, so the mapping is a view of the log. A text is compared byte for byte: nothing is trimmed,
folded or normalised. See docs/decisions/0046-text-ids.md.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from services.core.columns import U64
from services.core.durable import replace_durably
from services.core.errors import InvalidArgument
from services.core.events import RESERVED_FROM, Action, Batch, Kind, events, flags

MAX_EXTERNAL = 255  # bytes of an id: rockstore keeps the length in one
#: Control characters, line and paragraph separators, and what stands where a text was lost.
FORBIDDEN = "[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd]"
RULE = (
    f"an id is 1 to {MAX_EXTERNAL} bytes of text, without control characters or white space at either end, "
    "and not '.' or '..'"
)
_FORBIDDEN = re.compile(FORBIDDEN)
_USERS = flags(Action.FOLLOW_USER, Action.UNFOLLOW_USER)
_INTERESTS = flags(
    *(Action.FOLLOW_INTEREST, Action.UNFOLLOW_INTEREST),
    *(Action.JOIN_INTEREST, Action.LEAVE_INTEREST, Action.NAME_INTEREST),
)
_NOTE = "IDS"
Pairs = list[tuple[int, U64]]  # of each kind that has some: the kind, and distinct numbers, ascending


def is_id(text: str) -> bool:
    """Whether a text is allowed as an id; RULE says what is."""
    try:
        fits = 1 <= len(text.encode()) <= MAX_EXTERNAL
    except UnicodeEncodeError:  # half of a surrogate pair, from JSON
        return False
    return fits and text == text.strip() and text not in (".", "..") and not _FORBIDDEN.search(text)


def number_of(text: str | bytes) -> int:
    """The number of an id: 64 bits of BLAKE2b, folded to 1 to RESERVED_FROM - 1."""
    data = text.encode() if isinstance(text, str) else text
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") % (RESERVED_FROM - 1) + 1


def numbers_of(texts: Sequence[str]) -> U64:
    """uint64[n]: the number of each id."""
    return np.fromiter(map(number_of, texts), np.uint64, len(texts))


def pairs_of(batch: Batch) -> Pairs:
    """The things that the ids of a batch name. Keys of datasets and the mesh's own ids name nothing that people see."""
    target = batch.target
    found = {
        Kind.PIN: batch.pin,
        Kind.BOARD: batch.board,
        Kind.USER: np.concatenate([batch.user, target[_USERS[batch.action]]]),
        Kind.INTEREST: np.concatenate([target[_INTERESTS[batch.action]], batch.interests.values]),
    }
    distinct = ((int(kind), np.unique(numbers[numbers > 0])) for kind, numbers in found.items())
    return [(kind, numbers) for kind, numbers in distinct if len(numbers)]


def naming(kinds: Sequence[int], numbers: Sequence[int] | U64, texts: Sequence[str], at_ms: int) -> Batch:
    """The events that record the texts of n numbers; kinds: of each."""
    ids = [random.randrange(1, RESERVED_FROM) for _ in texts]  # recording one again does no harm
    return events(len(ids), action=Action.NAME_ID, kind=kinds, target=numbers, title=list(texts), at_ms=at_ms, id=ids)


def refuse_names(batch: Batch) -> None:
    """Raise InvalidArgument for an event that names an id without its kind or text."""
    rows = np.flatnonzero(batch.action == Action.NAME_ID)
    lengths = batch.title.lengths()
    for row in rows[~np.isin(batch.kind[rows], list(Kind))].tolist():
        raise InvalidArgument(
            f"batch.kind[{row}] = {batch.kind[row]} is not allowed: 1 pin, 2 board, 3 user, 4 interest"
        )
    for row in rows[(lengths[rows] == 0) | (lengths[rows] > MAX_EXTERNAL)].tolist():
        raise InvalidArgument(f"batch.title[{row}]: {lengths[row]} long; an external id is 1 to {MAX_EXTERNAL} bytes")


def collision(kind: int, number: int, one: str, other: str) -> InvalidArgument:
    """Two texts have one number: the refusal of the second."""
    name = Kind(kind).name.lower()
    return InvalidArgument(
        f"{name} {other!r} is not allowed: its hash is that of {name} {one!r} ({number}), so the two would become one; "
        "choose another id"
    )


def damaged_files(data: Path, say: Callable[[str], None]) -> Iterator[tuple[Path, str, str]]:
    """(file, problem, remedy) of the note that says in which form the ids of a data folder are."""
    note = data / _NOTE
    if note.exists() and (found := note.read_bytes().strip()) not in (b"numbers", b"text"):
        remedy = "write `numbers` or `text` in it, as `[mesh] ids` was when the folder was begun"
        yield note, f"it holds {found!r}, which is no form of ids", remedy


def check_setting(data: Path, ids: str) -> None:
    """Hold `[mesh] ids` to what the data folder was begun with. Raises InvalidArgument when it is another."""
    note = data / _NOTE
    begun = note.read_text().strip() if note.exists() else "numbers" if (data / "roadrunner").exists() else ids
    if begun != ids:
        raise InvalidArgument(
            f'[mesh] ids = "{ids}": {data} was begun with ids = "{begun}", and its ids mean nothing in the other form; '
            "keep that setting, or use another data folder"
        )
    if not note.exists():
        replace_durably(note, f"{ids}\n".encode())
