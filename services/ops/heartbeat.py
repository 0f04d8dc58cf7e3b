"""Asks every process of a mesh how it is, every second or so, and adds up for how long one has given no answer.

A process that died is noticed by its parent. One that hangs, stopped by a signal or in a deadlock, is noticed here: it
answered before, and now does not. The allowed time of a question is added, not the time on a clock, so that after a machine
slept, or the supervisor itself was stopped, no process is taken for hung.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Collection

from services.ops.probe import TIMEOUT_S, Health, Probe
from services.rpc.membership import Address
from services.rpc.mesh import Mesh

logger = logging.getLogger(__name__)
EVERY_S = 1.0


class Heartbeat:
    """A thread that asks. Its figures may be read from any other."""

    def __init__(self, mesh: Mesh, own: Collection[Address]) -> None:
        """own: the processes that are asked. Nothing is asked before `start`."""
        self._mesh, self._own = mesh, {of.address for of in own}
        #: By address: the process id that answered there last, and seconds asked in vain since.
        self._silent: dict[str, tuple[int, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def look_after(self, own: Collection[Address]) -> None:
        """Ask these from now on, once the mesh's membership has them."""
        self._own = {of.address for of in own}

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """End, within a question's deadline."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def silent_s(self, of: Address, pid: int) -> float | None:
        """For how many seconds this process was asked in vain; None of one that has not answered yet, as it starts."""
        answered, silent = self._silent.get(of.address, (0, 0.0))
        return silent if answered == pid else None

    def _run(self) -> None:
        try:
            asyncio.run(self._ask())
        except Exception:
            logger.exception("the heartbeat ended: a process that hangs is not noticed any more")

    async def _ask(self) -> None:
        probe = Probe(self._mesh, lambda of: of.address in self._own)
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                healths = await probe.ask()
                await asyncio.sleep(EVERY_S)
                took = min(time.monotonic() - began, TIMEOUT_S + EVERY_S)
                if 2 * sum(health.status is not None for health in healths) > len(healths):
                    for health in healths:  # or the asking process is starved
                        self._take(health, took)
        finally:
            await probe.close()

    def _take(self, health: Health, took_s: float) -> None:
        at = health.of.address
        if health.status is not None:
            self._silent[at] = (health.status.pid, 0.0)
        elif at in self._silent:
            pid, silent = self._silent[at]
            self._silent[at] = (pid, silent + took_s)
