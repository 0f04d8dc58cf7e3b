"""Which segments of the log retention drops: those over its limits, the oldest first, but none that snapshots do not cover."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from roadrunner.layout import Segment
from services.log.protocol import Partition
from services.state.coverage import Floor


@dataclass(frozen=True, slots=True)
class Retention:
    """The log's retention: at most `max_bytes` and nothing older than `max_age_ms`; 0 is without limit."""

    max_bytes: int = 0
    max_age_ms: int = 0
    segment_bytes: int = 8 << 20


class Retained(NamedTuple):
    """Bytes that were dropped, and those over the limits that were not, since not every view has them in snapshots."""

    dropped: int
    held: int


def over(
    segments: Mapping[Partition, Sequence[Segment]], limits: Retention, kept: int, now_ms: int, floor: Floor
) -> tuple[list[Partition], int]:
    """The partitions that lose their first segment, each as often as it loses one, and the bytes that the floor keeps.

    kept: bytes of all records.
    """
    excess = kept - limits.max_bytes if limits.max_bytes else 0
    oldest = now_ms - limits.max_age_ms if limits.max_age_ms else 0
    candidates = sorted((s.newest_ms, at, s.next, s.bytes) for at, of in segments.items() for s in of)
    lose, stuck, seen, held = list[Partition](), set[Partition](), 0, 0
    for newest_ms, at, next_, size in candidates:
        if newest_ms >= oldest and seen >= excess:
            break
        seen += size
        if at in stuck or not floor.allows(at, next_):
            stuck.add(at)
            held += size
        else:
            lose.append(at)
    return lose, held
