"""GET /v1/models: the models that scorpion knows, with what training wrote beside each; and their training reports.

What a version is and whether it serves is asked of scorpion. Metrics and reports are read from the registry in the data
folder, which is on the edge's own machine; where it is not, they are left out.
"""

import asyncio
import re
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import FileResponse

from scorpion.client import Model, ScorpionClient
from services.context import serving
from services.errors import InvalidArgument, NotFound
from web.answers import ModelList, ModelVersion
from web.questions import NoQuery
from web.wire import asked, shown

PROMOTED, MANIFEST, REPORT = "promoted.json", "manifest.json", "report.html"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # no dot and no slash: a name is one folder, below the registry
VERSION = re.compile(r"[1-9][0-9]{0,8}")
#: A report is one file with its pictures inside: it may show them and its own styles, and run, load and open nothing.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)

T = TypeVar("T", bound=Struct)


class Manifest(Struct):
    """What the edge reads of a model's manifest; whatever else stands there is scorpion's to check."""

    metrics: dict[str, float] = {}


class Promoted(Struct):
    """What the edge reads of the file that says which model is served: those that were served before it."""

    before: list[str] = []


class Models:
    """Asks scorpion, and reads `registry`, the folder with a folder a model and in it one a version."""

    def __init__(self, scorpion: ScorpionClient, registry: Path, timeout: float) -> None:
        self._scorpion, self._registry, self._timeout = scorpion, registry, timeout

    async def get(self, request: Request) -> ModelList:
        """Every version, as scorpion orders them."""
        asked(request, NoQuery)
        with serving(self._timeout):
            known = await self._scorpion.models(self._timeout)
        return await asyncio.to_thread(self._with_files, known)

    async def report(self, request: Request) -> FileResponse:
        """The training report of one version."""
        asked(request, NoQuery)
        name, version = request.path_params["name"], request.path_params["version"]
        if not NAME.fullmatch(name):
            raise InvalidArgument(f"name = {shown(name)} is not allowed: 1 to 64 of a-z, 0-9, _ and -, no _ or - first")
        if not VERSION.fullmatch(version):
            raise InvalidArgument(f"version = {shown(version)} is not allowed: a whole number from 1 to 999999999")
        path = await asyncio.to_thread(self._file, name, version, REPORT)
        if path is None:
            raise NotFound(f"model {name}@{version}: it has no report; `feedmesh model train` writes one")
        headers = {"content-security-policy": REPORT_POLICY, "cache-control": "no-cache"}
        return FileResponse(path, media_type="text/html", headers=headers)

    def _with_files(self, known: list[Model]) -> ModelList:
        before = _read(self._registry / PROMOTED, Promoted()).before
        return ModelList([self._version(model) for model in known], before[-1] if before else None)

    def _version(self, model: Model) -> ModelVersion:
        report = self._file(model.name, str(model.version), REPORT)
        return ModelVersion(
            name=model.name,
            version=model.version,
            fingerprint=str(model.fingerprint),
            promoted=model.promoted,
            loaded=model.loaded,
            problem=model.problem,
            trees=model.trees,
            leaves=model.leaves,
            features=list(model.features),
            trained_ms=model.trained_ms,
            load_ms=round(model.load_ms, 3),
            metrics=self._metrics(model.name, str(model.version)),
            report=f"/models/{model.name}/{model.version}/report" if report else None,
        )

    def _metrics(self, name: str, version: str) -> dict[str, float]:
        path = self._file(name, version, MANIFEST)
        return {} if path is None else _read(path, Manifest()).metrics

    def _file(self, name: str, version: str, file: str) -> Path | None:
        """A file of a version, or None; also none that a link leads out of the registry to."""
        if not (NAME.fullmatch(name) and VERSION.fullmatch(version)):
            return None
        root = self._registry.resolve()
        path = (root / name / version / file).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None


def _read(path: Path, otherwise: T) -> T:
    """A file of the registry, or `otherwise`: what is wrong with it is scorpion's to say."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=type(otherwise))
    except (OSError, msgspec.MsgspecError):
        return otherwise
