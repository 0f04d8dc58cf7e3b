"""How the others ask scorpion: hides shards, speaks numpy."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from protos import scorpion_pb2 as pb
from protos import scorpion_pb2_grpc as rpc
from services.columns import F32, F64, U64, Array, pack, unpack
from services.errors import Unavailable
from services.mesh import Mesh
from services.routing import Shards

NAME = "scorpion"
ROCKSTORE = "rockstore"  # as it stands in `lost`


class Attributes(NamedTuple):
    """What scorpion knows of n pins besides features."""

    first_interests: U64  # [n] the interest that each joined first; 0: none
    taken_down: Array  # bool[n]


class Scored(NamedTuple):
    """The answer for n pins, in the order asked, all of one model."""

    scores: F64  # [n] the probability, or value; [n, k] of k classes
    features: F32  # [n, f] what the model saw, when asked for; else [n, 0]
    feature_names: list[str]
    model: str  # "name@version"
    fingerprint: int  # what SERVED events carry as `model`
    hits: int  # rows that were cached
    misses: int
    lost: list[str]  # who could not be asked; defaults stand in
    attributes: Attributes | None = None  # when asked for, where the model looks at pins and none was lost


class Model(NamedTuple):
    """One version in the registry, as all shards see it."""

    name: str
    version: int
    fingerprint: int
    promoted: bool  # on every shard
    loaded: bool  # on every shard
    problem: str  # why a shard refused it; empty: none did
    trees: int
    leaves: int  # of the largest tree
    features: list[str]
    trained_ms: int
    load_ms: float  # the longest


class ScorpionClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._shards = Shards(mesh, NAME, rpc.ScorpionStub)

    async def score(
        self,
        model: str,
        user: Mapping[str, float],
        interests: U64,
        affinities: F32,
        request: Mapping[str, F32],
        pins: U64,
        *,
        now_ms: int = 0,
        features: bool = False,
        attributes: bool = False,
        timeout: float,
    ) -> Scored:
        """How good each of these pins is for this user.

        model: "name@version" or "name", empty for the promoted one; user: values of features by name; interests,
        affinities: uint64[m], float32[m], the user's; request: float32[n] by name, of each pin; pins: uint64[n], at most
        20,000 a shard; now_ms: the moment of ages and counts, 0: now; features: also answer what the model saw;
        attributes: and what is known of each pin besides.

        Raises NotReady when no model is promoted, NotFound when the registry has no such model, Unavailable when shards
        do not serve one model, which lasts no longer than a promotion does.
        """
        pins = np.asarray(pins, np.uint64)
        asked = pb.ScoreRequest(
            model=model,
            user_names=list(user),
            user=pack(np.array(list(user.values()), np.float32), "<f4"),
            interests=pack(interests, "<u8"),
            affinities=pack(affinities, "<f4"),
            columns=list(request),
            now_ms=now_ms,
            features=features,
            attributes=attributes,
        )
        columns = np.array([np.asarray(column, np.float32) for column in request.values()], np.float32)
        columns = columns.reshape(len(request), len(pins))

        async def ask(stub: Any, part: U64, rows: Array) -> Any:
            mine = pb.ScoreRequest(pins=pack(part, "<u8"), request=pack(columns[:, rows], "<f4"))
            mine.MergeFrom(asked)
            return await self._shards.call(stub.Score, mine, timeout)

        if not len(pins):
            return _joined(0, [(np.empty(0, np.int64), await ask(self._shards.stubs[0], pins, pins))])
        parts = await self._shards.each(pins, ask)
        if len({reply.fingerprint for _, reply in parts}) > 1:  # a promotion reaches shards one after the other
            asked.model = _newest(parts)
            parts = await self._shards.each(pins, ask)
            if len({reply.fingerprint for _, reply in parts}) > 1:
                raise Unavailable(f"scorpion: shards have different models as {asked.model}; try again in a moment")
        return _joined(len(pins), parts)

    async def models(self, timeout: float) -> list[Model]:
        """The registry as the shards see it."""
        return _models(await self._shards.all(lambda stub: stub.Models, pb.ModelsRequest(), timeout))

    async def refresh(self, timeout: float) -> list[Model]:
        """As `models`, after every shard has looked at the registry anew."""
        return _models(await self._shards.all(lambda stub: stub.Refresh, pb.RefreshRequest(), timeout))

    async def close(self) -> None:
        """Close the channels."""
        await self._shards.close()


def _newest(parts: list[tuple[Array, Any]]) -> str:
    """Of the models that answered, the one whose name and version come last; all shards are asked for that one."""
    refs = (reply.model.rpartition("@") for _, reply in parts)
    name, _, version = max(refs, key=lambda ref: (ref[0], int(ref[2])))
    return f"{name}@{version}"


def _joined(n: int, parts: list[tuple[Array, Any]]) -> Scored:
    replies = [reply for _, reply in parts]
    first = replies[0]
    scores = [unpack(reply.scores, "<f8", "scores").reshape(len(rows), -1 if len(rows) else 1) for rows, reply in parts]
    joined = np.empty((n, scores[0].shape[1]))
    for (rows, _), found in zip(parts, scores, strict=True):
        joined[rows] = found
    lost = sorted({name for reply in replies for name in reply.lost})
    return Scored(
        joined[:, 0] if joined.shape[1] == 1 else joined,
        _features(n, parts, len(first.feature_names)),
        list(first.feature_names),
        first.model,
        first.fingerprint,
        sum(reply.hits for reply in replies),
        sum(reply.misses for reply in replies),
        lost,
        None if ROCKSTORE in lost else _known(n, parts),
    )


def _features(n: int, parts: list[tuple[Array, Any]], width: int) -> F32:
    """What the model saw: of one shard without a copy."""
    seen = [unpack(r.features, "<f4", "features", len(rows) * width).reshape(len(rows), width) for rows, r in parts]
    if len(parts) == 1:
        return seen[0]
    joined = np.empty((n, width), np.float32)
    for (rows, _), found in zip(parts, seen, strict=True):
        joined[rows] = found
    return joined


def _known(n: int, parts: list[tuple[Array, Any]]) -> Attributes | None:
    if not all(reply.first_interests for _, reply in parts):
        return None
    known = Attributes(np.empty(n, np.uint64), np.empty(n, bool))
    for rows, reply in parts:
        known.first_interests[rows] = unpack(reply.first_interests, "<u8", "first_interests", len(rows))
        known.taken_down[rows] = unpack(reply.taken_down, "<u1", "taken_down", len(rows))
    return known


def _models(replies: list[Any]) -> list[Model]:
    of: dict[tuple[str, int], list[Any]] = {}
    for model in (model for reply in replies for model in reply.models):
        of.setdefault((model.name, model.version), []).append(model)
    return [_model(seen, len(seen) == len(replies)) for _, seen in sorted(of.items())]


def _model(seen: list[Any], everywhere: bool) -> Model:
    first = seen[0]
    return Model(
        first.name,
        first.version,
        first.fingerprint,
        everywhere and all(model.promoted for model in seen),
        everywhere and all(model.loaded for model in seen),
        next((model.problem for model in seen if model.problem), ""),
        first.trees,
        first.leaves,
        list(first.features),
        first.trained_ms,
        max(model.load_ms for model in seen),
    )
