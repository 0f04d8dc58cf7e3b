"""The log when its files are damaged: opened whole, tolerating a torn tail and nothing else, or refused by name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from roadrunner import layout
from roadrunner.check import LogReading
from roadrunner.store import EventLog
from services.core.errors import Damaged
from services.core.topics import Topic
from tests.damaging import cut, flip
from tests.roadrunner.running import append, open_log
from tests.services.batches import follows

REMEDY = "restore the log from a backup: docs/operations.md, Damage"


def filled(folder: Path, first: int = 1, batches: int = 20) -> EventLog:
    log = open_log(folder)
    for i in range(batches):
        append(log, follows(10, first_id=first + 10 * i, user=i + 1))
        log.sync()
    return log


def events_of(log: EventLog) -> int:
    return sum(end.events or 0 for (topic, _), end in log.ends().items() if topic == Topic.USERS)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """The folder of a log in whose families everything is in files."""
    log = filled(tmp_path)
    for family in layout.FAMILIES:
        log._db.family(family).raw.flush()
    log.close()
    return tmp_path


def family_file(folder: Path, family: str) -> Path:
    """A sorted file of a column family, whose name is among its properties."""
    of = b"name" + family.encode()
    return next(path for path in sorted(folder.glob("*.sst")) if of in path.read_bytes())


@pytest.mark.parametrize("family", ["ends", "accepted"])
def test_one_bit_of_what_a_start_reads_refuses_the_log_and_leaves_it_as_it_is(closed: Path, family: str) -> None:
    """One bit of `ends`: it was ready with no events, and the next write replaced record 0 of each partition."""
    folder = closed / "log"
    flip(family_file(folder, family), 10)
    for _ in range(2):  # not only the first time
        with pytest.raises(Damaged, match=f"{folder}: is damaged: column family {family}: Corruption.*{REMEDY}"):
            open_log(closed)


def test_a_bit_of_a_record_is_found_when_it_is_read_and_the_log_says_so(closed: Path) -> None:
    folder = closed / "log"
    path = family_file(folder, "records")
    flip(path, path.stat().st_size // 4)
    with pytest.raises(Damaged, match="column family records"):  # the first and the last are read as it is opened
        log = open_log(closed)
        try:
            everything = {(int(Topic.USERS), partition): 0 for partition in range(3)}
            while records := log.read(everything):
                for record in records:
                    everything[record.topic, record.partition] = record.offset + 1
        finally:
            assert "column family records" in log.damage
            log.close()


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("ends", "records 0 to .* are there, and `ends` says 0 to 0"),
        ("records", "records .* are there, and `ends` says 0 to"),
    ],
)
def test_rows_that_do_not_fit_together_are_damage(closed: Path, family: str, said: str) -> None:
    log = open_log(closed)
    batch = log._db.batch()
    batch.delete_range(b"", b"\xff" * 12, log._db.handle(family))
    log._db.write(batch)
    log.close()
    with pytest.raises(Damaged, match=said):
        open_log(closed)


def killed(folder: Path) -> Path:
    """A copy of the folder of a log as a kill leaves it: its last events are in the write-ahead file alone."""
    log = filled(folder)
    shutil.copytree(folder / "log", folder / "killed" / "log")
    log.close()
    return folder / "killed"


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit in the middle": lambda path: flip(path, path.stat().st_size // 2),
    "a bit of the last record": lambda path: flip(path, -3),
    "a bit of a length": lambda path: flip(path, 4),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_write_ahead_file_refuses_the_log(tmp_path: Path, damage: str) -> None:
    folder = killed(tmp_path)
    DAMAGES[damage](max((folder / "log").glob("*.log"), key=lambda path: path.stat().st_size))
    with pytest.raises(Damaged, match=f"is damaged: Corruption.*{REMEDY}"):
        open_log(folder)


def test_a_torn_tail_that_was_never_acknowledged_is_tolerated(tmp_path: Path) -> None:
    folder = killed(tmp_path)
    with max((folder / "log").glob("*.log"), key=lambda path: path.stat().st_size).open("ab") as file:
        file.write(b"crc." + (1_000).to_bytes(2, "little") + b"\x01" + b"x" * 300)
    log = open_log(folder)
    assert events_of(log) == 200
    log.close()


def test_a_log_that_was_cut_below_what_it_had_acknowledged_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.state.database.SEAL_EVERY_S", -1.0)
    folder = killed(tmp_path)
    path = max((folder / "log").glob("*.log"), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    cut(path, path.stat().st_size // 2)
    before = {file.name: file.read_bytes() for file in (folder / "log").iterdir()}
    for _ in range(2):
        with pytest.raises(Damaged, match=f"its last write is number .* was on the disk; {REMEDY}"):
            open_log(folder)
        assert {file.name: file.read_bytes() for file in (folder / "log").iterdir()} == before
    path.write_bytes(whole)  # the folder was left as it was, so that the file alone mends it
    log = open_log(folder)
    assert events_of(log) == 200
    log.close()


@pytest.mark.parametrize("ends_there", [True, False])
def test_only_a_partition_whose_end_is_missing_has_records_and_no_end(tmp_path: Path, ends_there: bool) -> None:
    """Not one that has its first record while the log is being read."""
    log = open_log(tmp_path)
    reading = LogReading(log._db)
    append(log, follows(10, first_id=1, user=1))
    log.sync()
    if not ends_there:
        batch = log._db.batch()
        batch.delete_range(b"", b"\xff" * 12, log._db.handle("ends"))
        log._db.write(batch)
    for key, value in log._db.family("records").items():
        reading.value("records", key, value)
    found = reading.end()
    log.close()
    assert [said.endswith("has records and no end") for _, said in found] == ([] if ends_there else [True] * len(found))
    assert bool(found) != ends_there
