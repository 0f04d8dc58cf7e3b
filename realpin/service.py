"""RPCs of realpin."""

from collections.abc import Callable
from typing import Any

from protos import realpin_pb2 as pb
from protos import realpin_pb2_grpc as rpc
from realpin import signals
from realpin.known import NOTHING, PinWords
from realpin.signals import Decay
from realpin.store import RealpinStore
from services.core.columns import U64, pack
from services.core.errors import InvalidArgument

MAX_PINS = 1000
MAX_INTERESTS = 1000
_WINDOWS = pack(signals.WINDOWS_MS, "<i8")
AskInterests = Callable[[U64], PinWords]  # interests and takedowns of pins, in their order


class Realpin(rpc.RealpinServicer):
    """Translates between the wire and the store."""

    def __init__(self, store: RealpinStore, decay: Decay, ask_interests: AskInterests, pins_looked_at: int) -> None:
        self._store, self._decay, self._ask, self._most = store, decay, ask_interests, pins_looked_at
        signals.warm(decay)

    def Signals(self, request: pb.SignalsRequest, context: Any) -> pb.SignalsReply:
        """Engaged pins, interests and counts of one user; all empty for an unknown user."""
        _refuse_wrong(request)
        recent = self._store.recent(request.user, request.now_ms)
        wanted = self._most if request.pins or request.interests else 0
        looked = signals.strongest_pins(recent.actions, self._decay, wanted)
        known = self._ask(looked.pins) if len(looked.pins) else NOTHING
        pins = signals.engaged(looked, known.words, request.pins)
        found = signals.strongest_affinities(looked.weights, known.words, request.interests)
        return pb.SignalsReply(
            pins=pack(pins.pins, "<u8"),
            weights=pack(pins.weights, "<f4"),
            boards=pack(pins.boards, "<u8"),
            at_ms=pack(pins.at_ms, "<i8"),
            interests=pack(found.interests, "<u8"),
            affinities=pack(found.affinities, "<f4"),
            windows_ms=_WINDOWS,
            counts=pack(signals.counted(recent.minutes, recent.now_ms), "<u4"),
            newest_ms=int(recent.actions.at_ms[-1]) if len(recent.actions.at_ms) else 0,
            interests_lost=known.lost,
        )


def _refuse_wrong(request: pb.SignalsRequest) -> None:
    if not request.user:
        raise InvalidArgument("user = 0: a user's id is 1 to 18446744073709551615")
    if request.pins > MAX_PINS:
        raise InvalidArgument(f"pins = {request.pins}: allowed are 0 to {MAX_PINS}")
    if request.interests > MAX_INTERESTS:
        raise InvalidArgument(f"interests = {request.interests}: allowed are 0 to {MAX_INTERESTS}")
    if request.now_ms < 0:
        raise InvalidArgument(f"now_ms = {request.now_ms}: allowed are Unix milliseconds from 0, the server's clock")
