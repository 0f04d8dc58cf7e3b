"""RPCs of counters."""

from typing import Any

import numpy as np

from counters import table
from counters.store import LEADERS, LED_KINDS, CountersStore
from counters.windows import ALLOWED, is_window
from protos import counters_pb2 as pb
from protos import counters_pb2_grpc as rpc
from services.core.columns import Array, pack, unpack
from services.core.errors import InvalidArgument
from services.core.events import ENGAGEMENTS, IS_ENGAGEMENT, Kind

MAX_OBJECTS = 50_000
MAX_COLUMNS = 64  # of actions, and of windows
MAX_COUNTS = 2_000_000  # 4 MB
ACTIONS = ", ".join(f"{action.value} {action.name.lower()}" for action in ENGAGEMENTS)


class Counters(rpc.CountersServicer):
    """Translates between the wire and the store."""

    def __init__(self, store: CountersStore) -> None:
        self._store = store
        table.warm()  # no request waits for the compiler, in a process or in a test

    def GetCounts(self, request: pb.GetCountsRequest, context: Any) -> pb.GetCountsReply:
        """How often each action was done to each object in each window."""
        objects = _bounded(unpack(request.objects, "<u8", "objects"), "objects", MAX_OBJECTS, least=0)
        kinds = unpack(request.kinds, "<u1", "kinds", len(objects))
        _kinds(kinds, "kinds", tuple(Kind))
        actions = _bounded(unpack(request.actions, "<u1", "actions"), "actions", MAX_COLUMNS)
        _refuse(actions, "actions", ~IS_ENGAGEMENT[actions], ACTIONS)
        windows = _bounded(unpack(request.windows, "<i8", "windows"), "windows", MAX_COLUMNS)
        _refuse(windows, "windows", np.array([not is_window(window) for window in windows.tolist()]), ALLOWED)
        if (n := len(objects) * len(actions) * len(windows)) > MAX_COUNTS:
            raise InvalidArgument(f"objects, actions, windows: {n} counts; at most {MAX_COUNTS} a call")
        counts = self._store.counts(kinds, objects, actions, windows, _moment(request.now_ms))
        return pb.GetCountsReply(counts=pack(counts, "<f2"))

    def Top(self, request: pb.TopRequest, context: Any) -> pb.TopReply:
        """The objects of this shard to which an action was done most often."""
        _kinds(np.array([request.kind]), "kind", LED_KINDS)
        if request.action not in ENGAGEMENTS:
            raise InvalidArgument(f"action = {request.action}: allowed are {ACTIONS}")
        if not is_window(request.window):
            raise InvalidArgument(f"window = {request.window}: allowed are {ALLOWED}")
        if not 1 <= request.k <= LEADERS:
            raise InvalidArgument(f"k = {request.k}: allowed are 1 to {LEADERS}")
        moment = _moment(request.now_ms)
        objects, counts = self._store.top(request.kind, request.action, request.window, request.k, moment)
        return pb.TopReply(objects=pack(objects, "<u8"), counts=pack(counts, "<f4"))


def _kinds(kinds: Array, field: str, known: tuple[Kind, ...]) -> None:
    _refuse(kinds, field, ~np.isin(kinds, known), ", ".join(f"{kind.value} {kind.name.lower()}" for kind in known))


def _refuse(values: Array, field: str, bad: Array, allowed: str) -> None:
    """Raise InvalidArgument naming the first bad value; its row too, where the field is a column."""
    if bad.any():
        row = int(bad.argmax())
        where = field if field == "kind" else f"{field}[{row}]"
        raise InvalidArgument(f"{where} = {values[row]}: allowed are {allowed}")


def _bounded(values: Array, field: str, most: int, least: int = 1) -> Array:
    if not least <= len(values) <= most:
        raise InvalidArgument(f"{field}: {len(values)} given; allowed are {least} to {most} a call")
    return values


def _moment(now_ms: int) -> int:
    if now_ms < 0:
        raise InvalidArgument(f"now_ms = {now_ms}: Unix milliseconds, or 0 for the server's clock")
    return now_ms
