"""The columns of a candidate, as they lie in memory."""

import numpy as np

#: The columns of every candidate, see `feedgen.candidates.Candidates`; as services know it from `features.requests`.
ROW = np.dtype(
    [
        *((name, np.uint64) for name in ("pin", "board", "owner", "interest", "seed")),
        ("at_ms", np.int64),
        *((name, np.float32) for name in ("weight", "light", "quality")),
        *((name, np.uint8) for name in ("source", "origin")),
    ],
    align=True,
)
