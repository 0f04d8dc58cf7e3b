"""The parts of a service, and the runtime it is built on: each service's `wiring.py` has one `build(settings, runtime)`.

Its entry point gives it the runtime of a process (`services/ops/process.py`), a replay that of a moment of the past
(`learning/training/views.py`). The two differ by their runtimes and by nothing else.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.blob.protocol import Blobs
from services.core.clock import Clock
from services.core.metrics import Metrics
from services.core.settings import ShardSettings
from services.core.topics import Topic
from services.log.protocol import Reader
from services.rpc.mesh import Mesh
from services.state.follower import View
from services.state.scrub import Scrubber
from services.state.shard import Shard
from services.state.stored import CheckValue


def nothing() -> None:
    """For a service that has nothing to do there."""


def no_reason() -> str:
    """For a service that is always ready."""
    return ""


class Runtime(Protocol):
    """The surroundings of a service."""

    @property
    def service(self) -> str:
        """Its name."""
        ...

    @property
    def shard(self) -> int:
        """Which shard of it this instance is."""
        ...

    @property
    def replica(self) -> int:
        """Which of the instances of that shard."""
        ...

    @property
    def mesh(self) -> Mesh:
        """The parts that clients are made of; `mesh.data` is the data folder."""
        ...

    @property
    def partitions(self) -> range:
        """The partitions that this instance of the service owns."""
        ...

    @property
    def folder(self) -> Path:
        """Where this instance keeps its state."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def metrics(self) -> Metrics:
        """Where figures are reported."""
        ...

    @property
    def blobs(self) -> Blobs | None:
        """Models, graphs and datasets; None where those of today are none of the moment that is replayed."""
        ...

    def open_shard(self, form: str, families: Iterable[str], settings: ShardSettings) -> Shard:
        """The state of a view, in this format."""
        ...

    def open_reader(self) -> Reader:
        """A reader of the log."""
        ...

    def no_space(self) -> str:
        """Why the disk has too little space; empty when it has enough."""
        ...


class Background(Protocol):
    """Work on a thread of its own."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End, before what it works on is closed."""
        ...


@dataclass(frozen=True, slots=True)
class Follows:
    """A view that the log is to be applied to: these topics, of these partitions. `log`: its own reader."""

    view: View
    log: Reader
    topics: Sequence[Topic]
    partitions: range


@dataclass(frozen=True, slots=True)
class Parts:
    """A service that serves from threads, built and not started."""

    servicer: Any
    add: Callable[[Any, Any], None]  # add_…Servicer_to_server, as generated
    main: Follows | None = None  # the service is ready once this view has caught up
    caches: Sequence[Follows] = ()  # others that follow the log
    background: Sequence[Background] = ()
    step: Callable[[], bool] | None = None  # one step of a background task; False when no work is left
    families: Sequence[str] = ()  # of the main view's shard, and how a value of them is checked
    check: CheckValue | None = None
    close: Sequence[Callable[[], None]] = ()  # in this order, when nothing runs any more


@dataclass(frozen=True, slots=True)
class AsyncParts:
    """A service that serves from asyncio, built on the event loop that serves it, and not started."""

    servicer: Any
    add: Callable[[Any, Any], None]  # add_…Servicer_to_server, as generated
    start: Sequence[Callable[[], None]] = ()  # before the first request
    drain: Sequence[Callable[[], None]] = ()  # when no request is accepted any more, so that those under way end
    close: Sequence[Callable[[], None]] = ()  # in this order, when nothing runs any more
    why_not_ready: Callable[[], str] = no_reason
    dead: Callable[[], bool] = bool  # whether it must be started again
    look: Callable[[], None] = nothing  # whether the state is still there
    noticed: Callable[[Exception], None] | None = None  # is given each error that a call ends with
    scrubber: Scrubber | None = None  # reads the state again and again for damage
