"""A following page over the whole mesh: readers arrive at a fixed rate whatever the mesh does, and what each waited is
counted from when it should have been asked. Client and mesh share the machine's cores. Then the memory of each process.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from bench.report import Figure, latencies
from services.command.demo import demo
from services.command.load import load
from tests.running import Running, running_mesh

RATE, SECONDS, WARM_S = 100, 30, 5
LASTFM = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "lastfm"


class Connection:
    """One HTTP/1.1 connection that is kept alive: as little client as will do, so that the mesh is what is measured."""

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


async def _load(url: str, users: list[str], rate: float, seconds: float) -> tuple[list[float], int, int]:
    """Seconds that each reader waited, pages with fewer than 25 pins, and answers that were not 200."""
    host, port = url.removeprefix("http://").split(":")
    free = [Connection(host, int(port)) for _ in range(64)]
    waited: list[float] = []
    short = failed = 0

    async def one(at: float, user: str) -> None:
        nonlocal short, failed
        connection = free.pop() if free else Connection(host, int(port))
        try:
            status, body = await connection.get(f"/v1/feeds/following?user={user}&limit=25")
        except (OSError, asyncio.IncompleteReadError):
            failed += 1
            return
        waited.append(time.perf_counter() - at)
        failed += status != 200
        short += status == 200 and len(msgspec.json.decode(body)["items"]) < 25
        free.append(connection)

    started, tasks = time.perf_counter(), []
    for i in range(int(rate * seconds)):
        at = started + i / rate
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(at, users[i % len(users)])))
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return waited, short, failed


def measure(data: str | None) -> list[Figure]:
    """Load a world, warm up, measure, weigh."""
    lastfm = Path(data) if data else LASTFM
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        home = Path(folder)
        with running_mesh(home / "data") as running:
            if lastfm.exists():
                load("lastfm", lastfm, data=home / "data")
            else:
                demo(out=home / "world")
                load("parquet", home / "world", data=home / "data")
            running.until_caught_up()
            users = [str(user) for user in range(2, 2_000) if user % 3]
            uvloop.run(_load(running.url, users, RATE, WARM_S))
            waited, short, failed = uvloop.run(_load(running.url, users, RATE, SECONDS))
            world = "Last.fm" if lastfm.exists() else "the demo world"
            figures = latencies("feed", f"following page, {RATE} feeds/s, {world}", waited, 80)
            figures.append(Figure("feed", "answers that were not 200", failed, "answers", 0, at_most=True))
            figures.append(
                Figure("feed", "pages with fewer than 25 pins", short, "pages", note="users who follow little")
            )
            return figures + _memory(running)


def _memory(running: Running) -> list[Figure]:
    running.until_caught_up()
    found, total = [], 0.0
    for health in running.health():
        status = health.status
        if status is None:
            continue
        name = f"{health.of.service}-{health.of.shard}"
        total += status.rss_bytes
        peak = f"peak {status.peak_rss_bytes / 1e6:.0f} MB"
        found.append(Figure("memory", f"{name} resident", status.rss_bytes / 1e6, "MB", note=peak))
    return [*found, Figure("memory", "whole mesh resident", total / 1e6, "MB", 1_500, at_most=True)]
