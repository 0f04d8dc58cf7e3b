"""A mesh that began with an embedded log goes on with its log on Kafka: the same history, the same feeds, ids that are known."""

import itertools
from pathlib import Path
from typing import Any

import msgspec

from cli.load import load
from tests.drill.differences import differences
from tests.drill.recount import Recount, recount
from tests.kafka.broker import SETTINGS, Broker
from tests.mesh.command import feedmesh, refused
from tests.mesh.conftest import Loaded, pins, sections
from tests.mesh.test_mesh_kafka import mesh_users
from tests.running import running_mesh
from tests.services.children import until

_new = itertools.count(9_700_001)


def config(folder: Path, log: str) -> Path:
    path = folder / "mesh.toml"
    kafka = "".join(
        f"{name} = {value}\n" for name, value in msgspec.to_builtins(SETTINGS).items() if type(value) is int
    )
    path.write_text(f'[mesh]\nlog = "{log}"\n[kafka]\n{kafka}')
    return path


def test_a_mesh_moves_to_kafka_with_all_that_it_knows(broker: Broker, tmp_path: Path, world: Path) -> None:
    data, url = tmp_path / "data", broker.url()
    owner, stranger, board, pin, reader = (next(_new) for _ in range(5))
    made: list[dict[str, Any]] = [
        {"action": "create_board", "user": owner, "board": board, "title": "a board", "id": next(_new)},
        {"action": "create_pin", "pin": pin, "title": "a pin", "quality": 0.9, "id": next(_new)},
        {"action": "save", "user": owner, "board": board, "pin": pin, "id": next(_new)},
        {"action": "follow_user", "user": reader, "target": owner, "id": next(_new)},
    ]
    with running_mesh(data, sections(1, prober={"every_s": 0})) as running:
        load("parquet", world, data=data)
        mesh = Loaded(running, None)
        assert pins(mesh.page(reader, token=mesh.publish(*made)["token"])) == [pin]
        users = [int(row["user"]) for row in mesh_users(mesh)][:5]
        pages = {user: pins(mesh.page(user)) for user in users}
        counts = list[Recount]()

        def is_steady() -> bool:
            """Pages that were served are events too, a moment later."""
            running.until_caught_up()
            counts.append(recount(running.mesh))
            return len(counts) > 1 and counts[-1].events == counts[-2].events

        until(is_steady)
        before = counts[-1]
        named = config(tmp_path, url)
        refused(
            feedmesh("log", "migrate", "--config", named, "--data", data), 1, "a mesh is running on this data folder"
        )
    ran = feedmesh("log", "migrate", "--config", named, "--data", data, within_s=300)
    assert ran.returncode == 0, ran.stderr
    assert "has the whole history" in ran.stdout
    assert (data / "before-kafka" / "roadrunner").is_dir()
    again = feedmesh("log", "migrate", "--config", named, "--data", data)
    refused(again, 1, "the log was moved to Kafka")
    kafka = {"mesh": {"log": url}, "kafka": msgspec.to_builtins(SETTINGS)}
    with running_mesh(data, sections(1, prober={"every_s": 0}, **kafka)) as running:
        running.until_caught_up()
        mesh = Loaded(running, None)
        found = recount(running.mesh)
        assert (found.events, found.ids) == (before.events, before.ids)
        assert differences(running.mesh, found) == []
        assert {user: pins(mesh.page(user)) for user in users} == pages
        answer = mesh.publish(*made)  # again, with the ids of before
        claim = {"action": "delete_board", "user": stranger, "board": board, "id": next(_new)}
        mesh.publish(claim)
        assert pins(mesh.page(reader, token=answer["token"])) == [pin]
        running.until_caught_up()
        found = recount(running.mesh)
        assert [found.ids[int(event["id"])] for event in made] == [before.ids[int(event["id"])] for event in made]
        assert differences(running.mesh, found) == []
