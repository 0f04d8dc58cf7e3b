"""The owner of a key: every partition has one shard, and a key goes to the shard of its partition."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import mmh3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.columns import U64, Array, ids
from services.core.errors import NotFound
from services.core.settings import MeshSettings
from services.rpc import mesh as meshes
from services.rpc.mesh import Address, Mesh
from services.rpc.routing import ReplicaSet
from tests.services.batches import any_u64

T = TypeVar("T")


def mesh_of(shards: int, partitions: int) -> Mesh:
    """A mesh whose shards are listed out of order; nothing listens at their addresses."""
    processes = [
        Address(service="apiary", shard=i, shards=shards, address=f"127.0.0.1:{i + 1}") for i in reversed(range(shards))
    ]
    return meshes.resolve({"mesh": MeshSettings(partitions=partitions)}, processes)


def asked(mesh: Mesh, question: Callable[[ReplicaSet], Awaitable[T]]) -> T:
    """The answer of a set of which nothing is called."""

    async def main() -> T:
        shards = ReplicaSet(mesh, "apiary")
        try:
            return await question(shards)
        finally:
            await shards.close()

    return asyncio.run(main())


def shard_of(key: int, shards: int, partitions: int) -> int:
    partition = mmh3.hash64(key.to_bytes(8, "little"), seed=0, signed=False)[0] % partitions
    return next(i for i in range(shards) if partitions * i // shards <= partition < partitions * (i + 1) // shards)


layouts = st.integers(1, 1024).flatmap(lambda partitions: st.tuples(st.integers(1, partitions), st.just(partitions)))


@given(layouts)
def test_every_partition_has_one_shard_and_every_shard_its_equal_part(layout: tuple[int, int]) -> None:
    shards, partitions = layout
    mesh = mesh_of(1, partitions)
    owned = [mesh.partitions_of(i, shards) for i in range(shards)]
    assert [p for part in owned for p in part] == list(range(partitions))
    assert {len(part) for part in owned} <= {partitions // shards, -(-partitions // shards)}


@pytest.mark.parametrize(("shards", "partitions"), [(1, 1), (1, 16), (2, 16), (3, 16), (5, 7), (16, 16)])
def test_a_key_goes_to_the_shard_of_its_partition(shards: int, partitions: int) -> None:
    keys = [*range(1, 60), 2**64 - 1, 0]
    expected = [shard_of(key, shards, partitions) for key in keys]

    async def question(routed: ReplicaSet) -> tuple[list[int], list[tuple[int, list[int]]]]:
        owners = [(shard, rows.tolist()) for shard, rows in routed.shards_of(ids(keys))]
        return [routed.shard_of(key) for key in keys], owners

    one_by_one, together = asked(mesh_of(shards, partitions), question)
    assert one_by_one == expected
    assert sorted(row for _, rows in together for row in rows) == list(range(len(keys)))
    assert all(expected[row] == shard for shard, rows in together for row in rows)


@given(st.lists(any_u64, max_size=12))
def test_each_asks_every_owner_once_for_its_own_keys(keys: list[int]) -> None:
    async def question(routed: ReplicaSet) -> list[tuple[Array, tuple[int, list[int]]]]:
        async def ask(shard: int, own: U64, rows: Array) -> tuple[int, list[int]]:
            assert np.array_equal(own, ids(keys)[rows])
            return shard, own.tolist()

        return await routed.each(ids(keys), ask)

    answers = asked(mesh_of(3, 7), question)
    shards = [shard for _, (shard, _) in answers]
    assert len(set(shards)) == len(shards)
    back: dict[int, int] = {row: key for rows, (_, own) in answers for row, key in zip(rows.tolist(), own, strict=True)}
    assert [back[row] for row in range(len(keys))] == keys


def test_a_service_that_is_not_there_is_named_with_those_that_are() -> None:
    async def make() -> Any:
        return ReplicaSet(mesh_of(2, 4), "polaris")

    with pytest.raises(NotFound, match="this mesh has no polaris; it has apiary"):
        asyncio.run(make())
