"""A whole mesh takes snapshots; views that lost their folders are filled from them, and the log goes as far as they reach."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.schema import SERVICE_SETTINGS
from cli.snapshot import VIEWS
from roadrunner.client import open_publisher
from services.blob.opening import open_blobs
from services.core.events import Action, Batch, events
from services.log.embedded import EmbeddedReader
from services.state.manifest import all_of
from services.state.restore import origins
from tests.damaging import flip
from tests.running import Running, rounds, running_mesh
from tests.seaweed import Seaweed
from tests.services.children import until

A = Action
SMALL = {name: {"cache_mb": 1, "memtable_mb": 1, "snapshot_every_s": 1.0, "snapshots_kept": 2} for name in VIEWS}


def happened(first: int, n: int = 300) -> Batch:
    """Some of everything, by a few users."""
    kinds = [A.FOLLOW_USER, A.FOLLOW_BOARD, A.SAVE, A.IMPRESSION, A.CLICK, A.CREATE_PIN, A.JOIN_INTEREST, A.SERVED]
    rows = range(first, first + n)
    return events(
        n,
        action=[kinds[i % len(kinds)] for i in rows],
        user=[1 + i % 17 for i in rows],
        pin=[1 + i % 50 for i in rows],
        board=[1 + i % 9 for i in rows],
        target=[1 + i % 30 for i in rows],
        surface=1,
        title=["a title" if kinds[i % len(kinds)] == A.CREATE_PIN else "" for i in rows],
        at_ms=1_750_000_000_000,
        id=[*rows],
    )


def snapshot(data: Path, *words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["snapshot", *map(str, words), "--data", str(data)], env={"COLUMNS": "300"})
    return result.exit_code, result.stdout


def listed(data: Path, *words: object) -> list[dict[str, Any]]:
    code, said = snapshot(data, "list", "--json", *words)
    assert code == 0, said
    found: list[dict[str, Any]] = json.loads(said)
    return found


def publish(mesh: Running, first: int) -> None:
    with open_publisher(mesh.mesh.data) as publisher:
        publisher.publish(happened(first), 30)


def until_taken(data: Path, what: Callable[[dict[str, Any]], bool], each: int = 1) -> None:
    def enough() -> bool:
        found = [one["service"] for one in listed(data) if what(one)]
        return all(found.count(view) >= each for view in VIEWS)

    until(enough, 120)


def kept(data: Path) -> int:
    """The events in the newest snapshot of apiary."""
    return max((one["events"] for one in listed(data, "--service", "apiary")), default=0)


def settings_of(**more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    mine: dict[str, dict[str, Any]] = {
        "mesh": {"min_free_mb": 1},
        "learning": {"first": False},
        "prober": {"every_s": 3600},
    }
    return mine | SMALL | more


@pytest.mark.parametrize("where", rounds(["a bucket", "the data folder"], 1))
def test_views_that_lost_their_folders_are_filled_from_snapshots(
    where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data, more = tmp_path / "data", dict[str, dict[str, Any]]()
    if where == "a bucket":
        seaweed: Seaweed = request.getfixturevalue("seaweed")
        more = {"mesh": {"min_free_mb": 1, "blobs": seaweed.url("mesh")}}
        data.mkdir()
        (data / "BLOBS").write_text(more["mesh"]["blobs"])
    with running_mesh(data, settings_of(**more)) as mesh:
        publish(mesh, 1)
        mesh.until_caught_up()
        taken = max((one["taken_ms"] for one in listed(data)), default=0)
        until_taken(data, lambda one: one["taken_ms"] > taken)
        publish(mesh, 1_000)
        mesh.until_caught_up()
    code, said = snapshot(data, "verify", "--json")
    assert (code, json.loads(said)["damaged"]) == (0, []), said
    before = {view: listed(data, "--service", view)[0]["id"] for view in VIEWS}
    for view in VIEWS:
        shutil.rmtree(data / view)
    with running_mesh(data, settings_of(**more)) as mesh:
        mesh.until_caught_up()
        for view in VIEWS:
            assert origins(data / view / "0of1") == [(f"{view}/0of1", before[view])]
        ran = CliRunner().invoke(app, ["check", "--data", str(data), "--sample", "500"])
        assert ran.exit_code == 0, ran.output


@pytest.mark.long
def test_the_log_is_dropped_as_far_as_snapshots_reach_and_a_lost_view_is_still_filled(tmp_path: Path) -> None:
    """Retention of almost nothing: what no view needs any more goes, and no more than that."""
    kept = {"retention_mb": 1, "segment_mb": 1, "cache_mb": 1, "memtable_mb": 1}
    with running_mesh(tmp_path, settings_of(roadrunner=kept)) as mesh:
        big = 400_000
        with open_publisher(tmp_path) as publisher:
            for first in range(0, 4 * big, big):
                publisher.publish(named(1 + first), 60)
        mesh.until_caught_up()
        until_taken(tmp_path, lambda one: one["events"] >= 0, each=2)
        log = EmbeddedReader(mesh.mesh)
        try:
            until(lambda: any(end.first for end in log.ends(10).values()), 180)
        finally:
            log.close()
        publish(mesh, 10**7)
        mesh.until_caught_up()
    shutil.rmtree(tmp_path / "rockstore")
    shutil.rmtree(tmp_path / "polaris")
    with running_mesh(tmp_path, settings_of(roadrunner=kept)) as mesh:
        mesh.until_caught_up()
        assert origins(tmp_path / "rockstore" / "0of1")


def named(first: int, n: int = 2_000) -> Batch:
    """About two megabytes of `objects` in one partition."""
    rows = range(first, first + n)
    return events(n, action=A.NAME_USER, user=7, title=["x" * 1_000] * n, at_ms=1_750_000_000_000, id=[*rows])


@pytest.mark.long
def test_without_snapshots_retention_drops_nothing_and_says_why(tmp_path: Path) -> None:
    kept = {"retention_mb": 1, "segment_mb": 1, "cache_mb": 1, "memtable_mb": 1}
    none = {name: {"cache_mb": 1, "memtable_mb": 1} for name in VIEWS}
    with running_mesh(tmp_path, settings_of(roadrunner=kept) | none) as mesh:
        with open_publisher(tmp_path) as publisher:
            for first in range(0, 5):
                publisher.publish(named(1 + 10_000 * first), 60)
        mesh.until_caught_up()
        said = tmp_path / "logs" / "roadrunner-0.log"
        until(lambda: "retention is held back" in said.read_text(), 60)
        assert "has not 2 snapshots of this log: set [" in said.read_text()
        log = EmbeddedReader(mesh.mesh)
        assert not any(end.first for end in log.ends(10).values())
        log.close()


def test_the_command_says_what_is_damaged_restores_and_prunes(tmp_path: Path) -> None:
    many = settings_of(apiary=SMALL["apiary"] | {"snapshots_kept": 50})
    with running_mesh(tmp_path, many) as mesh:
        for turn in range(2):
            before = kept(tmp_path)
            publish(mesh, 1 + 1_000 * turn)
            mesh.until_caught_up()
            until(lambda before=before: kept(tmp_path) > before, 120)  # type: ignore[misc]
    assert snapshot(tmp_path, "verify")[0] == 0
    of = next(iter(all_of(open_blobs(tmp_path), "apiary")))
    files = {id_: {file.at for file in of.manifest(id_).files.values()} for id_ in of.ids()}
    newest, oldest = max(files), min(files)
    chosen = min(files[newest] - files[oldest])
    damaged = {id_ for id_, names in files.items() if chosen in names}
    whole = max(files.keys() - damaged)
    flip(tmp_path / "snapshots" / "apiary" / "0of1" / "files" / chosen, 3)
    code, said = snapshot(tmp_path, "verify", "--service", "apiary")
    assert (code, newest in said, whole in said, "its digest is" in said) == (1, True, False, True), said
    assert snapshot(tmp_path, "restore", "apiary")[0] == 2, "it is not empty"
    code, said = snapshot(tmp_path, "restore", "apiary", "--replace")
    assert (code, f"apiary/0of1: filled from snapshot {whole}" in " ".join(said.split())) == (0, True), said
    assert snapshot(tmp_path, "restore", "apiary", "--id", newest, "--replace")[0] == 1
    assert origins(tmp_path / "apiary" / "0of1") == [("apiary/0of1", whole)], "what was there stays"
    assert snapshot(tmp_path, "verify", "--remove")[0] == 1
    assert set(of.ids()) == files.keys() - damaged
    assert snapshot(tmp_path, "verify")[0] == 0
    assert snapshot(tmp_path, "prune", "--keep", "1")[0] == 2
    code, said = snapshot(tmp_path, "prune", "--keep", "2", "--dry-run")
    assert (code, "would be removed" in said) == (0, True), said
    for words in (("restore", "web"), ("list", "--service", "nothing"), ("restore", "apiary", "--shard", 4)):
        assert snapshot(tmp_path, *words)[0] == 2
    assert snapshot(tmp_path, "verify", "--id", "1-2")[0] == 1
    with running_mesh(tmp_path, many) as mesh:
        mesh.until_caught_up()
    assert set(VIEWS) == {name for name, struct in SERVICE_SETTINGS.items() if hasattr(struct, "snapshot_every_s")}
