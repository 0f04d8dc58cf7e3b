"""The graph that is served, and the one that takes its place: swapped atomically, without a dropped request.

A request takes the snapshot once and walks on it to its end; the mapping of the one before lasts until the last such
request lets go of it. A refused snapshot changes nothing.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pixie import kernel
from pixie.counting import full, grown, open_tally
from pixie.kernel import Options
from pixie.snapshot import Snapshot, check_sums, current, folder_of, open_snapshot
from services.blob.opening import Place, open_blobs
from services.core.clock import Clock
from services.core.columns import F32, U32, U64, Array
from services.core.errors import MeshError, NotFound, NotReady
from services.kernels.bloom import read_only
from services.kernels.checks import all_weights

logger = logging.getLogger(__name__)
_AGAIN = "`feedmesh graph build` makes another and loads it"
NO_SNAPSHOT = "no graph snapshot is loaded: `feedmesh graph build` makes one and loads it"


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """pins: uint64[n] query pins; weights: float32[n] > 0; seed: the same walks the same."""

    pins: U64
    weights: F32
    options: Options
    k: int
    steps: int
    discount: float
    seed: int
    pins_k: int = 0  # when boards and pins are wanted: k and discount of the pins
    pins_discount: float = 0.0


class NearNodes(NamedTuple):
    """The nodes that are near, best first, and which query pins were known and how far each was walked."""

    ids: U64
    scores: F32
    seeds: U32
    known: Array  # bool[n]
    steps: U64  # [n]
    version: str


class PixieStore:
    """The present one of many snapshots. Thread-safe."""

    def __init__(self, graphs: Place, clock: Clock) -> None:
        """`graphs`: where the snapshots alone lie (`keys.graphs_of`); nothing is opened yet."""
        self._graphs, self._clock = open_blobs(graphs), clock
        self._snapshot: Snapshot | None = None
        self._problem = ""  # of the snapshot pushed last
        self._loading = threading.Lock()

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that is served; None before the first one is loaded."""
        return self._snapshot

    @property
    def problem(self) -> str:
        """Why the snapshot that was pushed last is not served; empty when it is, or none was."""
        return self._problem

    def load(self, version: str, verify: bool = True, sums: bool = False) -> Snapshot:
        """Serve a version from now on. Raises NotFound or InvalidArgument, and then the one before stays.

        `verify`: read all of it, compare its checksums and follow its edges; `sums`: compare the checksums alone.
        """
        with self._loading:
            folder = folder_of(self._graphs, version)
            snapshot = open_snapshot(folder, verify, version)
            if sums:
                check_sums(folder, snapshot.manifest)
            _warm(snapshot)
            self._snapshot, self._problem = snapshot, ""
        logger.info("serving graph %s: %d edges", version, snapshot.manifest.edges)
        return snapshot

    def load_current(self, sums: bool = True) -> None:
        """Serve the snapshot pushed last; when that can't be, say so and serve the one before it, or none."""
        try:
            pushed = current(self._graphs)
        except MeshError as error:
            return self._refuse(str(error))
        if not pushed:
            return logger.info("no graph was pushed yet")
        problem = ""
        for version in pushed:
            try:
                self.load(version, verify=False, sums=sums)
            except MeshError as error:
                problem = problem or str(error)
            else:
                break
        if problem:
            self._refuse(f"the graph that was pushed last can't be served: {problem}; {_AGAIN}")

    def follow_current(self) -> None:
        """Serve the snapshot pushed last unless it is served already; one that is refused is named, and changes nothing."""
        try:
            pushed = current(self._graphs)
            snapshot = self._snapshot
            if pushed and (snapshot is None or snapshot.manifest.version != pushed[0]):
                self.load(pushed[0])
        except MeshError as error:
            self._refuse(f"the graph that was pushed last can't be served: {error}; {_AGAIN}")

    def verify(self, rest: Callable[[], None] = lambda: None) -> None:
        """Compare the checksums of the served snapshot; a damaged one is served no longer. rest: called now and then."""
        snapshot = self._snapshot
        if snapshot is None:
            return
        version = snapshot.manifest.version
        try:
            folder = folder_of(self._graphs, version)
        except NotFound:
            return  # it may be removed while it is served
        try:
            check_sums(folder, snapshot.manifest, rest)
        except MeshError as error:
            with self._loading:
                if self._snapshot is snapshot:
                    self._snapshot = None
                    self._refuse(f"graph {version} is served no longer: {error}; {_AGAIN}")

    def _refuse(self, problem: str) -> None:
        logger.error("%s", problem)
        self._problem = problem

    @property
    def is_empty(self) -> bool:
        """Whether no graph was loaded yet, and none was refused."""
        return self._snapshot is None and not self._problem

    def recommend(self, question: Question, alive: Callable[[], bool] = lambda: True) -> NearNodes:
        """Walk and answer boards, or else pins.

        Raises NotReady without a snapshot, TimeoutError when `alive` says that no caller waits any more.
        """
        found = self.recommend_both(question, alive)
        return found[0] if question.options.boards else found[1]

    def recommend_both(
        self, question: Question, alive: Callable[[], bool] = lambda: True
    ) -> tuple[NearNodes, NearNodes]:
        """Boards and pins from one walk: the answer of `recommend` to each, nothing for a kind that is not wanted."""
        snapshot = self._snapshot
        if snapshot is None:
            raise NotReady(self._problem or NO_SNAPSHOT)
        return _near(snapshot, question, alive)

    def gauges(self) -> dict[str, Callable[[], float]]:
        """The gauges of a graph; 0 without one."""
        return {
            "graph_pins": lambda: self._count("pins"),
            "graph_boards": lambda: self._count("boards"),
            "graph_edges": lambda: self._count("edges"),
            "graph_refused": lambda: float(bool(self._problem)),
            "graph_age_seconds": lambda: (
                max(0.0, (self._clock() - built) / 1000) if (built := self._count("built_ms")) else 0.0
            ),
        }

    def _count(self, name: str) -> float:
        snapshot = self._snapshot
        return float(getattr(snapshot.manifest, name)) if snapshot else 0.0


def _near(snapshot: Snapshot, question: Question, alive: Callable[[], bool]) -> tuple[NearNodes, NearNodes]:
    """Boards and pins near the query pins, as `PixieStore.recommend_both` answers them."""
    graph, options = snapshot.graph, question.options
    rows, known = snapshot.rows_of(question.pins)
    degrees = snapshot.degrees(rows) * known
    shares = kernel.budgets(degrees, question.weights, snapshot.manifest.most, question.steps)
    boards, pins = kernel.visited(graph, rows, shares, options, question.seed, alive)
    k, discount = (question.pins_k, question.pins_discount) if options.boards else (question.k, question.discount)
    version = snapshot.manifest.version
    of_boards = kernel.best(graph.boards, boards, question.k, question.discount)
    of_pins = kernel.best(graph.pins, pins, k, discount, leave_out=rows[known])
    return (
        NearNodes(snapshot.board_ids[of_boards.nodes], of_boards.scores, of_boards.seeds, known, boards.steps, version),
        NearNodes(snapshot.pin_ids[of_pins.nodes], of_pins.scores, of_pins.seeds, known, pins.steps, version),
    )


def _warm(snapshot: Snapshot) -> None:
    """Compile the kernels, or read them from their cache, before a request waits for them."""
    pins = snapshot.pin_ids[:2]
    for bias in (0.0, 1.0):
        options = kernel.options(boards=True, pins=True, bias=bias, interest=1)
        question = Question(pins, np.ones(len(pins), np.float32), options, 1, 16, 0.5, 1, 1, 0.5)
        _near(snapshot, question, lambda: True)
    all_weights(read_only(question.weights, np.float32))  # as they come off the wire
    tally = open_tally(np.full(2, 8), 8, 2)
    full(tally)  # which only long walks need
    grown(tally)
