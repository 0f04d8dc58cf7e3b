"""Servers behind a Unix socket, on threads and on asyncio, that answer what a test says."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core.metrics import Metrics
from services.rpc.admission import AdmissionLimiter
from services.rpc.dispatch import Dispatcher
from services.rpc.server import Adding
from services.rpc.unix_server import AsyncUnixServer, ThreadedUnixServer

Answer = Callable[[], Any]


class Servicer(rpc.RoadrunnerServicer):
    """Answers `Ends` with what the test says, or with nothing."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def Ends(self, request: pb.EndsRequest, context: Any) -> pb.EndsReply:
        return self.answer() or pb.EndsReply()


class AsyncServicer(Servicer):
    """The same on an event loop, which goes on meanwhile."""

    async def Ends(self, request: pb.EndsRequest, context: Any) -> pb.EndsReply:  # type: ignore[override]
        return await asyncio.to_thread(self.answer) or pb.EndsReply()


def add_to(handlers: Any, servicer: Any) -> None:
    rpc.add_RoadrunnerServicer_to_server(servicer, handlers)


class Threaded:
    """A server on threads at a path."""

    def __init__(
        self, path: Path, answer: Answer, metrics: Metrics, wait: Any = None, threads: int = 4, most: int = 100
    ) -> None:
        dispatcher = Dispatcher(metrics, AdmissionLimiter(most), wait)
        add_to(Adding(dispatcher.methods), Servicer(answer))  # type: ignore[abstract]
        self._server = ThreadedUnixServer(path, dispatcher, threads)

    def stop(self) -> None:
        self._server.stop(5.0)


class OnAsyncio:
    """A server on a loop of its own at a path."""

    def __init__(
        self, path: Path, answer: Answer, metrics: Metrics, wait: Any = None, threads: int = 4, most: int = 100
    ) -> None:
        dispatcher = Dispatcher(metrics, AdmissionLimiter(most), at_once=True)
        add_to(Adding(dispatcher.methods), AsyncServicer(answer))  # type: ignore[abstract]
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = AsyncUnixServer(path, dispatcher)
        self._run(self._server.start())

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def stop(self) -> None:
        self._run(self._server.stop(5.0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


Kind = type[Threaded] | type[OnAsyncio]


@contextmanager
def serving(
    kind: Kind, path: Path, answer: Answer = lambda: None, metrics: Metrics | None = None, **more: Any
) -> Iterator[Any]:
    server = kind(path, answer, metrics or Metrics("roadrunner", 0), **more)
    try:
        yield server
    finally:
        server.stop()
