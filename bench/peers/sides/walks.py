"""dgl's PinSAGE sampler and igraph's random walk, on a graph of pins and boards given as edges."""

import random
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.side import Work, serve

LONGEST = 32  # traversals of one walk of dgl's: of walks that end with probability 1/2, one in four billion is longer


def dgl(folder: Path) -> Work:
    """Walks that end after each step with probability 1/2, counted by the pin: `dgl.sampling.PinSAGESampler`."""
    library, torch = import_module("dgl"), import_module("torch")
    torch.set_num_threads(1)
    graphs = [_dgl_graph(library, torch, folder / name) for name in ("large", "small")]
    query, steps, best = (int(x) for x in np.load(folder / "query.npy"))
    sampler = library.sampling.PinSAGESampler(graphs[0], "pin", "board", LONGEST, 0.5, steps // 2, best)
    one = library.sampling.PinSAGESampler(graphs[1], "pin", "board", 1, 0.0, steps, 1_000_000)
    seed, first = torch.tensor([query]), torch.tensor([0])

    def recommend() -> Any:
        return sampler(seed).edata["weights"].numpy()

    def small() -> Any:
        found = one(first)
        visits = np.zeros(graphs[1].num_nodes("pin"), np.int64)
        visits[found.edges()[0].numpy()] = found.edata["weights"].numpy()
        return visits

    return {"recommend": recommend, "small": small}


def _dgl_graph(library: Any, torch: Any, folder: Path) -> Any:
    pins, boards = (torch.from_numpy(np.load(folder / f"{name}.npy").astype(np.int64)) for name in ("pins", "boards"))
    graph = library.heterograph({("pin", "on", "board"): (pins, boards), ("board", "has", "pin"): (boards, pins)})
    return graph.formats("csr")


def igraph(folder: Path) -> Work:
    """`Graph.random_walk`: one long walk, since it knows no restart; each second vertex is a pin."""
    library = import_module("igraph")
    random.seed(1)
    large, small = (_igraph_graph(library, folder / name) for name in ("large", "small"))
    query, steps, best = (int(x) for x in np.load(folder / "query.npy"))
    pins = int(np.load(folder / "small" / "pins.npy").max()) + 1

    def recommend() -> Any:
        visited = np.array(large.random_walk(query, 2 * steps))[2::2]
        found, visits = np.unique(visited, return_counts=True)
        return found[np.argsort(-visits)[:best]]

    def ends() -> Any:
        return np.bincount([small.random_walk(0, 2)[2] for _ in range(steps)], minlength=pins)

    return {"recommend": recommend, "small": ends}


def _igraph_graph(library: Any, folder: Path) -> Any:
    pins, boards = (np.load(folder / f"{name}.npy").astype(np.int64) for name in ("pins", "boards"))
    n = int(pins.max()) + 1
    return library.Graph(n=n + int(boards.max()) + 1, edges=np.column_stack([pins, n + boards]))


if __name__ == "__main__":
    serve({"dgl": dgl, "igraph": igraph})
