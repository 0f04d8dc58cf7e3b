"""RPCs of realpin."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from protos import realpin_pb2 as pb
from protos import realpin_pb2_grpc as rpc
from realpin import signals
from realpin.signals import Decay, Pins
from realpin.store import RealpinStore
from rockstore.client import Attributes
from services.columns import U64, Array, Ragged, pack
from services.errors import InvalidArgument, MeshError

MAX_PINS = 1000
MAX_INTERESTS = 1000
AskInterests = Callable[[U64], Attributes]  # what is known of pins, in their order; raises MeshError


class Looked(NamedTuple):
    """The pins looked at and their interests; lost: the interests, and which were taken down, are not known."""

    pins: Pins
    interests: Ragged
    taken_down: Array
    lost: bool


class Realpin(rpc.RealpinServicer):
    """Translates between the wire and the store."""

    def __init__(self, store: RealpinStore, decay: Decay, ask_interests: AskInterests, pins_looked_at: int) -> None:
        self._store, self._decay, self._ask, self._most = store, decay, ask_interests, pins_looked_at

    def Signals(self, request: pb.SignalsRequest, context: Any) -> pb.SignalsReply:
        """Engaged pins, interests and counts of one user; all empty for one who is not known."""
        _refuse_wrong(request)
        recent = self._store.recent(request.user, request.now_ms)
        wanted = self._most if request.pins or request.interests else 0
        looked = self._looked(signals.strongest_pins(signals.weighed(recent.actions, self._decay), wanted))
        pins = _engaged(looked, request.pins)
        liked = signals.affinities_of(looked.pins.weights, looked.interests)
        found = signals.strongest_affinities(liked, request.interests)
        return pb.SignalsReply(
            pins=pack(pins.pins, "<u8"),
            weights=pack(pins.weights, "<f4"),
            boards=pack(pins.boards, "<u8"),
            at_ms=pack(pins.at_ms, "<i8"),
            interests=pack(found.interests, "<u8"),
            affinities=pack(found.affinities, "<f4"),
            windows_ms=pack(signals.WINDOWS_MS, "<i8"),
            counts=pack(signals.counted(recent.minutes, recent.now_ms), "<u4"),
            newest_ms=int(recent.actions.at_ms[-1]) if len(recent.actions.at_ms) else 0,
            interests_lost=looked.lost,
        )

    def _looked(self, pins: Pins) -> Looked:
        n = len(pins.pins)
        unknown = Looked(pins, Ragged.empty(n, "<u8"), np.zeros(n, bool), False)
        if not n:
            return unknown
        try:
            known = self._ask(pins.pins)
        except MeshError:
            return unknown._replace(lost=True)
        return Looked(pins, known.interests, known.taken_down, False)


def _engaged(looked: Looked, limit: int) -> Pins:
    """At most `limit` pins that can be shown, greatest weight first."""
    return looked.pins.take(np.flatnonzero((looked.pins.weights > 0) & ~looked.taken_down)[:limit])


def _refuse_wrong(request: pb.SignalsRequest) -> None:
    if not request.user:
        raise InvalidArgument("user = 0: a user's id is 1 to 18446744073709551615")
    if request.pins > MAX_PINS:
        raise InvalidArgument(f"pins = {request.pins}: allowed are 0 to {MAX_PINS}")
    if request.interests > MAX_INTERESTS:
        raise InvalidArgument(f"interests = {request.interests}: allowed are 0 to {MAX_INTERESTS}")
    if request.now_ms < 0:
        raise InvalidArgument(f"now_ms = {request.now_ms}: allowed are Unix milliseconds from 0, the server's clock")
