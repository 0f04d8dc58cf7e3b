"""Readers of a feed over HTTP: they arrive at a fixed rate whatever the mesh does, and what each waited is counted from
when it should have been asked.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec


class Read(NamedTuple):
    """waited: seconds of each reader; short: pages of fewer than 25 pins; failed: answers that were not 200; degraded:
    pages with a stage lost.
    """

    waited: list[float]
    short: int
    failed: int
    degraded: int


class Connection:
    """One HTTP/1.1 connection that is kept alive: as little client as will do, so that the mesh is measured, not it."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head.split(b" ")[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()


async def read(
    url: str, feed: str, users: list[str], rate: float, seconds: float, ended: Callable[[], bool] = lambda: False
) -> Read:
    """`rate` pages of 25 a second, for so many seconds, or until it has ended."""
    host, port = url.removeprefix("http://").split(":")
    free = [Connection(host, int(port)) for _ in range(64)]
    waited: list[float] = []
    short = failed = degraded = 0

    async def one(at: float, user: str) -> None:
        nonlocal short, failed, degraded
        connection = free.pop() if free else Connection(host, int(port))
        try:
            status, body = await connection.get(f"/v1/feeds/{feed}?user={user}&limit=25")
        except (OSError, asyncio.IncompleteReadError):
            failed += 1
            return
        waited.append(time.perf_counter() - at)
        failed += status != 200
        if status == 200:
            page = msgspec.json.decode(body)
            short += len(page["items"]) < 25
            degraded += bool(page["degraded"])
        free.append(connection)

    started, tasks = time.perf_counter(), []
    for i in range(int(rate * seconds)):
        if ended():
            break
        at = started + i / rate
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(at, users[i % len(users)])))
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return Read(waited, short, failed, degraded)
