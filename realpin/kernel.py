"""Merges events into the lists of many users at once: pure arithmetic on arrays, one pass."""

from services.columns import I64, U32, Array
from services.jit import kernel


@kernel
def newest(
    at_ms: I64,
    hides: Array,
    ends: I64,
    owner: I64,
    event_at_ms: I64,
    event_hides: Array,
    kept: int,
    out: I64,
    out_ends: I64,
) -> int:
    """Which rows stay of sorted lists and the events that came to them: of each list the `kept` newest hides, and the
    `kept` newest of the rest. Hides have room of their own, so that no amount of other actions lets one be forgotten.

    at_ms: int64[n], the lists of s users back to back, each ascending; ends: int64[s]. owner: int64[e], the list of
    each event; events are ordered by (owner, at_ms, arrival). hides, event_hides: bool. Of equal dates what is in the
    list came before what comes now. out: int64[n + e], filled from its end: row i of the lists is i, event j is n + j.
    out_ends: int64[s], as positions in out. Returns the position of the first row.
    """
    n = len(at_ms)
    at, event = len(out), len(owner) - 1
    for user in range(len(ends) - 1, -1, -1):
        out_ends[user] = at
        first = ends[user - 1] if user > 0 else 0
        entry, hidden, others = ends[user] - 1, 0, 0
        while entry >= first or (event >= 0 and owner[event] == user):
            came = event >= 0 and owner[event] == user
            if came and (entry < first or event_at_ms[event] >= at_ms[entry]):
                row, hide = n + event, event_hides[event]
                event -= 1
            else:
                row, hide = entry, hides[entry]
                entry -= 1
            if hide:
                hidden += 1
            else:
                others += 1
            if (hidden if hide else others) <= kept:
                at -= 1
                out[at] = row
    return at


@kernel
def tally(
    minutes: I64,
    counts: U32,
    ends: I64,
    owner: I64,
    event_minutes: I64,
    event_kinds: I64,
    kept: int,
    out_minutes: I64,
    out_counts: U32,
    out_ends: I64,
) -> int:
    """Count events into lists of minutes, and leave out what is `kept` minutes or more before a list's newest.

    minutes: int64[n], the lists of s users back to back, each ascending; counts: uint32[n, k]; ends: int64[s]. owner:
    int64[e], the list of each event; events are ordered by (owner, minute); event_kinds: their columns of counts. out
    columns: room for n + e rows. Returns the rows written.
    """
    n, start, event = 0, 0, 0
    for user in range(len(ends)):
        entry, last, stop, latest = start, ends[user], event, 0
        while stop < len(owner) and owner[stop] == user:
            stop += 1
        if last > entry:
            latest = minutes[last - 1]
        if stop > event:
            latest = max(latest, event_minutes[stop - 1])
        while entry < last or event < stop:
            if event == stop or (entry < last and minutes[entry] <= event_minutes[event]):
                minute = minutes[entry]
            else:
                minute = event_minutes[event]
            out_minutes[n] = minute
            for kind in range(counts.shape[1]):
                out_counts[n, kind] = 0
            while entry < last and minutes[entry] == minute:
                for kind in range(counts.shape[1]):
                    out_counts[n, kind] += counts[entry, kind]
                entry += 1
            while event < stop and event_minutes[event] == minute:
                out_counts[n, event_kinds[event]] += 1
                event += 1
            if minute > latest - kept:
                n += 1
        start = last
        out_ends[user] = n
    return n
