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
    """The answer for n pins, in the order asked, all of one model. Arrays are not to be written to."""

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
        columns = np.array(list(request.values()), np.float32).reshape(len(request), len(pins))

        async def ask(stub: Any, part: U64, rows: Array) -> Any:
            asked = pb.ScoreRequest(
                model=model,
                user_names=user,
                user=pack(np.array(list(user.values()), np.float32), "<f4"),
                interests=pack(interests, "<u8"),
                affinities=pack(affinities, "<f4"),
                columns=request,
                request=pack(columns if len(part) == len(pins) else columns[:, rows], "<f4"),
                pins=pack(part, "<u8"),
                now_ms=now_ms,
                features=features,
                attributes=attributes,
            )
            return await self._shards.call(stub.Score, asked, timeout)

        if not len(pins):
            return _joined(0, [(np.empty(0, np.int64), await ask(self._shards.stubs[0], pins, pins))])
        parts = await self._shards.each(pins, ask)
        if len({reply.fingerprint for _, reply in parts}) > 1:  # a promotion reaches shards one after the other
            model = _newest(parts)
            parts = await self._shards.each(pins, ask)
            if len({reply.fingerprint for _, reply in parts}) > 1:
                raise Unavailable(f"scorpion: shards have different models as {model}; try again in a moment")
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
    names = list(first.feature_names)
    scores = _column(n, parts, "scores", "<f8")
    lost = sorted({name for reply in replies for name in reply.lost})
    return Scored(
        scores[:, 0] if scores.shape[1] == 1 else scores,
        _column(n, parts, "features", "<f4", len(names)),
        names,
        first.model,
        first.fingerprint,
        sum(reply.hits for reply in replies),
        sum(reply.misses for reply in replies),
        lost,
        None if ROCKSTORE in lost else _known(n, parts),
    )


def _column(n: int, parts: list[tuple[Array, Any]], field: str, dtype: str, width: int | None = None) -> Array:
    """[n, width]: what the shards answer in this field, in the order asked; of one shard without a copy.

    width: None: as wide as it is, 1 if there are no rows.
    """
    found = []
    for rows, reply in parts:
        values = unpack(getattr(reply, field), dtype, field, None if width is None else len(rows) * width)
        found.append(values.reshape(len(rows), (-1 if len(rows) else 1) if width is None else width))
    if len(parts) == 1:
        return found[0]
    joined = np.empty((n, found[0].shape[1]), dtype)
    for (rows, _), values in zip(parts, found, strict=True):
        joined[rows] = values
    return joined


def _known(n: int, parts: list[tuple[Array, Any]]) -> Attributes | None:
    if not all(reply.first_interests for _, reply in parts):
        return None
    interests, taken_down = _column(n, parts, "first_interests", "<u8", 1), _column(n, parts, "taken_down", "<u1", 1)
    return Attributes(interests[:, 0], taken_down[:, 0].astype(bool))


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
