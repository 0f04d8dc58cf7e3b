"""A mesh in one process answers as one over sockets does."""

import asyncio
from pathlib import Path

import pytest

from apiary import layout
from apiary.client import ApiaryClient
from apiary.service import Apiary, Weights
from apiary.store import TOPICS, ApiaryStore
from services.core.errors import InvalidArgument
from services.core.events import Action, events
from services.core.settings import MeshSettings
from services.log.memory import MemoryLog
from services.rpc.local import LocalMesh
from tests.kit import open_shards

PARTITIONS = 4


def test_a_client_asks_the_servicer_itself(tmp_path: Path) -> None:
    async def ask(mesh: LocalMesh) -> list[int]:
        client = ApiaryClient(mesh)
        with pytest.raises(InvalidArgument, match="limit = 0"):
            await client.followed(1, 0, 1.0)
        found = await client.followed(1, 10, 1.0)
        await client.close()
        return [int(user) for user in found.users]

    with open_shards(tmp_path, layout.FORMAT, layout.FAMILIES, 1, PARTITIONS) as [(shard, own)]:
        store = ApiaryStore(shard, own, PARTITIONS)
        batch = events(2, action=Action.FOLLOW_USER, user=1, target=[5, 6], at_ms=[1, 2], id=[1, 2])
        store.apply(MemoryLog(PARTITIONS).append(batch, TOPICS))
        settings = {"mesh": {"partitions": PARTITIONS}}
        mesh = LocalMesh(settings=settings, processes=[], servicers={"apiary": Apiary(store, Weights(1.0, 0.7, 10))})
        assert mesh.common == MeshSettings(partitions=PARTITIONS)
        assert asyncio.run(ask(mesh)) == [6, 5]
