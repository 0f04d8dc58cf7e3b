"""Pure arithmetic on arrays: merges events into the lists of many users together, and makes signals of one user's lists."""

from typing import Any

import numpy as np

from services.core.columns import F32, F64, I64, U8, U32, U64, Array
from services.kernels.jit import kernel


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
    `kept` newest of the rest. Hides have a limit of their own, so that no amount of other actions lets one be forgotten.

    at_ms: int64[n], the lists of s users back to back, each ascending; ends: int64[s]. owner: int64[e], the list of
    each event; events are ordered by (owner, at_ms, arrival). hides, event_hides: bool. Of equal dates what is in the
    list came before what comes now. out: int64[n + e], filled from its end: row i of the lists is i, event j is n + j.
    out_ends: int64[s], as positions in out. Returns the position of the first row; -1 when events are left over, since
    `owner` does not ascend or names a list that is not there.
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
    return at if event < 0 else -1


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
    """Count events into lists of minutes, and leave out those `kept` minutes or more before a list's newest.

    minutes: int64[n], the lists of s users back to back, each ascending; counts: uint32[n, k]; ends: int64[s]. owner:
    int64[e], the list of each event; events are ordered by (owner, minute); event_kinds: their columns of counts. out
    columns: room for n + e rows. Returns the rows written; -1 when events are left over, as `newest` does.
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
    return n if event == len(owner) else -1


@kernel
def _grouped(keys: U64) -> Any:
    """(int64[n] group of each key, int64[m] the last row of each group), numbered as they come from the end backwards."""
    n, places = len(keys), 4
    while places < 2 * n:
        places *= 2
    table, group, last, groups = np.full(places, -1, np.int64), np.empty(n, np.int64), np.empty(n, np.int64), 0
    for row in range(n - 1, -1, -1):
        key = keys[row]
        hashed = key * np.uint64(0x9E3779B97F4A7C15)
        place = np.int64((hashed ^ (hashed >> np.uint64(32))) & np.uint64(places - 1))
        while table[place] >= 0 and keys[last[table[place]]] != key:
            place = (place + 1) & (places - 1)
        if table[place] < 0:
            table[place], last[groups] = groups, row
            groups += 1
        group[row] = table[place]
    return group, last[:groups]


@kernel
def weighed(pins: U64, at_ms: I64, kinds: I64, hide: int, weights: F64, half_lives_ms: F64) -> tuple[I64, F32]:
    """The weight of each pin of n actions: (int64[m] row of the last action of each distinct pin, the newest first;
    float32[m] weight).

    at_ms ascends; kinds: int64[n], where weights and half_lives_ms have the action; hide: the kind of hides.
    `signals.strongest_pins` says what a weight is.
    """
    n = len(pins)
    group, last = _grouped(pins)
    hidden, total = np.zeros(len(last), np.bool_), np.zeros(len(last), np.float64)
    for row in range(n):
        if kinds[row] == hide:
            hidden[group[row]] = True
    speaks = at_ms[n - 1] if n > 0 else 0
    for row in range(n - 1, -1, -1):
        if weights[kinds[row]] > 0 and not hidden[group[row]]:
            speaks = at_ms[row]
            break
    for row in range(n):
        kind = kinds[row]
        if kind == hide or not hidden[group[row]]:
            age = max(speaks - at_ms[row], 0)
            total[group[row]] += weights[kind] * 2.0 ** (-age / half_lives_ms[kind])
    return last, total.astype(np.float32)


@kernel
def _in_order(values: F32, newest: I64, ids: U64) -> I64:
    """Rows of the values that are not 0, the furthest from 0 first; of equals the newest, then the lowest id."""
    bits, n = np.abs(values).view(np.uint32), 0
    keys = np.empty(len(values), np.uint64)  # the size turned around, then the row
    for row in range(len(values)):
        if values[row] != 0:
            keys[n] = (np.uint64(0xFFFFFFFF - bits[row]) << np.uint64(32)) | np.uint64(row)
            n += 1
    keys = np.sort(keys[:n])
    rows = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    start = 0
    while start < n:
        stop = start + 1
        while stop < n and keys[stop] >> np.uint64(32) == keys[start] >> np.uint64(32):
            stop += 1
        if stop - start > 1:
            equal = rows[start:stop].copy()
            equal = equal[np.argsort(ids[equal])]
            rows[start:stop] = equal[np.argsort(-newest[equal], kind="mergesort")]
        start = stop
    return rows


@kernel
def strongest(values: F32, newest: I64, ids: U64, limit: int) -> I64:
    """int64[m]: rows of the at most `limit` values furthest from 0, greatest value first; of equals the newest, then the
    lowest id. Those below 0 are at most half of them while there are enough above.
    """
    order = _in_order(values, newest, ids)
    above = 0
    for row in order:
        above += values[row] > 0
    below = min(len(order) - above, max(limit // 2, limit - above))
    above = min(above, limit - below)
    rows, furthest, taken, start = np.empty(above + below, np.int64), np.empty(below, np.int64), 0, 0
    for row in order:
        if values[row] > 0 and taken < above:
            rows[taken] = row
            taken += 1
        elif values[row] < 0 and start < below:
            furthest[start] = row
            start += 1
    start, at = 0, above + below
    while start < below:  # from the end on, the furthest below 0 first; runs of equals keep their order
        stop = start + 1
        while stop < below and values[furthest[stop]] == values[furthest[start]]:
            stop += 1
        at -= stop - start
        rows[at : at + stop - start] = furthest[start:stop]
        start = stop
    return rows


@kernel
def strongest_pins(
    pins: U64,
    boards: U64,
    at_ms: I64,
    actions: U8,
    kind_of: I64,
    hide: int,
    weights: F64,
    half_lives_ms: F64,
    limit: int,
) -> tuple[U64, F32, U64, I64]:
    """Of n actions the `limit` pins that weigh most, as `weighed` and `strongest` have it: the columns of `signals.Pins`.

    kind_of: int64[256], the kind of each action.
    """
    last, values = weighed(pins, at_ms, kind_of[actions], hide, weights, half_lives_ms)
    rows = strongest(values, at_ms[last], pins[last], limit)
    last = last[rows]
    return pins[last], values[rows], boards[last], at_ms[last]


@kernel
def spans(known: U64, pins: int) -> Any:
    """Whether `known` (as of `affinities`) is of so many pins: each one's word and interests, and nothing after them."""
    at = np.int64(0)
    for _ in range(pins):
        if at >= len(known):
            return False
        at += 1 + np.int64(known[at] >> np.uint64(1))
    return at == len(known)


@kernel
def engaged_pins(pins: U64, weights: F32, boards: U64, at_ms: I64, known: U64, limit: int) -> tuple[U64, F32, U64, I64]:
    """The pins that are `engaged`, as the columns that came."""
    rows = engaged(weights, known, limit)
    return pins[rows], weights[rows], boards[rows], at_ms[rows]


@kernel
def engaged(weights: F32, known: U64, limit: int) -> I64:
    """int64[m]: rows of the first `limit` of n pins that weigh above 0 and were not taken down. known: `affinities`."""
    rows, taken, at = np.empty(min(limit, len(weights)), np.int64), 0, np.int64(0)
    for pin in range(len(weights)):
        if weights[pin] > 0 and known[at] & np.uint64(1) == 0 and taken < len(rows):
            rows[taken] = pin
            taken += 1
        at += 1 + np.int64(known[at] >> np.uint64(1))
    return rows[:taken]


@kernel
def affinities(weights: F32, known: U64, limit: int) -> tuple[U64, F32]:
    """The at most `limit` interests furthest from 0 and their affinities, as `strongest` has them.

    weights: float32[n] of pins; known: uint64[...], of each pin a word, the number of its interests times two, plus one
    if it was taken down, and then those interests. An affinity is the sum of weight / sqrt(interests) over its pins.
    """
    n = len(known) - len(weights)
    ids, shares, at, to = np.empty(n, np.uint64), np.empty(n, np.float64), np.int64(0), np.int64(0)
    for pin in range(len(weights)):
        count = np.int64(known[at] >> np.uint64(1))
        share = weights[pin] / np.sqrt(np.maximum(count, 1))
        ids[to : to + count], shares[to : to + count] = known[at + 1 : at + 1 + count], share
        at, to = at + 1 + count, to + count
    group, last = _grouped(ids)
    total = np.zeros(len(last), np.float64)
    for row in range(n):
        total[group[row]] += shares[row]
    found, values = ids[last], total.astype(np.float32)
    rows = strongest(values, np.zeros(len(found), np.int64), found, limit)
    return found[rows], values[rows]


@kernel
def counted(minutes: I64, counts: U32, now: int, windows: I64) -> U32:
    """uint32[w, k]: how often each action was done within each of the windows (minutes, ascending) that end with `now`.

    minutes: int64[n] ascending; counts: uint32[n, k].
    """
    out, window = np.zeros((len(windows), counts.shape[1]), np.uint32), 0
    for row in range(len(minutes) - 1, -1, -1):
        age = now - minutes[row]
        while window < len(windows) and age >= windows[window]:
            window += 1
        if window == len(windows):
            break
        if age >= 0:
            for kind in range(counts.shape[1]):
                out[window, kind] += counts[row, kind]
    for window in range(1, len(windows)):
        for kind in range(counts.shape[1]):
            out[window, kind] += out[window - 1, kind]
    return out
