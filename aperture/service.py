"""RPCs of aperture."""

from typing import Any

import numpy as np

from aperture import kernel, layout
from aperture.layout import LAST_MS
from aperture.store import ALL, ApertureStore, By
from protos import aperture_pb2 as pb
from protos import aperture_pb2_grpc as rpc
from services.core.columns import I64, U8, Array, ids, pack, unpack
from services.core.errors import InvalidArgument
from services.core.events import ENGAGEMENTS, IS_ENGAGEMENT
from services.kernels import bloom

MAX_LIMIT = 1_000_000
MAX_WINDOWS = 32
MIN_RATE, MAX_RATE = 0.0001, 0.5
_ACTIONS = ", ".join(f"{action.value} {action.name.lower()}" for action in ENGAGEMENTS)
_BYS = ", ".join(f"{by.value} {by.name.lower()}" for by in By)


class Aperture(rpc.ApertureServicer):
    """Translates between the wire and the store."""

    def __init__(self, store: ApertureStore) -> None:
        self._store = store
        layout.warm()  # no request waits for the compiler, in a process or in a test
        bloom.build(kernel.distinct(ids([1])))

    def History(self, request: pb.HistoryRequest, context: Any) -> pb.HistoryReply:
        """The user's events, newest first."""
        since, until = _span(request.since_ms, request.until_ms)
        if not 1 <= request.limit <= MAX_LIMIT:
            raise InvalidArgument(f"limit = {request.limit}: allowed are 1 to {MAX_LIMIT}")
        rows = self._store.history(_user(request.user), since, until, _wanted(request.actions), request.limit)
        return pb.HistoryReply(
            pins=pack(rows.pins, "<u8"),
            boards=pack(rows.boards, "<u8"),
            actions=pack(rows.actions, "<u1"),
            surfaces=pack(rows.surfaces, "<u1"),
            at_ms=pack(rows.at_ms, "<i8"),
        )

    def SeenFilter(self, request: pb.SeenFilterRequest, context: Any) -> pb.SeenFilterReply:
        """The distinct pins of the user as a filter, and themselves if asked."""
        rate = request.false_positive_rate
        if not MIN_RATE <= rate <= MAX_RATE:
            raise InvalidArgument(f"false_positive_rate = {rate}: allowed are {MIN_RATE} to {MAX_RATE}")
        since, _ = _span(request.since_ms, 0)
        pins = self._store.seen(_user(request.user), since, _wanted(request.actions))
        exact = pack(pins, "<u8") if request.exact else b""
        return pb.SeenFilterReply(filter=bloom.to_bytes(bloom.build(pins, rate)), pins=len(pins), exact=exact)

    def Counts(self, request: pb.CountsRequest, context: Any) -> pb.CountsReply:
        """How often the user did each action within each window."""
        actions = _actions(request.actions)
        if not len(actions):
            raise InvalidArgument(f"actions: none given; at least one of {_ACTIONS}")
        if not By.NOTHING <= request.by <= By.DAY:
            raise InvalidArgument(f"by = {request.by}: allowed are {_BYS}")
        now, windows = _date(request.now_ms, "now_ms"), _windows(request.windows_ms)
        found = self._store.counts(_user(request.user), actions, windows, request.by, now)
        return pb.CountsReply(keys=pack(found.keys, "<u8"), counts=pack(found.counts, "<u4"))


def _user(user: int) -> int:
    if not user:
        raise InvalidArgument(f"user = 0: is no user; allowed are 1 to {2**64 - 1}")
    return user


def _date(at_ms: int, field: str) -> int:
    if not 0 <= at_ms <= LAST_MS:
        raise InvalidArgument(f"{field} = {at_ms}: allowed are 0 to {LAST_MS} (Unix milliseconds)")
    return at_ms


def _span(since_ms: int, until_ms: int) -> tuple[int, int]:
    since, until = _date(since_ms, "since_ms"), _date(until_ms, "until_ms") or LAST_MS
    if since > until:
        raise InvalidArgument(f"until_ms = {until}: allowed are since_ms = {since} and later, or 0 for no end")
    return since, until


def _actions(data: bytes) -> U8:
    actions = unpack(data, "<u1", "actions")
    known = IS_ENGAGEMENT[actions]
    if not known.all():
        row = int(known.argmin())
        raise InvalidArgument(f"actions[{row}] = {actions[row]}: allowed are {_ACTIONS}")
    if len(np.unique(actions)) < len(actions):
        raise InvalidArgument(f"actions = {actions.tolist()}: each is allowed once")
    return actions


def _wanted(data: bytes) -> Array:
    """bool[256]: the actions asked for; all of them for none."""
    if not data:
        return ALL
    actions = _actions(data)
    wanted = np.zeros(256, bool)
    wanted[actions] = True
    return wanted


def _windows(data: bytes) -> I64:
    windows = unpack(data, "<i8", "windows_ms")
    if not 1 <= len(windows) <= MAX_WINDOWS:
        raise InvalidArgument(f"windows_ms: {len(windows)} windows; allowed are 1 to {MAX_WINDOWS} of them")
    if windows.min() <= 0:
        row = int(windows.argmin())
        raise InvalidArgument(f"windows_ms[{row}] = {windows[row]}: allowed are 1 and more")
    return windows
