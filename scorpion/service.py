"""RPCs of scorpion."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from features import matrix
from features.catalogue import CATALOGUE, FeatureSource
from features.pins import INTERESTS, KEPT, PinFeatures
from protos import scorpion_pb2 as pb
from protos import scorpion_pb2_grpc as rpc
from scorpion import cache, kernel
from scorpion.models import NO_MODEL, ListedModel, Models
from scorpion.pin_features import KnownPins, PinFeatureLoader
from services.core import context as request_context
from services.core.clock import Clock, wall_clock
from services.core.columns import F32, U64, Array, pack, unpack
from services.core.errors import InvalidArgument

MAX_PINS = 20_000
MAX_INTERESTS = 10_000
DEFAULT_TIMEOUT_S = 10.0
EXACT = 1 << 48  # a gauge is a float: of a fingerprint it shows the last 12 hexadecimal digits


class Scorpion(rpc.ScorpionServicer):
    """Translates between the wire, the features of the pins, and the models."""

    def __init__(self, models: Models, loader: PinFeatureLoader, clock: Clock = wall_clock) -> None:
        self.models, self._loader, self._clock = models, loader, clock
        kernel.warm()  # no request waits for the compiler, in a process or in a test
        cache.warm()
        matrix.warm()

    def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreReply:
        """The score of each pin, in the order asked."""
        pins = _pins(request.pins)
        user = _user(request)
        columns = _columns(request, len(pins))
        interests, affinities = _affinities(request)
        if request.now_ms < 0:
            raise InvalidArgument(f"now_ms = {request.now_ms}: Unix milliseconds, or 0 for the server's clock")
        if not request.model and self.models.none_promoted():
            return pb.ScoreReply(no_model=NO_MODEL)  # which is no error: feeds ask for every page
        served = self.models.get(request.model)
        assembler = served.model.assembler
        known = self._known(pins, request.now_ms) if assembler.of_pins else _nothing(len(pins))
        now_ms = request.now_ms or self._clock()
        rows = assembler.rows(user, interests, affinities, columns, known.features, known.datasets, now_ms)
        reply = pb.ScoreReply(
            scores=pack(served.model.score(rows), "<f8"),
            model=str(served.ref),
            fingerprint=served.model.fingerprint,
            hits=known.hits,
            misses=known.misses,
            lost=known.lost,
        )
        if request.features:
            reply.feature_names.extend(assembler.names)
            reply.features = pack(rows, "<f4")
        if request.attributes and assembler.of_pins:
            reply.first_interests = pack(known.features.interests[:, 0], "<u8")
            reply.taken_down = pack(known.status, "<u1")
            reply.creators = pack(known.creators, "<u4")
        return reply

    def gauges(self) -> dict[str, float]:
        """Gauges of this process."""
        loader, promoted = self._loader, self.models.promoted()
        return {
            "cache_hits": loader.hits,
            "cache_expired": loader.expired,
            "cache_misses": loader.misses,
            "cache_rows": len(loader.cache),
            "cache_bytes": loader.cache.bytes(),
            "models_loaded": len(self.models.state.loaded),
            "model_version": promoted.ref.version if promoted else 0,
            "model_fingerprint": promoted.model.fingerprint % EXACT if promoted else 0,
        }

    def gauge(self, name: str) -> float:
        """One of `gauges`."""
        return self.gauges()[name]

    def _known(self, pins: U64, now_ms: int) -> KnownPins:
        serving = request_context.current()
        timeout = serving.remaining() if serving else DEFAULT_TIMEOUT_S
        return self._loader.of(pins, now_ms, timeout, certain=bool(serving and serving.token))

    def Models(self, request: pb.ModelsRequest, context: Any) -> pb.ModelsReply:
        """The registry as this process sees it."""
        return pb.ModelsReply(models=[_model(listed) for listed in self.models.listed()])

    def Refresh(self, request: pb.RefreshRequest, context: Any) -> pb.ModelsReply:
        """Look at the registry now."""
        self.models.refresh()
        return self.Models(pb.ModelsRequest(), context)


def _model(listed: ListedModel) -> pb.Model:
    return pb.Model(**listed._asdict())


def _nothing(n: int) -> KnownPins:
    features = PinFeatures(np.full((n, len(KEPT)), np.nan, np.float32), np.zeros((n, INTERESTS), np.uint64))
    return KnownPins(features, {}, np.zeros(n, np.uint8), np.zeros(n, np.uint32), 0, 0, [])


def _pins(data: bytes) -> U64:
    if len(data) > 8 * MAX_PINS:
        raise InvalidArgument(f"pins: {len(data) // 8} pins; at most {MAX_PINS} a call")
    pins = unpack(data, "<u8", "pins")
    if not pins.all():
        raise InvalidArgument(f"pins[{int(pins.argmin())}] = 0: 0 is not an id")
    return pins


def _user(request: pb.ScoreRequest) -> Mapping[str, float]:
    names = _names(tuple(request.user_names), "user_names", FeatureSource.USER)
    values = unpack(request.user, "<f4", "user", len(names))
    return dict(zip(names, values.tolist(), strict=True))


def _columns(request: pb.ScoreRequest, n: int) -> Mapping[str, F32]:
    names = _names(tuple(request.columns), "columns", FeatureSource.REQUEST)
    values = unpack(request.request, "<f4", "request", len(names) * n).reshape(len(names), n)
    return dict(zip(names, values, strict=True))


@lru_cache(256)
def _names(names: tuple[str, ...], field: str, source: FeatureSource) -> tuple[str, ...]:
    """Names of features, each once and of this source. A caller states the same ones every time."""
    for i, name in enumerate(names):
        known = CATALOGUE.get(name)
        if known is None or known.source is not source:
            allowed = ", ".join(f.name for f in CATALOGUE.values() if f.source is source)
            raise InvalidArgument(f"{field}[{i}] = {name[:100]!r} is no feature of a {source}; allowed are {allowed}")
    if len(set(names)) < len(names):
        raise InvalidArgument(f"{field}: {len(names)} names, some of them twice")
    return names


def _affinities(request: pb.ScoreRequest) -> tuple[U64, F32]:
    if len(request.interests) > 8 * MAX_INTERESTS:
        raise InvalidArgument(f"interests: {len(request.interests) // 8} given; at most {MAX_INTERESTS} a call")
    interests = unpack(request.interests, "<u8", "interests")
    affinities: Array = unpack(request.affinities, "<f4", "affinities", len(interests))
    if not np.isfinite(affinities).all():
        row = int(np.flatnonzero(~np.isfinite(affinities))[0])
        raise InvalidArgument(f"affinities[{row}] = {affinities[row]}: must be a number")
    return interests, affinities
