"""A plain stack that gives the mesh's home page from the mesh's data with the parts most people would take: Redis, a random
walk in Python, `lightgbm.predict`, asyncio gRPC. `comparing.py` measures the mesh beside it.

Everything but `world.py`, `stack.py`, `agreeing.py` and `comparing.py` runs in the environment `.peers/plain`, and imports
nothing of the mesh.
"""

from typing import Any


def measure(data: str | None) -> list[Any]:
    """The part `plain` of the benchmark."""
    from bench.plain.comparing import measure as compared  # noqa: PLC0415 - the servers have none of its packages

    return compared(data)
