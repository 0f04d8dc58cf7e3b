"""How the others ask scorpion: hides shards, speaks numpy."""

import asyncio
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from protos import scorpion_pb2 as pb
from scorpion import keys
from services.blob.protocol import Blobs
from services.core.columns import F32, F64, U32, U64, Array, pack, unpack
from services.core.errors import MeshError, NotFound, NotReady, Unavailable
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "scorpion"
ROCKSTORE = "rockstore"  # as it stands in `lost`
MODEL_NAME, MODEL_VERSION = keys.NAME, keys.VERSION  # patterns of a name and a version
TAKEN_DOWN, UNDESCRIBED = 1, 2  # as `taken_down` of the reply has it


Datasets = Mapping[str, Collection[str]]  # the columns of each dataset that rockstore has


class NoModel(NotReady):
    """None is promoted, and none was named: there is nothing to rank by, and nothing is wrong."""


class Attributes(NamedTuple):
    """Attributes of n pins that scorpion answers besides features."""

    first_interests: U64  # [n] the interest that each joined first; 0: none
    taken_down: Array  # bool[n]
    undescribed: (
        Array  # bool[n] nothing describes the pin yet: it was saved, or it joined an interest, before it was made
    )
    creators: U32  # [n] marks of the creators of the pins, features/pins.py; 0: not known


class Scored(NamedTuple):
    """The answer for n pins, in the order asked, all of one model. Arrays are not to be written to."""

    scores: F64  # [n] the probability, or value; [n, k] of k classes
    features: F32  # [n, f] the input of the model, when asked for; else [n, 0]
    feature_names: list[str]
    model: str  # "name@version"
    fingerprint: int  # the `model` of SERVED events
    hits: int  # rows that were cached
    misses: int
    lost: list[str]  # services that could not be asked; defaults stand in
    attributes: Attributes | None = None  # when asked for, where the model looks at pins and none was lost


class RegistryVersion(NamedTuple):
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
        self._replicas = ReplicaSet(mesh, NAME)

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
        20,000 a shard; now_ms: the moment of ages and counts, 0: now; features: also answer the input of the model;
        attributes: and the attributes of each pin.

        Raises NoModel when none is promoted, NotReady when the one that is can't be served, NotFound when the registry
        has no such model, Unavailable when shards do not serve one model, which lasts no longer than a promotion does,
        and MeshError for an answer of another length than was asked.
        """
        pins = np.asarray(pins, np.uint64)
        columns = np.array(list(request.values()), np.float32).reshape(len(request), len(pins))

        async def ask(shard: int, part: U64, rows: Array) -> Any:
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
            reply = await self._replicas.call(shard, "Score", asked, timeout)
            if reply.no_model:
                raise NoModel(f"scorpion: {reply.no_model}")
            return reply

        if not len(pins):
            return _joined(0, [(np.empty(0, np.int64), await ask(0, pins, pins))])
        parts = await self._replicas.each(pins, ask)
        if len({reply.fingerprint for _, reply in parts}) > 1:  # a promotion reaches shards one after the other
            model = _newest(parts)
            parts = await self._replicas.each(pins, ask)
            if len({reply.fingerprint for _, reply in parts}) > 1:
                raise Unavailable(f"scorpion: shards have different models as {model}; try again in a moment")
        return _joined(len(pins), parts)

    async def models(self, timeout: float) -> list[RegistryVersion]:
        """The registry as the shards see it, every replica of them."""
        return _models(await self._replicas.every("Models", pb.ModelsRequest(), timeout))

    async def refresh(self, timeout: float) -> list[RegistryVersion]:
        """As `models`, after every process has looked at the registry anew."""
        return _models(await self._replicas.every("Refresh", pb.RefreshRequest(), timeout))

    async def promote(self, data: Path, name: str, datasets: Datasets | None, force: bool, timeout: float) -> str:
        """Serve this model of the registry in a data folder from now on; its name@version. Raises InvalidArgument when it, or
        a running shard, refuses: then nothing changed.
        """
        return await self._changed("promote", timeout, data, name, datasets, force=force)

    async def rollback(self, data: Path, datasets: Datasets | None, timeout: float) -> str:
        """Serve the model again that was served before; its name@version. Raises NotFound when there is none."""
        return await self._changed("rollback", timeout, data, datasets)

    async def _changed(self, what: str, timeout: float, *arguments: Any, **options: Any) -> str:
        loop = asyncio.get_running_loop()

        def ask(ref: object) -> str:
            """Why a shard refuses the model. One that is away is not waited for: it reads the registry when it starts."""
            try:
                found = asyncio.run_coroutine_threadsafe(self.refresh(timeout), loop).result()
            except MeshError:
                return ""
            return next((one.problem for one in found if f"{one.name}@{one.version}" == str(ref)), "")

        def change() -> str:
            # It brings the code that reads and scores models, which a client that changes nothing can do without.
            registry = import_module("scorpion.registry")
            return str(getattr(registry, what)(*arguments, ask=ask, **options))

        return await asyncio.to_thread(change)

    async def close(self) -> None:
        """Close the channels."""
        await self._replicas.close()


class RegistryFiles:
    """The other files beside the versions in the registry, read without asking a process: it is for people, and scorpion reads
    none of it here. Each method raises NotFound, and the other errors of `Blobs`.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def promoted(self) -> bytes:
        """The content of the file that says which model is served."""
        return self._blobs.get(keys.PROMOTED)

    def manifest(self, name: str, version: int) -> bytes:
        """The content of a version's manifest."""
        return self._blobs.get(_file(name, version, keys.MANIFEST))

    def has_report(self, name: str, version: int) -> bool:
        """Whether training wrote a report of a version."""
        return bool(keys.NAME.fullmatch(name)) and self._blobs.exists(_file(name, version, keys.REPORT))

    def report(self, name: str, version: int) -> Path:
        """A local file of the report of a version."""
        return self._blobs.local(_file(name, version, keys.REPORT))


def _file(name: str, version: int, file: str) -> str:
    """The key of a version's file. Raises NotFound for a name that no model can have: a shard may name a problem so."""
    if not keys.NAME.fullmatch(name):
        raise NotFound(f"there is no model {name!r}")
    return f"{keys.version_key(name, version)}/{file}"


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
    """[n, width]: this field of the shards' answers, in the order asked; of one shard without a copy.

    width: None: as wide as it is, 1 if there are no rows.
    """
    found = []
    for rows, reply in parts:
        values = unpack(getattr(reply, field), dtype, field)
        k = width if width is not None else len(values) // len(rows) if len(rows) else 1
        if len(values) != len(rows) * k or (width is None and k == 0):
            raise MeshError(f"scorpion: answered {len(values)} {field} for {len(rows)} pins")
        found.append(values.reshape(len(rows), k))
    if len(parts) == 1:
        return found[0]
    joined = np.empty((n, found[0].shape[1]), dtype)
    for (rows, _), values in zip(parts, found, strict=True):
        joined[rows] = values
    return joined


def _known(n: int, parts: list[tuple[Array, Any]]) -> Attributes | None:
    if not all(reply.first_interests for _, reply in parts):
        return None
    interests, status = _column(n, parts, "first_interests", "<u8", 1), _column(n, parts, "taken_down", "<u1", 1)[:, 0]
    creators = _column(n, parts, "creators", "<u4", 1)[:, 0]
    return Attributes(interests[:, 0], status == TAKEN_DOWN, status == UNDESCRIBED, creators)


def _models(replies: list[Any]) -> list[RegistryVersion]:
    of: dict[tuple[str, int], list[Any]] = {}
    for model in (model for reply in replies for model in reply.models):
        of.setdefault((model.name, model.version), []).append(model)
    return [_model(seen, len(seen) == len(replies)) for _, seen in sorted(of.items())]


def _model(seen: list[Any], everywhere: bool) -> RegistryVersion:
    first = seen[0]
    return RegistryVersion(
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
