"""How the others ask pixie: one process holds the whole graph; speaks numpy."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from protos import pixie_pb2 as pb
from services.core.columns import F32, U32, U64, Array, pack, unpack
from services.core.errors import NotReady
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "pixie"
ONLY = 0  # its one shard
BOARDS, PINS, BOTH = pb.WANT_BOARDS, pb.WANT_PINS, pb.WANT_BOTH


class Recommended(NamedTuple):
    """k boards or pins, best first, and the seed of each: the index of the query pin that visited it most.

    known: bool[n], which query pins are in the graph; steps: uint64[n], walked from each.
    """

    ids: U64
    scores: F32
    seeds: U32
    known: Array
    steps: U64
    version: str


_NO_IDS = np.empty(0, np.uint64)
NOWHERE = Recommended(_NO_IDS, np.empty(0, np.float32), np.empty(0, np.uint32), np.empty(0, bool), _NO_IDS, "")


@dataclass(frozen=True, slots=True)
class ServedGraph:
    """The snapshot that is served; version is empty when there is none."""

    version: str
    pins: int
    boards: int
    edges: int
    bytes: int
    built_ms: int


class NoGraph(NotReady):
    """None was built yet: there is nothing to walk, and nothing is wrong."""


class PixieClient:
    """For asyncio. Every call takes its deadline in seconds and raises the MeshError of its status."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def recommend(
        self,
        pins: U64,
        weights: F32,
        *,
        want: int,
        k: int,
        steps: int,
        restart: float = 0.0,
        discount: float = 0.0,
        plain: bool = False,
        stop_nodes: int = 0,
        stop_visits: int = 0,
        bias_interest: int = 0,
        bias: float = 0.0,
        seed: int = 0,
        timeout: float,
    ) -> Recommended:
        """The nodes visited most by `steps` steps from 1 to 1,000 query pins of these weights (> 0), at most k.

        want: BOARDS or PINS of this module. A step goes from a pin over a board to a pin. restart: the probability of
        going back after each; stop_nodes and stop_visits: stop walking from a query pin once so many nodes were visited
        so often; 0 is the settings' value of all three. discount: scores are divided by degree ** discount. plain:
        without the multi-hit booster. bias: the probability of keeping within `bias_interest` where that is possible.
        The same seed walks the same, 0 is any. Raises NoGraph when none was loaded yet, NotReady when none can be served.
        """
        request = pb.RecommendRequest(
            pins=pack(pins, "<u8"),
            weights=pack(weights, "<f4"),
            want=want,  # type: ignore[arg-type]
            k=k,
            steps=steps,
            restart=restart,
            discount=discount,
            plain=plain,
            stop_nodes=stop_nodes,
            stop_visits=stop_visits,
            bias_interest=bias_interest,
            bias=bias,
            seed=seed,
        )
        return _recommended(await self._recommend(request, timeout))

    async def recommend_both(
        self,
        pins: U64,
        weights: F32,
        *,
        boards_k: int,
        pins_k: int,
        steps: int,
        boards_discount: float = 0.0,
        pins_discount: float = 0.0,
        restart: float = 0.0,
        seed: int = 0,
        timeout: float,
    ) -> tuple[Recommended, Recommended]:
        """Boards and pins from one walk, at little more than the cost of one of the two.

        Each is what `recommend` answers to the same question and seed, and it raises the same.
        """
        request = pb.RecommendRequest(
            pins=pack(pins, "<u8"),
            weights=pack(weights, "<f4"),
            want=BOTH,
            k=boards_k,
            pins_k=pins_k,
            steps=steps,
            discount=boards_discount,
            pins_discount=pins_discount,
            restart=restart,
            seed=seed,
        )
        r = await self._recommend(request, timeout)
        boards = _recommended(r)
        return boards, boards._replace(
            ids=unpack(r.pin_ids, "<u8", "pin_ids"),
            scores=unpack(r.pin_scores, "<f4", "pin_scores"),
            seeds=unpack(r.pin_seeds, "<u4", "pin_seeds"),
            steps=unpack(r.pin_steps, "<u8", "pin_steps"),
        )

    async def _recommend(self, request: pb.RecommendRequest, timeout: float) -> pb.RecommendReply:
        reply: pb.RecommendReply = await self._replicas.call(ONLY, "Recommend", request, timeout)
        if reply.no_graph:
            raise NoGraph(f"{NAME}: {reply.no_graph}")
        return reply

    async def load(self, version: str, timeout: float) -> ServedGraph:
        """Make every replica serve another snapshot. Raises NotFound, InvalidArgument with the reason why it is refused."""
        return _graph((await self._replicas.every("Load", pb.LoadRequest(version=version), timeout))[0])

    async def describe(self, timeout: float) -> ServedGraph:
        """The snapshot that is served."""
        return _graph(await self._replicas.call(ONLY, "Describe", pb.DescribeRequest(), timeout))

    async def close(self) -> None:
        """Close the channel."""
        await self._replicas.close()


def _recommended(r: pb.RecommendReply) -> Recommended:
    return Recommended(
        unpack(r.ids, "<u8", "ids"),
        unpack(r.scores, "<f4", "scores"),
        unpack(r.seeds, "<u4", "seeds"),
        unpack(r.known, "<u1", "known").astype(bool),
        unpack(r.steps, "<u8", "steps"),
        r.version,
    )


def _graph(r: pb.Graph) -> ServedGraph:
    return ServedGraph(r.version, r.pins, r.boards, r.edges, r.bytes, r.built_ms)
