"""A mesh in one process, without a network: clients call the servicers themselves.

For replays of the log, where every service must stand at one moment of the past. Requests and replies are those of the
wire, so the code that asks and the code that answers are the very ones that serve.
"""

import inspect
from collections.abc import Callable
from typing import Any

from services.rpc.mesh import Mesh


class LocalMesh(Mesh, kw_only=True):
    """servicers: by service, one shard each, which owns every partition."""

    servicers: dict[str, Any]


class LocalStub:
    """Looks like the stub of a channel to a servicer."""

    def __init__(self, servicer: Any) -> None:
        self._servicer = servicer

    def __getattr__(self, method: str) -> Callable[..., Any]:
        answer = getattr(self._servicer, method)

        async def call(request: Any, **_: Any) -> Any:
            answered = answer(request, None)
            return await answered if inspect.isawaitable(answered) else answered

        return call
