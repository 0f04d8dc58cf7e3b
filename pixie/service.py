"""RPCs of pixie."""

from collections.abc import Callable
from dataclasses import dataclass
from secrets import randbits
from typing import Any

import numpy as np

from pixie import kernel
from pixie.snapshot import Snapshot
from pixie.store import NO_SNAPSHOT, PixieStore, Question
from protos import pixie_pb2 as pb
from protos import pixie_pb2_grpc as rpc
from services.core.columns import F32, U64, pack, unpack
from services.core.errors import DeadlineExceeded, InvalidArgument
from services.kernels.checks import all_weights

MAX_PINS = 1_000
MAX_K = 10_000
MAX_STEPS = 100_000_000
MAX_DISCOUNT = 4.0
_NAMES = f"{pb.WANT_BOARDS} boards, {pb.WANT_PINS} pins, {pb.WANT_BOTH} both"
WANTED = {pb.WANT_BOARDS: (True, False), pb.WANT_PINS: (False, True), pb.WANT_BOTH: (True, True)}


@dataclass(frozen=True, slots=True)
class Walking:
    """The settings of walks, and the most steps that a request may ask for."""

    restart: float = 0.5
    stop_nodes: int = 2_000
    stop_visits: int = 4
    max_steps: int = 10_000_000


class Pixie(rpc.PixieServicer):
    """Translates between the wire and the store."""

    def __init__(self, store: PixieStore, walking: Walking) -> None:
        self.store, self._walking = store, walking

    def Recommend(self, request: pb.RecommendRequest, context: Any) -> pb.RecommendReply:
        """The nodes near the query pins."""
        try:
            question = _question(request, self._walking)
            if self.store.is_empty:
                return pb.RecommendReply(no_graph=NO_SNAPSHOT)  # which is no error: feeds ask for every page
            found, pins = self.store.recommend_both(question, _alive(context))
        except TimeoutError:
            raise DeadlineExceeded("the caller is gone, or its deadline passed during the walk") from None
        if not question.options.boards:
            found = pins
        reply = pb.RecommendReply(
            ids=pack(found.ids, "<u8"),
            scores=pack(found.scores, "<f4"),
            seeds=pack(found.seeds, "<u4"),
            known=pack(found.known, "<u1"),
            steps=pack(found.steps, "<u8"),
            version=found.version,
        )
        if request.want == pb.WANT_BOTH:
            reply.pin_ids, reply.pin_scores = pack(pins.ids, "<u8"), pack(pins.scores, "<f4")
            reply.pin_seeds, reply.pin_steps = pack(pins.seeds, "<u4"), pack(pins.steps, "<u8")
        return reply

    def Load(self, request: pb.LoadRequest, context: Any) -> pb.Graph:
        """Take another snapshot; every byte of it is checked first."""
        return _graph(self.store.load(request.version))

    def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.Graph:
        """The snapshot that is served."""
        snapshot = self.store.snapshot
        return _graph(snapshot) if snapshot else pb.Graph()


def _question(request: pb.RecommendRequest, walking: Walking) -> Question:
    pins = _pins(request.pins)
    weights = _weights(request.weights, len(pins))
    if request.want not in WANTED:
        raise InvalidArgument(f"want = {request.want}: allowed are {_NAMES}")
    k = int(_within("k", request.k, 1, MAX_K))
    both = request.want == pb.WANT_BOTH
    pins_k = int(_within("pins_k", request.pins_k, int(both), MAX_K if both else 0))
    most = min(walking.max_steps, MAX_STEPS)
    if not 1 <= request.steps <= most:
        raise InvalidArgument(f"steps = {request.steps}: allowed are 1 to {most} ([pixie] max_steps)")
    if bool(request.stop_nodes) != bool(request.stop_visits):
        stops = f"stop_nodes = {request.stop_nodes}, stop_visits = {request.stop_visits}"
        raise InvalidArgument(f"{stops}: allowed are both above 0, or both 0 for the settings")
    options = kernel.options(
        boards=WANTED[request.want][0],
        pins=WANTED[request.want][1],
        plain=request.plain,
        restart=_within("restart", request.restart, 0, 1) or walking.restart,
        bias=_within("bias", request.bias, 0, 1),
        interest=request.bias_interest,
        stop_nodes=request.stop_nodes or walking.stop_nodes,
        stop_visits=request.stop_visits or walking.stop_visits,
    )
    discount = _within("discount", request.discount, 0, MAX_DISCOUNT)
    pins_discount = _within("pins_discount", request.pins_discount, 0, MAX_DISCOUNT if both else 0)
    seed = request.seed or randbits(64)
    return Question(pins, weights, options, k, request.steps, discount, seed, pins_k, pins_discount)


def _pins(data: bytes) -> U64:
    pins = unpack(data, "<u8", "pins")
    if not 1 <= len(pins) <= MAX_PINS:
        raise InvalidArgument(f"pins: {len(pins)} query pins; allowed are 1 to {MAX_PINS}")
    return pins


def _weights(data: bytes, n: int) -> F32:
    weights = unpack(data, "<f4", "weights", n)
    if not all_weights(weights):
        row = int((~(np.isfinite(weights) & (weights > 0))).argmax())
        raise InvalidArgument(f"weights[{row}] = {weights[row]}: allowed are finite weights above 0")
    return weights


def _within(field: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:  # NaN is not
        raise InvalidArgument(f"{field} = {value:g}: allowed are {least} to {most}")
    return value


def _alive(context: Any) -> Callable[[], bool]:
    """Whether the caller still waits; always, without a network."""
    return context.is_active if context else lambda: True


def _graph(snapshot: Snapshot) -> pb.Graph:
    of = snapshot.manifest
    return pb.Graph(
        version=of.version, pins=of.pins, boards=of.boards, edges=of.edges, bytes=of.bytes, built_ms=of.built_ms
    )
