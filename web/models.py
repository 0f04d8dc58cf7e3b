"""GET /v1/models: the models that scorpion knows, with what training wrote beside each; and their training reports.

Scorpion says which versions there are and which one serves. Metrics and reports are read from the store of blobs; missing
ones are left out.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import FileResponse

from scorpion.client import MODEL_NAME, MODEL_VERSION, RegistryFiles, RegistryVersion, ScorpionClient
from services.blob.opening import open_blobs
from services.core import summed
from services.core.context import serving
from services.core.errors import InvalidArgument, MeshError, NotFound
from services.core.words import shown
from services.ops.learning import learning_file
from web.answers import LearningProgress, ModelEvaluation, ModelList, ModelVersion
from web.questions import NoQuery
from web.wire import asked

#: A report is one file with its pictures inside: it may show them and its own styles, and run, load and open nothing.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)

T = TypeVar("T", bound=Struct)


class PartialManifest(Struct):
    """The part of a model's manifest that the edge reads; scorpion checks the rest."""

    metrics: dict[str, float] = {}
    evaluation: ModelEvaluation | None = None


class Promoted(Struct):
    """The part that the edge reads of the file that says which model is served: the models served before it."""

    before: list[str] = []


class Models:
    """Asks scorpion, and reads what lies beside its models in the store of a data folder."""

    def __init__(self, scorpion: ScorpionClient, data: Path, timeout: float) -> None:
        self._scorpion, self._files, self._timeout = scorpion, RegistryFiles(open_blobs(data)), timeout
        self._learning = learning_file(data)

    async def get(self, request: Request) -> ModelList:
        """Every version, as scorpion orders them."""
        asked(request, NoQuery)
        with serving(self._timeout):
            known = await self._scorpion.models(self._timeout)
        return await asyncio.to_thread(self._with_files, known)

    async def report(self, request: Request) -> FileResponse:
        """The training report of one version."""
        asked(request, NoQuery)
        name, version = model_of(request)
        try:
            path = await asyncio.to_thread(self._files.report, name, int(version))
        except NotFound:
            raise NotFound(f"model {name}@{version}: {await self._without_report(name, version)}") from None
        headers = {"content-security-policy": REPORT_POLICY, "cache-control": "no-cache"}
        return FileResponse(path, media_type="text/html", headers=headers)

    async def _without_report(self, name: str, version: str) -> str:
        with serving(self._timeout):
            known = [model for model in await self._scorpion.models(self._timeout) if model.name == name]
        if any(str(model.version) == version for model in known):
            return "it has no report; `feedmesh model train` writes one"
        versions = ", ".join(str(model.version) for model in known)
        return f"there is none; {name} has the versions {versions}" if versions else "there is none of this name"

    def _with_files(self, known: list[RegistryVersion]) -> ModelList:
        before = _read(self._files.promoted, Promoted()).before
        learning = _read(self._learning.read_bytes, LearningProgress())
        return ModelList([self._version(model) for model in known], before[-1] if before else None, learning)

    def _version(self, model: RegistryVersion) -> ModelVersion:
        report = self._files.has_report(model.name, model.version)
        manifest = _read(lambda: self._files.manifest(model.name, model.version), PartialManifest())
        return ModelVersion(
            name=model.name,
            version=model.version,
            fingerprint=f"{model.fingerprint:016x}",
            promoted=model.promoted,
            loaded=model.loaded,
            problem=model.problem,
            trees=model.trees,
            leaves=model.leaves,
            features=list(model.features),
            trained_ms=model.trained_ms,
            load_ms=round(model.load_ms, 3),
            metrics=manifest.metrics,
            report=f"/models/{model.name}/{model.version}/report" if report else None,
            evaluation=manifest.evaluation,
        )


def model_of(request: Request) -> tuple[str, str]:
    """Name and version of the path. Raises InvalidArgument for what no model can be called."""
    name, version = request.path_params["name"], request.path_params["version"]
    if not MODEL_NAME.fullmatch(name):
        raise InvalidArgument(f"name = {shown(name)} is not allowed: 1 to 64 of a-z, 0-9, _ and -, no _ or - first")
    if not MODEL_VERSION.fullmatch(version):
        raise InvalidArgument(f"version = {shown(version)} is not allowed: a whole number from 1 to 999999999")
    return name, version


def _read(content: Callable[[], bytes], otherwise: T) -> T:
    """A file, or `otherwise`: scorpion reports its errors."""
    try:
        return summed.decoded(content(), type(otherwise))
    except (OSError, MeshError, msgspec.MsgspecError):
        return otherwise
