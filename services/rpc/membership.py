"""Membership: a watched description of which services there are, their shards, and the addresses of their processes. A shard has
one process, or several with the same content: its replicas.

There is no registry to run. The description changes when an operator changes it: `FileMembership` reads the mesh's file again
when it is another one; `MemoryMembership` is changed by a test, or holds the servicers of this process. Whether a process
answers is not part of the description: its callers find out.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from services.core import summed
from services.core.errors import NotFound

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0


class Address(Struct, frozen=True, kw_only=True):
    """One process: which service, layout (how many shards), shard and replica, where it listens for gRPC, and in which zone.

    asked: False of a layout that is being added, or was replaced: it follows the log, and no client asks it.
    """

    service: str
    shard: int
    shards: int
    address: str
    replica: int = 0  # numbers of a shard's replicas are its own, and need not be consecutive
    zone: str = "local"
    host: str = ""  # its name in the cluster file; empty on one machine
    asked: bool = True
    http: str = ""  # of the edge: where pages and JSON are
    held: tuple[str, ...] = ()  # those of its addresses whose ports are held for it (services/ops/ports.py)

    @property
    def name(self) -> str:
        """Service and shard, the layout unless clients ask it, and the replica unless it is the first: apiary-0, apiary-0.1,
        apiary-0of3.1. No two processes of a mesh have the same.
        """
        return f"{self.service}-{self.shard}{'' if self.asked else f'of{self.shards}'}{self._replica}"

    @property
    def folder(self) -> str:
        """The folder of its state, below that of its service: 0of2, or 0of2.replica1."""
        return f"{self.shard}of{self.shards}{f'.replica{self.replica}' if self.replica else ''}"

    @property
    def _replica(self) -> str:
        return f".{self.replica}" if self.replica else ""


class Members(Struct, frozen=True):
    """Every process at one moment. Clients know those that are asked, which are of one layout of each service."""

    processes: tuple[Address, ...]

    def of(self, service: str) -> list[Address]:
        """The processes of a service that are asked, by shard and replica. Raises NotFound when it is not part of this mesh."""
        found = sorted(
            (p for p in self.processes if p.service == service and p.asked), key=lambda p: (p.shard, p.replica)
        )
        if not found:
            there = ", ".join(sorted({p.service for p in self.processes}))
            raise NotFound(f"this mesh has no {service}; it has {there}")
        return found

    def layouts(self) -> dict[str, int]:
        """How many shards the layout has that is asked, by service."""
        return {p.service: p.shards for p in self.processes if p.asked}

    def has_whole(self, service: str) -> bool:
        """Whether each shard of a service has a process, all of one layout, and no two are the same replica."""
        found = [p for p in self.processes if p.service == service and p.asked]
        layouts, shards = {p.shards for p in found}, {p.shard for p in found}
        alone = len({(p.shard, p.replica) for p in found}) == len(found)
        return len(layouts) == 1 and alone and shards == set(range(layouts.pop()))


Changed = Callable[[Members], None]


class Membership(Protocol):
    """The contract that tests/test_membership_contract.py holds every backend to. Thread-safe."""

    def current(self) -> Members:
        """The newest description that is known; a change that watchers are given is in it."""
        ...

    def watch(self, changed: Changed) -> Callable[[], None]:
        """Call `changed` with each description that differs from the one before, in their order and one at a time, on any
        thread, until the function that is returned is called. An exception of `changed` is logged and harms no other watcher.
        """
        ...


class _Watched:
    """The part that backends share: the newest description, and its watchers."""

    def __init__(self, members: Members) -> None:
        self._members, self._watchers = members, dict[object, Changed]()
        self._lock = threading.RLock()  # held while watchers are called, so that changes keep their order

    def current(self) -> Members:
        """As Membership says."""
        return self._members

    def watch(self, changed: Changed) -> Callable[[], None]:
        """As Membership says."""
        key = object()
        with self._lock:
            self._watchers[key] = changed

        def stop() -> None:
            with self._lock:
                self._watchers.pop(key, None)

        return stop

    def _take(self, members: Members) -> None:
        with self._lock:
            if members == self._members:
                return
            self._members = members
            for key, changed in list(self._watchers.items()):
                if key in self._watchers:  # one before may have stopped it
                    try:
                        changed(members)
                    except Exception:
                        logger.exception("a watcher of the membership failed")


class MemoryMembership(_Watched):
    """In this process, changed by `change`."""

    def __init__(self, processes: Iterable[Address]) -> None:
        super().__init__(Members(tuple(processes)))

    def change(self, processes: Iterable[Address]) -> None:
        """Describe these processes from now on; watchers have been called when it returns."""
        self._take(Members(tuple(processes)))


class FileMembership(_Watched):
    """Follows the mesh's file (services/rpc/mesh.py), which is looked at once a second while it is watched.

    While there is no file, or one that can't be read, the description of before stays: a mesh that ends removes its file.
    """

    def __init__(self, path: Path, processes: Iterable[Address], every_s: float = LOOK_EVERY_S) -> None:
        """processes: as the file was read. every_s: seconds between two looks."""
        super().__init__(Members(tuple(processes)))
        self._path, self._every_s = path, every_s
        self._seen: tuple[int, ...] = ()  # which file was read last
        self._failed = False  # at the last look; said once
        self._end: threading.Event | None = None  # of the thread that looks, while there is one

    def watch(self, changed: Changed) -> Callable[[], None]:
        """As Membership says. The thread that looks lives as long as there are watchers."""
        with self._lock:
            stop = super().watch(changed)
            if self._end is None:
                self._end = threading.Event()
                threading.Thread(target=self._look, args=(self._end,), name="membership", daemon=True).start()

        def stop_looking() -> None:
            with self._lock:
                stop()
                if not self._watchers and self._end is not None:
                    self._end.set()
                    self._end = None

        return stop_looking

    def look(self) -> None:
        """Read the file if it is another one than the last that was read; watchers have been called when it returns."""
        with self._lock:
            try:
                found = os.stat(self._path)
                seen = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
                if seen == self._seen:
                    return
                members = summed.decoded(self._path.read_bytes(), Members)
            except FileNotFoundError:
                return
            except (OSError, msgspec.MsgspecError) as error:
                if not self._failed:
                    logger.warning("%s can't be read, and the mesh is taken to be as it was: %s", self._path, error)
                self._failed = True
                return
            self._seen, self._failed = seen, False
            self._take(members)

    def _look(self, end: threading.Event) -> None:
        while not end.wait(self._every_s):
            self.look()


class Following:
    """The newest members for a user that takes them when it has a use for them, on its own thread or loop."""

    def __init__(self, membership: Membership) -> None:
        self._news: Members | None = None
        self._stop = membership.watch(self._note)
        self.members = membership.current()

    def _note(self, members: Members) -> None:
        self._news = members

    def news(self) -> Members | None:
        """The members, if they have changed since they were asked for last."""
        if self._news is None:
            return None
        self.members, self._news = self._news, None
        return self.members

    def close(self) -> None:
        """Follow no more."""
        self._stop()
