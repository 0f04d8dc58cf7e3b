"""`feedmesh check` and the scrub of a running process: damaged parts are found and named, whole ones are left alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.checking import Checking, Checks
from cli.ledger import Loaded
from cli.main import app
from cli.record import Record
from cli.schema import SCHEMA
from roadrunner import layout as log_layout
from roadrunner.check import LogReading
from services.core import settings, summed
from services.core.external import check_setting
from services.core.metrics import Metrics
from services.core.topics import Topic
from services.ops.supervisor import FORMAT, DataFolder
from services.state.scrub import Scrubber, Values
from services.state.shard import Shard, with_offsets
from tests.damage import world
from tests.damage.files import files_of
from tests.damage.world import PARTITIONS, VIEWS, World, checked, clock, follow, open_log, open_view, small

MESH_TOML = f"[mesh]\npartitions = {PARTITIONS}\n[polaris]\nhead_postings = 20\n[aperture]\nrecent_keys = 3\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world.build(tmp_path_factory.mktemp("world"))


@pytest.fixture
def data(made: World, tmp_path: Path) -> Path:
    """A data folder of one's own."""
    folder = tmp_path / "data"
    shutil.copytree(made.now, folder)
    (folder / "run").mkdir()
    (folder / "FORMAT").write_text(FORMAT + "\n")
    return folder


def check(data: Path, running: bool = False, sample: int = 60) -> Checks:
    sections: dict[str, Any] = settings.validated(
        {"mesh": {"data": str(data), "partitions": PARTITIONS}}, "here", SCHEMA
    )
    for service in VIEWS:
        small(sections[service])
    return Checking(sections, data, running, clock, lambda *_: None).run(sample, seed=1)


def whats(found: Checks) -> str:
    return "\n".join(f"{one.folder} {one.family}: {one.what}" for one in found.findings)


@pytest.mark.parametrize("running", [False, True])
def test_nothing_is_found_where_nothing_is_damaged_and_nothing_is_changed(data: Path, running: bool) -> None:
    def contents() -> dict[str, bytes]:
        kept = (p for p in data.rglob("*") if p.is_file() and not p.name.startswith(("LOG", "LOCK", "rocksdict")))
        return {str(p): p.read_bytes() for p in kept}

    before = contents()
    found = check(data, running)
    assert not found.findings
    assert not found.notes
    assert found.entries > 1_000
    assert found.compared > 50
    assert contents() == before


def test_a_folder_that_a_process_has_open_is_checked_from_beside_it(made: World, data: Path) -> None:
    log, view = open_log(data), open_view(data, "apiary")
    try:
        follow(view, "apiary", made.records)
        assert not check(data, running=True).findings
    finally:
        view.shard.close()
        log.close()


@pytest.mark.parametrize("service", [*VIEWS, "roadrunner"])
def test_a_flipped_bit_in_a_block_of_any_family_is_found(data: Path, service: str) -> None:
    folder = data / service / "0of1"
    of_family = {kind: paths for kind, paths in files_of(folder).items() if kind.startswith("family")}
    for paths in of_family.values():
        content = bytearray(paths[-1].read_bytes())
        content[1] ^= 4
        paths[-1].write_bytes(content)
    found = check(data, sample=0)
    assert {one.folder for one in found.findings} == {str(folder)}
    assert all(one.remedy for one in found.findings)


def test_flipped_bits_in_the_files_of_loads_and_ids_are_found(data: Path) -> None:
    loads = data / "loads"
    loads.mkdir(exist_ok=True)
    record = Record(loads / "csv.record")
    record.begin()
    record.add(np.arange(1, 9, dtype=np.uint64), np.empty((0, 2), np.uint64))
    record.merge()
    (loads / "csv-0123.json").write_bytes(summed.encoded(Loaded(size=8)))
    check_setting(data, "numbers")
    assert not check(data, sample=0).findings
    for path in (loads / "csv.record", loads / "csv-0123.json", data / "IDS"):
        content = path.read_bytes()
        half = len(content) // 2
        path.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
        (finding,) = check(data, sample=0).findings
        assert finding.file == path.name
        assert finding.remedy
        path.write_bytes(content)


def test_a_value_that_no_layout_writes_is_found_with_its_family_and_key(data: Path) -> None:
    shard = Shard(data / "apiary" / "0of1", f"apiary 1, {PARTITIONS} partitions", checked("apiary").families)
    write = shard.batch()
    write.put(b"\0\0" + bytes(8), bytes(17), shard.handle("follows"))
    shard.write(write)
    shard.close()
    (finding,) = check(data, sample=0).findings
    assert (finding.family, finding.key) == ("follows", "00" * 10)
    assert "17 bytes" in finding.what
    assert "rebuilt from the log" in finding.remedy


@pytest.mark.parametrize("service", VIEWS)
def test_a_view_that_has_applied_part_of_the_log_twice_or_not_at_all_is_found(
    made: World, data: Path, service: str
) -> None:
    """As after damage to its offsets, or to the log below them: the numbers of events applied betray it."""
    store = open_view(data, service)
    mine = [record for record in made.records if record.topic in checked(service).topics and len(record.batch)]
    shard = store.shard
    write = shard.batch()
    for key, value in list(shard.family("offsets").items()):
        write.put(
            key, value[:8] + (int.from_bytes(value[8:], "little") - 3).to_bytes(8, "little"), shard.handle("offsets")
        )
    shard.write(write)
    shard.close()
    assert mine
    assert f"{service}/0of1 : topic" in whats(check(data))


def test_answers_that_the_log_does_not_say_are_found_by_the_recount(made: World, data: Path) -> None:
    store = open_view(data, "realpin")
    store.apply([record for record in made.records if record.topic == Topic.USERS])  # again, past the guard
    store.shard.close()
    found = whats(check(data))
    assert "minutes of user" in found
    assert "actions of user" in found


def test_a_log_older_than_its_views_is_found(made: World, data: Path) -> None:
    shutil.rmtree(data / "roadrunner")
    shutil.copytree(made.older / "roadrunner", data / "roadrunner")
    found = whats(check(data))
    assert all(f"{service}/0of1" in found for service in VIEWS), found
    assert "and the log ends at" in found


@pytest.mark.parametrize("family", ["records", "accepted", "segments"])
def test_a_gap_in_the_log_is_found(data: Path, family: str) -> None:
    log = open_log(data)
    keys = list(log.database.family(family).keys())
    write = log.database.batch()
    write.delete(keys[len(keys) // 2], log.database.handle(family))
    log.database.write(write)
    log.close()
    assert f"roadrunner/0of1 {family}: " in whats(check(data, sample=0))


def test_records_and_their_ends_are_compared(data: Path) -> None:
    log = open_log(data)
    write, database = log.database.batch(), log.database
    key, value = next(iter(database.family("ends").items()))
    end = log_layout.end_of(key, value)
    write.put(key, log_layout.end_value(end._replace(events=end.events + 1)), database.handle("ends"))
    database.write(write)
    log.close()
    assert f"its records hold {end.events} events" in whats(check(data, sample=0))


def test_files_are_held_against_their_checksums(data: Path) -> None:
    path = data / "datasets" / "taste" / "1" / "part-1.sst"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert "part-1.sst: its checksum is" in whats(check(data, sample=0))


def test_a_dataset_whose_manifest_lost_a_bit_is_found(data: Path) -> None:
    path = data / "datasets" / "taste" / "1" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"rows": 60', b'"rows": 61'))
    assert "manifest.json: damaged: its checksum is" in whats(check(data, sample=0))


# --- the command ------------------------------------------------------------------------------------------------------


def command(data: Path, *options: str) -> Any:
    config = data.parent / "mesh.toml"
    config.write_text(MESH_TOML)
    return CliRunner().invoke(app, ["check", "--data", str(data), "--config", str(config), *options])


def test_the_command_says_that_nothing_is_damaged_with_or_without_a_mesh(data: Path) -> None:
    done = command(data, "--sample", "20")
    assert done.exit_code == 0, done.output
    assert "nothing is damaged" in done.output
    held = DataFolder(data)
    try:
        done = command(data, "--json", "--sample", "20", "--seed", "3")
    finally:
        held.release()
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["compared"] == 20


def test_the_command_names_what_is_damaged_and_what_to_do_and_ends_with_1(data: Path) -> None:
    path = files_of(data / "polaris" / "0of1")["family lists"][-1]
    content = bytearray(path.read_bytes())
    content[1] ^= 4
    path.write_bytes(content)
    done = command(data, "--json")
    assert done.exit_code == 1
    findings = json.loads(done.stdout)["findings"]
    assert {one["folder"] for one in findings} == {str(data / "polaris" / "0of1")}
    assert all("remove the folder of this shard of polaris" in one["remedy"] for one in findings)


def test_the_command_refuses_what_is_no_data_folder(tmp_path: Path) -> None:
    done = command(tmp_path)
    assert done.exit_code == 2
    assert "no data folder" in done.output
    assert not (tmp_path / "FORMAT").exists()


# --- the scrub of a running process -----------------------------------------------------------------------------------


def test_a_running_process_reports_what_its_scrub_finds(data: Path) -> None:
    store, spec = open_view(data, "realpin"), checked("realpin")
    shard, metrics = store.shard, Metrics("realpin", 0)
    looks = with_offsets("realpin", spec.check)
    scrubber = Scrubber(shard, ("offsets", *spec.families), lambda: Values(looks), "rebuild it", 0)
    scrubber.start(metrics)
    whole = scrubber.once()
    assert whole.ended_s
    assert not scrubber.problem()
    write = shard.batch()
    write.put(bytes(10), bytes(25), shard.handle("actions"))
    shard.write(write)
    assert scrubber.once().entries == whole.entries + 1
    assert "realpin: actions" in scrubber.problem()
    assert "25 bytes" in scrubber.problem()
    gauges = metrics.gauges()
    assert gauges["scrub_damaged_actions"] == 1
    assert gauges["scrub_damaged_minutes"] == 0
    assert gauges["scrubs"] == 2
    assert gauges["scrub_bytes"] > 0
    assert gauges["scrub_ended_seconds"] > 0
    scrubber.stop()
    shard.close()


def test_the_scrub_of_a_log_in_use_takes_growth_and_retention_for_no_damage(made: World, data: Path) -> None:
    log = open_log(data)
    reading = LogReading(log.database)
    half = list(log.database.family("records").items())
    for key, value in half[: len(half) // 2]:
        reading.value("records", key, value)
    log.append([made.accepted[0].replace(id=made.accepted[0].id + 10**9).to_proto()])
    log.sync()
    for key, value in half[len(half) // 2 :]:
        reading.value("records", key, value)
    assert reading.end() == []
    log.close()
