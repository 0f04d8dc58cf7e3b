"""The service that ranks: python -m bench.plain.ranking ADDRESS REDIS_SOCKET MODEL. Facts of pins come from Redis, scores from
`lightgbm.Booster.predict` with one thread, as there are no more cores than requests under way.
"""

import sys
from typing import Any

import lightgbm
import numpy as np

from bench.plain.features import matrix
from bench.plain.rows import facts_of, opened_redis
from bench.plain.wire import Message, Method, packed, serve, unpacked


class Ranking:
    """One model."""

    def __init__(self, store: Any, model: str) -> None:
        self._redis = store
        self._booster = lightgbm.Booster(model_file=model, params={"num_threads": 1})
        self._names = self._booster.feature_name()

    async def rank(self, request: Message) -> Message:
        """float64[n] scores of the candidates, the first interest of each, and which were taken down."""
        columns, about = unpacked(request["columns"]), unpacked(request["about"])
        facts = facts_of(await self._redis.mget([f"facts:{pin}" for pin in columns["pin"].tolist()]))
        rows = matrix(self._names, {**request, **about}, columns, facts)
        scores = np.asarray(self._booster.predict(rows, num_threads=1), np.float64)
        return packed({"score": scores, "interest": facts["interests"][:, 0], "down": facts["down"]})


async def opened(socket: str, model: str) -> Method:
    """The service with its model."""
    return Ranking(opened_redis(socket), model).rank


if __name__ == "__main__":
    serve("Rank", sys.argv[1], lambda: opened(sys.argv[2], sys.argv[3]))
