"""LightGBM and lleaves on the rows of a request, on one thread."""

from importlib import import_module
from pathlib import Path

import numpy as np

from bench.peers.side import Work, serve


def lightgbm(folder: Path) -> Work:
    """`Booster.predict` on float32 rows."""
    booster = import_module("lightgbm").Booster(model_file=str(folder / "model.txt"))
    rows = np.load(folder / "rows.npy")
    one = np.ascontiguousarray(rows[:1])
    return {
        "rows": lambda: booster.predict(rows, num_threads=1),
        "row": lambda: booster.predict(one, num_threads=1),
    }


def lleaves(folder: Path) -> Work:
    """A compiled model on float64 rows: converting them is not counted."""
    model = import_module("lleaves").Model(model_file=str(folder / "model.txt"))
    model.compile()
    rows = np.load(folder / "rows.npy").astype(np.float64)
    one = np.ascontiguousarray(rows[:1])
    return {"rows": lambda: model.predict(rows, n_jobs=1), "row": lambda: model.predict(one, n_jobs=1)}


if __name__ == "__main__":
    serve({"lightgbm": lightgbm, "lleaves": lleaves})
