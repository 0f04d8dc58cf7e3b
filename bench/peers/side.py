"""A peer's end of a comparison: reads its input from a folder, answers and times operations, a line for each.

Runs in the peer's environment. Requests on standard input, replies on standard output, both JSON; the peer's own output
goes to standard error.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Work = Mapping[str, Callable[[], Any]]  # an operation by name; it returns an array, or what numpy makes one of


def serve(peers: Mapping[str, Callable[[Path], Work]]) -> None:
    """Serve the peer named by the first argument on the folder of the second, on the cores of the third, until end of input."""
    name, folder, cores = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)

        def say(reply: dict[str, Any]) -> None:
            replies.write(json.dumps(reply) + "\n")
            replies.flush()

        try:
            began = time.perf_counter()
            work = peers[name](folder)
            say({"opened_s": time.perf_counter() - began})
            for line in sys.stdin:
                say(_done(work, json.loads(line), folder / f"{name}.npy"))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})
            raise


def _done(work: Work, asked: dict[str, Any], path: Path) -> dict[str, Any]:
    operation = work[asked["operation"]]
    if asked["do"] == "answer":
        np.save(path, np.asarray(operation()))
        return {"saved": str(path)}
    began = time.perf_counter()
    for _ in range(asked["times"]):
        operation()
    return {"seconds": (time.perf_counter() - began) / asked["times"]}
