"""Redis: a counter a pin and action, and MGET of those that one request needs, over a unix socket, parsed by hiredis."""

from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.side import Work, serve
from bench.peers.sides.redis_server import started

BATCH = 20_000


def redis(folder: Path) -> Work:
    """A server of its own on the machine's other core, without persistence. Keys are made before anything is timed."""
    client = started(folder)
    keys, counts, asked = (np.load(folder / f"{name}.npy") for name in ("keys", "counts", "asked"))
    for start in range(0, len(keys), BATCH):
        part = slice(start, start + BATCH)
        client.mset(dict(zip(_names(keys[part]), counts[part].tolist(), strict=True)))
    names = _names(asked)

    def mget() -> Any:
        return np.array(client.mget(names), np.float32)

    return {"counts": mget}


def _names(keys: Any) -> list[str]:
    """`pin:action`, as one names counters there. keys: uint64[n, 2]."""
    return [f"{pin}:{action}" for pin, action in keys.tolist()]


if __name__ == "__main__":
    serve({"redis": redis})
