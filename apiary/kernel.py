"""Merges events into the packed lists of many users at once: pure arithmetic on arrays, one pass."""

import numpy as np

from services.columns import I64, U8, U64, Array
from services.jit import kernel


@kernel
def merge(
    ids: U64,
    kinds: U8,
    at_ms: I64,
    ends: I64,
    owner: I64,
    event_ids: U64,
    event_kinds: U8,
    event_at_ms: I64,
    put: Array,
    out_ids: U64,
    out_kinds: U8,
    out_at_ms: I64,
    out_ends: I64,
    change: Array,
) -> int:
    """Apply events to sorted lists; the number of entries written to the out columns.

    ids, kinds, at_ms: the lists of s users back to back, each ascending by (kind, id); ends: int64[s].
    owner: int64[e], the list of each event; events are ordered by (owner, kind, id, arrival).
    put: bool[e], whether the event adds the entry or removes it. To add what is there, or remove what is not, does
    nothing; so an entry keeps the date of the event that brought it. out columns: room for len(ids) + e entries.
    change: int8[e], set to +1 or -1 at the last event of an entry that came or went, else 0.
    """
    n, event, start = 0, 0, 0
    for user in range(len(ends)):
        entry = start
        while entry < ends[user] or (event < len(owner) and owner[event] == user):
            old = entry < ends[user]
            new = event < len(owner) and owner[event] == user
            if old and (
                not new
                or kinds[entry] < event_kinds[event]
                or (kinds[entry] == event_kinds[event] and ids[entry] < event_ids[event])
            ):
                out_ids[n], out_kinds[n], out_at_ms[n] = ids[entry], kinds[entry], at_ms[entry]
                n, entry = n + 1, entry + 1
                continue
            kind, id_ = event_kinds[event], event_ids[event]
            was = old and kinds[entry] == kind and ids[entry] == id_
            there, at = was, np.int64(0)
            if was:
                at, entry = at_ms[entry], entry + 1
            while (
                event < len(owner) and owner[event] == user and event_kinds[event] == kind and event_ids[event] == id_
            ):
                if put[event] and not there:
                    at = event_at_ms[event]
                there = put[event]
                change[event] = 0
                event += 1
            change[event - 1] = np.int8(there) - np.int8(was)
            if there:
                out_ids[n], out_kinds[n], out_at_ms[n] = id_, kind, at
                n += 1
        start = ends[user]
        out_ends[user] = n
    return n
