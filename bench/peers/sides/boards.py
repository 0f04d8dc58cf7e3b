"""Redis: a sorted set a board; their union by the best weighted score, less the set of pins seen, and of that the best."""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.side import Work, serve
from bench.peers.sides.redis_server import started


def redis(folder: Path) -> Work:
    """All in the server, in one pipeline; only the best come back. Names and weights are made before anything is timed."""
    client = started(folder)
    boards, pins, scores, seen = (np.load(folder / f"{name}.npy") for name in ("boards", "pins", "scores", "seen"))
    rows = zip(boards.tolist(), pins.tolist(), scores.tolist(), strict=True)
    for board, of in groupby(rows, lambda row: row[0]):
        client.zadd(f"board:{board}", {str(pin): score for _, pin, score in of})
    client.zadd("seen", {str(pin): 0 for pin in seen.tolist()})
    asked, weights, k = (np.load(folder / f"{name}.npy").tolist() for name in ("asked", "weights", "k"))
    wanted = {f"board:{board}": weight for board, weight in zip(asked, weights, strict=True)}

    def best() -> Any:
        pipeline = client.pipeline(transaction=False)
        pipeline.zunionstore("found", wanted, aggregate="MAX")
        pipeline.zdiffstore("unseen", ["found", "seen"])
        pipeline.zrevrange("unseen", 0, k[0] - 1, withscores=True)
        return np.array([int(pin) for pin, _ in pipeline.execute()[-1]], np.uint64)

    return {"best": best, "pins": best}


if __name__ == "__main__":
    serve({"redis": redis})
