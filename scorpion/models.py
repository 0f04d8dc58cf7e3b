"""The models that a process serves: the promoted one, and others by name as they are asked for.

The served models are one immutable value that is replaced atomically, so a request under way keeps what it began with. A model
that is refused is named with the reason, and the model served before it stays.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple

from scorpion import registry
from scorpion.layout import MANIFEST
from scorpion.registry import CheckedModel, Datasets, Ref
from services.blob.opening import Place, open_blobs
from services.core.errors import InvalidArgument, MeshError, NotFound, NotReady, described

logger = logging.getLogger(__name__)
LOOK_S = 1.0
NO_MODEL = "no model is promoted; feedmesh model train makes one, feedmesh model promote serves it"
AGAIN_S = 10.0  # after a refusal, which may have been a dataset's that comes later
MOST_LOADED = 8


class Served(NamedTuple):
    """A model in memory."""

    ref: Ref
    model: CheckedModel
    load_ms: float


class State(NamedTuple):
    """The served models. problems: of models, or of promoted.json, by name."""

    loaded: Mapping[Ref, Served]
    promoted: Ref | None
    problems: Mapping[str, str]


class ListedModel(NamedTuple):
    """One version in the registry, as this process sees it."""

    name: str
    version: int
    fingerprint: int
    promoted: bool
    loaded: bool
    problem: str
    trees: int
    leaves: int
    features: Sequence[str]
    trained_ms: int
    load_ms: float


class Models:
    """Of one registry. Thread-safe."""

    def __init__(
        self, data: Place, datasets: Callable[[], Datasets | None], widen: Callable[[Sequence[str]], None]
    ) -> None:
        """datasets: rockstore's, None when it can't be asked; widen: keep these columns of datasets from now on."""
        self._data, self._datasets, self._widen = open_blobs(data), datasets, widen
        self._state = State(MappingProxyType({}), None, MappingProxyType({}))
        self._loading = threading.Lock()
        self._seen = ""  # the mark of promoted.json
        self._tried_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="models", daemon=True)

    def start(self) -> None:
        """Load the promoted model, and look every second whether another is promoted."""
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)

    @property
    def state(self) -> State:
        """The models that are served."""
        return self._state

    def promoted(self) -> Served | None:
        """The promoted model that is served, if any."""
        state = self._state
        return state.loaded[state.promoted] if state.promoted else None

    def none_promoted(self) -> bool:
        """Whether none was: a promoted one that is refused is another matter."""
        return self._state.promoted is None and not self._state.problems

    def get(self, text: str) -> Served:
        """The model of "name@version" or "name"; of "" the promoted one.

        Raises NotReady when none is promoted, NotFound for a model that the registry does not have.
        """
        state = self._state
        if not text:
            if state.promoted is None:
                why = "; ".join(f"{name}: {problem}" for name, problem in state.problems.items())
                raise NotReady(NO_MODEL + (f" ({why})" if why else ""))
            return state.loaded[state.promoted]
        if state.promoted and text in (state.promoted.name, str(state.promoted)):
            return state.loaded[state.promoted]
        ref = registry.find(self._data, text)
        return state.loaded.get(ref) or self._loaded(ref)

    def _loaded(self, ref: Ref) -> Served:
        with self._loading:
            served = self._state.loaded.get(ref)
            if served is None:
                served = self._load(ref)
                self._publish(served, self._state.promoted, self._state.problems)
            return served

    def _load(self, ref: Ref) -> Served:
        """Raises InvalidArgument with why it is refused."""
        began = time.perf_counter()
        model = registry.check(registry.folder_of(self._data, ref), None)
        if model.datasets and (known := self._datasets()) is not None:
            registry.check_datasets(model.features, known)
        self._widen(model.datasets)
        return Served(ref, model, (time.perf_counter() - began) * 1000)

    def _publish(self, served: Served, promoted: Ref | None, problems: Mapping[str, str]) -> None:
        loaded = {**{ref: was for ref, was in self._state.loaded.items() if ref != served.ref}, served.ref: served}
        for ref in list(loaded)[:-MOST_LOADED]:
            if ref != promoted:
                del loaded[ref]
        self._state = State(MappingProxyType(loaded), promoted, problems)

    def refresh(self) -> None:
        """Look at the registry now; a model that is refused is named in `problems`, and nothing else changes."""
        with self._loading:
            self._tried_s = time.monotonic()
            self._seen = registry.promoted_mark(self._data)
            try:
                said = registry.promoted(self._data)
            except MeshError as error:
                self._refused({"promoted.json": str(error)})
                return
            problems: dict[str, str] = {}
            for text in (said.promoted, *reversed(said.before)) if said.promoted else ():
                try:
                    ref = registry.find(self._data, text)
                    served = self._state.loaded.get(ref) or self._load(ref)
                    registry.check_ranks(served.model)
                    self._publish(served, ref, MappingProxyType(problems))
                except Exception as error:
                    problems[text] = described(error, f"{text} cannot be loaded")
                    if self._state.promoted is not None:
                        break  # the served models stay
                else:
                    self._log(problems, f"serving {ref}")
                    return
            if not said.promoted:
                self._state = self._state._replace(promoted=None)
            self._refused(problems)

    def _refused(self, problems: dict[str, str]) -> None:
        self._log(problems, "")
        self._state = self._state._replace(problems=MappingProxyType(problems))

    def _log(self, problems: Mapping[str, str], serving: str) -> None:
        for name, problem in problems.items():
            logger.error("%s is refused: %s", name, problem)
        if serving:
            logger.info("%s", serving)

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_S):
            due = self._state.problems and time.monotonic() - self._tried_s > AGAIN_S
            if registry.promoted_mark(self._data) != self._seen or due:
                try:
                    self.refresh()
                except Exception:
                    logger.exception("cannot read the registry")

    def listed(self) -> list[ListedModel]:
        """Every version in the registry, and the error of promoted.json as a model of that name."""
        state = self._state
        found = [self._listed(state, ref) for ref in registry.models(self._data)]
        there = {f"{one.name}@{one.version}" for one in found}
        for name, problem in state.problems.items():
            if name not in there:
                text, _, version = name.partition("@")
                number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
                found.append(ListedModel(text, number, 0, False, False, problem, 0, 0, [], 0, 0.0))
        return found

    def _listed(self, state: State, ref: Ref) -> ListedModel:
        served, problem = state.loaded.get(ref), state.problems.get(str(ref), "")
        manifest, mark = None, 0
        if served is not None:
            manifest, mark = served.model.manifest, served.model.fingerprint
        else:
            with suppress(InvalidArgument, NotFound, OSError):
                manifest = registry.manifest_of(self._data, ref)
                mark = registry.fingerprint_of(self._data, ref)
        if manifest is None:
            return ListedModel(*ref, mark, False, False, problem or f"{MANIFEST} cannot be read", 0, 0, [], 0, 0.0)
        return ListedModel(
            ref.name,
            ref.version,
            mark,
            ref == state.promoted,
            served is not None,
            problem,
            manifest.trees,
            manifest.leaves,
            manifest.columns,
            manifest.trained_ms,
            served.load_ms if served else 0.0,
        )
