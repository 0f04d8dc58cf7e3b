"""How far a view has come, as its shard stores it: the bytes of the family `offsets`.

| key                                         | value                                                            |
|---------------------------------------------|------------------------------------------------------------------|
| topic u1, partition u2 (big-endian)         | next offset u8, events applied u8 (little-endian)                |
| the same, "w", writer u8 (big-endian)       | its next sequence u8, the offset of its last record u8           |
| the same, "s", topic u1, partition u2 of a source | the offset u8 and part u4 of its highest provenance applied |

A log that numbers its records itself, and whose records are their own provenance, leaves entries of the first kind alone.
"""

import struct
from collections.abc import Iterator, Mapping

from services.log.progress import Progress, Reached, Written
from services.log.protocol import Partition
from services.state.stored import check_size, refuse

_AT = struct.Struct(">BH")  # topic, partition
_APPLIED = struct.Struct("<QQ")  # next offset, events applied
_WRITER, _WRITTEN = struct.Struct(">BHcQ"), struct.Struct("<QQ")  # topic, partition, "w", writer: next sequence, offset
_SOURCE, _REACHED = struct.Struct(">BHcBH"), struct.Struct("<QI")  # ..., "s", source: offset, part
_OF_WRITER, _OF_SOURCE = b"w", b"s"


def changes(at: Partition, before: Progress, after: Progress) -> Iterator[tuple[bytes, bytes | None]]:
    """The entries by which `after` differs on the disk from `before`; None: it is deleted."""
    yield _AT.pack(*at), _APPLIED.pack(after.next, after.events)
    for writer, written in after.writers.items():
        if before.writers.get(writer) != written:
            yield _WRITER.pack(*at, _OF_WRITER, writer), _WRITTEN.pack(*written)
    for writer in before.writers.keys() - after.writers.keys():
        yield _WRITER.pack(*at, _OF_WRITER, writer), None
    for source, reached in after.sources.items():
        if before.sources.get(source) != reached:
            yield _SOURCE.pack(*at, _OF_SOURCE, *source), _REACHED.pack(*reached)


def check_entry(store: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for bytes that are no entry of a view's `offsets`."""
    kind = key[_AT.size : _AT.size + 1]
    sizes: Mapping[bytes, tuple[int, int]] = {
        b"": (_AT.size, _APPLIED.size),
        _OF_WRITER: (_WRITER.size, _WRITTEN.size),
        _OF_SOURCE: (_SOURCE.size, _REACHED.size),
    }
    if kind not in sizes or len(key) != sizes[kind][0]:
        refuse(
            store, "offsets", key, f"the key has {len(key)} bytes, expected {_AT.size}, or those of a writer or source"
        )
    check_size(store, "offsets", key, value, sizes[kind][1])


def partition_in(key: bytes) -> int:
    """The partition that an entry is of."""
    return int(_AT.unpack_from(key)[1])


def read_entry(progress: dict[Partition, Progress], key: bytes, value: bytes) -> None:
    """Take an entry that `check_entry` let pass into the progress of its partition."""
    topic, partition = _AT.unpack_from(key)
    of = progress.setdefault((topic, partition), Progress())
    if len(key) == _AT.size:
        of.next, of.events = _APPLIED.unpack(value)
    elif len(key) == _WRITER.size:
        of.writers[_WRITER.unpack(key)[3]] = Written(*_WRITTEN.unpack(value))
    else:
        *_, source_topic, source_partition = _SOURCE.unpack(key)
        of.sources[source_topic, source_partition] = Reached(*_REACHED.unpack(value))
