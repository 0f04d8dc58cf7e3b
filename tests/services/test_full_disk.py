"""A full disk under a real mesh: writes are refused, reads go on, and with space again all of it comes back by itself."""

from pathlib import Path

import pytest

from roadrunner.client import open_publisher
from services.core.errors import Exhausted
from services.core.events import Action, Batch, events
from services.ops.planning import plan
from services.ops.supervisor import Supervisor
from tests.services.batches import follows
from tests.services.children import small_disk, until
from tests.services.test_supervisor import await_ready, followed, health, sections

MB = 1 << 20


def bulk(first_id: int) -> Batch:
    """About four megabytes."""
    n = 2_000
    rows = range(first_id, first_id + n)
    return events(n, action=Action.NAME_USER, user=7, title=["x" * 2_000] * n, at_ms=1_700_000_000_000, id=rows)


def test_a_mesh_outlives_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 48) as disk:
        lines: list[str] = []
        running = Supervisor(plan(sections(disk.path, apiary={"shards": 1})), lines.append)
        running.start()
        try:
            before = await_ready(running.mesh, running.watch)
            with open_publisher(disk.path) as publisher:
                token = publisher.publish(follows(10), 30).token
                assert len(followed(running.mesh, 1, token)) == 10
                (disk.path / "other").write_bytes(bytes(disk.free() - 2 * MB))
                with pytest.raises(Exhausted, match="the disk is full; nothing was written"):
                    publisher.publish(bulk(10**6), 30)
                with pytest.raises(Exhausted):
                    publisher.publish(follows(1, first_id=50), 30)
                until(lambda: "disk nearly full" in health(running.mesh)[0].why or disk.free() >= MB)
                disk.fill(disk.path / "more")
                until(lambda: "disk nearly full: 0 MB free" in health(running.mesh)[0].why)
                with pytest.raises(Exhausted, match="disk nearly full: 0 MB free at .*, 1 MB are kept free"):
                    publisher.publish(follows(1, first_id=60), 30)
            running.watch()
            assert not lines, "no process ended while there was no space to start again"
            assert len(followed(running.mesh, 1, token)) == 10, "reads go on"
            for name in ("other", "more"):
                (disk.path / name).unlink()

            def back() -> bool:
                running.watch()
                return any("roadrunner-0 starts again" in line for line in lines)

            until(back)
            after = await_ready(running.mesh, running.watch)
            assert after[0] != before[0]
            with open_publisher(disk.path) as publisher:
                again = publisher.publish(bulk(10**6), 30)
                assert (again.accepted, again.duplicates) == (2_000, 0), "what was refused had not been written"
                token = publisher.publish(follows(10, first_id=60), 30).token
            assert len(followed(running.mesh, 1, token)) == 20
        finally:
            running.stop()
