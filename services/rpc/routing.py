"""Which shard owns a key: partition by hash, shard by partition. One open channel a process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np

from services.core.columns import U64, Array
from services.core.errors import Unavailable
from services.core.topics import partition_of, partition_of_one
from services.rpc.choosing import Standing
from services.rpc.membership import Address, Following
from services.rpc.mesh import Mesh
from services.rpc.repeating import Repeating
from services.rpc.replica import Replica, open_replica
from services.rpc.replicas import Replicas

logger = logging.getLogger(__name__)
T = TypeVar("T")
LAYOUT = 1 << 16  # shards of the first layout that a set knows count from 0, those of the next from here, and so on
LATE_S = 5.0  # so long after a layout was replaced calls may still name its shards


class ReplicaSet:
    """The shards of one service, for asyncio. Make it on the event loop that uses it.

    Callers name a shard and a method. Which process answers, and by which channel, is decided here alone. The set follows the
    mesh's membership: a process at a new address takes the place of the one before, whose calls under way finish. Another
    layout takes the place of the one before for questions that begin from then on; one that has its shards' numbers keeps them.
    """

    def __init__(self, mesh: Mesh, service: str) -> None:
        """service: of the mesh and of `protos/<service>.proto`. Raises NotFound for one that the mesh has not."""
        self.service = service
        self._mesh, self._partitions, self._caller = mesh, mesh.common.partitions, mesh.caller
        self._tally, self._repeating = self._caller.tally(service), Repeating(service)
        self._standings, self._shards = dict[str, Standing](), list[Replicas]()  # by address; by shard
        self._layout, self._first = 0, 0  # how many shards, and the number of the first
        self._before = list[Replicas]()  # of the layout before, whose first is LAYOUT less
        self._retiring = dict[asyncio.Task[None], Replica]()
        self._following = Following(mesh.membership)
        try:
            self._take(self._following.members.of(service))
        except BaseException:
            self._following.close()
            raise

    def _take(self, processes: list[Address]) -> None:
        """Ask these from now on. A process that stays where it was keeps its channel."""
        before, self._standings = self._standings, {}
        for process in processes:
            standing = before.pop(process.address, None) or Standing(open_replica(self._mesh, process))
            standing.near = process.zone == self._caller.zone
            self._standings[process.address] = standing
        for shard in self._shards:
            shard.close()
        replaced = self._layout not in (0, processes[0].shards)
        if replaced:
            self._first, self._before = self._first + LAYOUT, self._shards
        self._layout = processes[0].shards
        by_shard: dict[int, list[Standing]] = {}
        self._shard_of = np.zeros(self._partitions, np.int64)
        for process in processes:
            by_shard.setdefault(process.shard, []).append(self._standings[process.address])
            own = list(self._mesh.partitions_of(process.shard, process.shards))
            self._shard_of[own] = self._first + process.shard
        self._shards = [
            Replicas(by_shard[shard], self._caller, self._tally, self._repeating) for shard in sorted(by_shard)
        ]
        for standing in before.values():
            task = asyncio.ensure_future(_retire(standing.replica, LATE_S if replaced else 0.0))
            self._retiring[task] = standing.replica
            task.add_done_callback(self._retired)

    def _retired(self, task: "asyncio.Task[None]") -> None:
        self._retiring.pop(task, None)

    def _current(self) -> list[Replicas]:
        """Its shards as of now."""
        news = self._following.news()
        if news is not None:
            if news.has_whole(self.service):
                self._take(news.of(self.service))
            else:
                logger.warning("the mesh has not every shard of %s now, which is asked where it was", self.service)
        return self._shards

    def shard_of(self, key: int) -> int:
        """The shard that owns a key."""
        if len(self._current()) == 1:
            return self._first
        return int(self._shard_of[partition_of_one(key, self._partitions)])

    def shards_of(self, keys: U64) -> list[tuple[int, Array]]:
        """The shards that own these keys, and the rows (int64[m]) of the keys that each owns."""
        if len(self._current()) == 1:
            return [(self._first, np.arange(len(keys)))]
        shard = self._shard_of[partition_of(keys, self._partitions)]
        return [(of, np.flatnonzero(shard == of)) for of in np.unique(shard).tolist()]

    async def call(self, shard: int, method: str, request: Any, timeout: float) -> Any:
        """One unary call of a shard, within `timeout` seconds. Raises the MeshError of its status, naming the service."""
        shards, number = self._current(), shard - self._first
        if number < 0:
            shards, number = self._before, number + LAYOUT
        if not 0 <= number < len(shards):
            raise Unavailable(f"{self.service} has no shard {shard % LAYOUT} any more; try again in a moment")
        return await shards[number].call(method, request, timeout)

    async def each(self, keys: U64, ask: Callable[[int, U64, Array], Awaitable[T]]) -> list[tuple[Array, T]]:
        """Ask every owner of `keys`, in parallel, for its own: [(rows, answer)]."""
        owners = self.shards_of(keys)
        if len(owners) == 1:
            shard, rows = owners[0]
            return [(rows, await ask(shard, keys, rows))]
        answers = await asyncio.gather(*(ask(shard, keys[rows], rows) for shard, rows in owners))
        return [(rows, answer) for (_, rows), answer in zip(owners, answers, strict=True)]

    async def all(self, method: str, request: Any, timeout: float) -> list[Any]:
        """Ask every shard the same, in parallel."""
        count = len(self._current())
        shards = range(self._first, self._first + count)
        return list(await asyncio.gather(*(self.call(shard, method, request, timeout) for shard in shards)))

    async def every(self, method: str, request: Any, timeout: float) -> list[Any]:
        """Ask every process, in parallel; of a shard those are left out that are away or not ready while another answers."""
        answers = await asyncio.gather(*(shard.every(method, request, timeout) for shard in self._current()))
        return [answer for of_shard in answers for answer in of_shard]

    async def close(self) -> None:
        """Close the channels."""
        self._following.close()
        for shard in self._shards:
            shard.close()
        retiring = dict(self._retiring)
        for task in retiring:
            task.cancel()
        replicas = [standing.replica for standing in self._standings.values()]
        await asyncio.gather(*(replica.close() for replica in (*replicas, *retiring.values())))


async def _retire(replica: Replica, after_s: float) -> None:
    """Close a replica once its calls have ended, and no more can come."""
    if after_s:
        await asyncio.sleep(after_s)
    await replica.retire()
