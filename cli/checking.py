"""Checks a data folder, whether or not a mesh runs on it: the log, every view, and every view against the log.

Nothing is changed. A folder that a mesh has open is looked at from beside it: RocksDB lets a second process read the
files and the write-ahead log of the first, as they are when it begins.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import aperture.check
import apiary.check
import counters.check
import pixie.check
import polaris.check
import realpin.check
import roadrunner.check
import rockstore.check
import scorpion.check
import smartfeed.check
from cli import ledger
from services.core import external
from services.core.clock import Clock
from services.core.columns import U64, ids
from services.core.errors import MeshError
from services.core.events import Batch
from services.core.settings import Sections
from services.core.topics import Topic
from services.log.protocol import End, Partition
from services.log.reading import EMBEDDED
from services.state.checked import Checked, Opening
from services.state.database import Database, Looking
from services.state.recount import Recount, boards_of, sample_of
from services.state.scrub import Finding, Report, Values, scrub
from services.state.shard import Shard, with_offsets
from services.state.stored import remedy

VIEWS: dict[str, Checked] = {
    "rockstore": rockstore.check.CHECKED,
    "apiary": apiary.check.CHECKED,
    "polaris": polaris.check.CHECKED,
    "aperture": aperture.check.CHECKED,
    "realpin": realpin.check.CHECKED,
    "counters": counters.check.CHECKED,
    "smartfeed": smartfeed.check.CHECKED,
}
LOG = "roadrunner"
LOG_FOLDER = Path(LOG) / "0of1"  # of the embedded log, in the data folder
#: Checks of the files beside databases, each answering (file, problem, remedy).
FILES = (
    external.damaged_files,
    ledger.damaged_files,
    pixie.check.damaged_files,
    scorpion.check.damaged_files,
    rockstore.check.damaged_files,
)
CACHE_MB, MEMTABLE_MB = 8, 16
PIECE = 200  # records applied together
SAMPLED = 40  # records of a partition from which ids are sampled
_LAYOUT = re.compile(r"(\d+)of(\d+)(\.replica\d+)?")  # as `Address.folder` has it
D = TypeVar("D", bound=Database)
Say = Callable[[str, int, int], None]  # the work, how much of it is done, of how much (0: not known)


@dataclass(frozen=True, slots=True)
class Folder:
    """One database of a data folder. number, of: which shard of how many."""

    service: str
    path: Path
    number: int
    of: int


@dataclass(slots=True)
class Checks:
    """The parts that were checked, and the findings."""

    findings: list[Finding]
    entries: int = 0
    bytes: int = 0
    compared: int = 0  # ids
    notes: tuple[str, ...] = ()


def folders_of(data: Path, service: str) -> Iterator[Folder]:
    """The databases of a service, of every layout and replica that there is."""
    root = data / service
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        found = _LAYOUT.fullmatch(path.name)
        if path.is_dir() and found:
            yield Folder(service, path, int(found[1]), int(found[2]))


class Checking:
    """One check of a data folder."""

    def __init__(self, sections: Sections, data: Path, running: bool, clock: Clock, say: Say) -> None:
        """running: a mesh has the folder open."""
        self._sections, self._data, self._running, self._say = sections, data, running, say
        now = clock()
        self._clock: Clock = lambda: now
        self._partitions = sections["mesh"].partitions
        self.found = Checks([])

    def run(self, sample: int, seed: int) -> Checks:
        """All of it. sample: ids for which each view is compared with the log; 0: none."""
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="check-", dir=self._data / "run")))
            log = self._opened_log(stack, scratch)
            if log is not None:
                self._scrub(log, roadrunner.check.FAMILIES, roadrunner.check.LogReading(log), LOG)
            views = [(view, folder) for view in VIEWS.values() for folder in folders_of(self._data, view.service)]
            opened = [(view, folder, self._opened_view(stack, scratch, view, folder)) for view, folder in views]
            present = [(view, folder, shard) for view, folder, shard in opened if shard is not None]
            for view, _, shard in present:
                self._scrub(
                    shard, ("offsets", *view.families), Values(with_offsets(view.service, view.check)), view.service
                )
            if log is not None and sample:
                self._recount(stack, scratch, log, present, sample, seed)
        self._files()
        return self.found

    # --- folders --------------------------------------------------------------------------------------------------

    def _looking(self, scratch: Path, name: str) -> Looking:
        return Looking(scratch / f"beside-{name}" if self._running else None)

    def _opened_log(self, stack: ExitStack, scratch: Path) -> Database | None:
        folder = self._data / LOG_FOLDER
        if self._sections["mesh"].log != EMBEDDED:
            self.found.notes += ("views were not compared with the log, which is on Kafka",)
            return None
        if not folder.is_dir():
            self._wrong(Finding(str(folder), "the log's folder is missing", remedy=remedy(LOG)))
            return None
        form = f"{roadrunner.check.FORMAT}, {self._partitions} partitions"

        def open_() -> Database:
            looking = self._looking(scratch, LOG)
            return Database(
                folder, form, roadrunner.check.FAMILIES, CACHE_MB, MEMTABLE_MB, roadrunner.check.IN_ORDER, looking
            )

        return self._open(stack, folder, LOG, open_)

    def _opened_view(self, stack: ExitStack, scratch: Path, view: Checked, folder: Folder) -> Shard | None:
        form = f"{view.form}, {self._partitions} partitions"
        looking = self._looking(scratch, f"{view.service}-{folder.path.name}")

        def open_() -> Shard:
            return Shard(folder.path, form, view.families, CACHE_MB, MEMTABLE_MB, looking)

        return self._open(stack, folder.path, view.service, open_)

    def _open(self, stack: ExitStack, path: Path, service: str, open_: Callable[[], D]) -> D | None:
        try:
            database = open_()
        except MeshError as error:
            self._wrong(Finding(str(path), f"can't be opened: {error}", remedy=remedy(service)))
            return None
        stack.callback(database.close)
        return database

    def _scrub(self, database: Database, families: tuple[str, ...], reading: Any, service: str) -> None:
        what = f"{service} {database.folder.name}"
        self._say(what, 0, 0)

        def pace(report: Report) -> bool:
            self._say(what, report.entries, 0)
            return True

        report = scrub(database, families, reading, remedy(service), pace)
        self._say(what, report.entries, report.entries)
        self.found.entries += report.entries
        self.found.bytes += report.bytes
        self.found.findings += report.findings

    def _wrong(self, finding: Finding) -> None:
        self.found.findings.append(finding)

    # --- every view against the log -------------------------------------------------------------------------------

    def _recount(
        self,
        stack: ExitStack,
        scratch: Path,
        log: Database,
        views: list[tuple[Checked, Folder, Shard]],
        sample: int,
        seed: int,
    ) -> None:
        try:
            ends = self._ends(log)
            if any(end.first for end in ends.values()):
                self.found.notes += ("views were not compared: retention has dropped the beginning of the log",)
                return
            chosen = self._sample(log, ends, sample, np.random.default_rng(seed))
            related = np.union1d(chosen, self._boards(log, ends, chosen))
        except MeshError as error:
            self.found.notes += (f"views were not compared, since the log can't be read: {error}",)
            return
        for view, folder, shard in views:
            self._say(f"{view.service} {folder.path.name} against the log", 0, 0)
            self._compare(stack, scratch, log, ends, (view, folder, shard), chosen, related)
        self.found.compared = len(chosen)

    def _compare(
        self,
        stack: ExitStack,
        scratch: Path,
        log: Database,
        ends: dict[Partition, End],
        of: tuple[Checked, Folder, Shard],
        chosen: U64,
        related: U64,
    ) -> None:
        view, folder, shard = of
        own = _own(folder, self._partitions)
        with _empty(scratch, view) as empty:
            try:
                recount = Recount(view, self._opening(view, shard, own), self._opening(view, empty, own), related)
                what, done = f"{view.service} {folder.path.name} against the log", 0
                for at, end in sorted(ends.items()):
                    stop = min(end.next, recount.wants(at))
                    for start in range(0, stop, PIECE):
                        recount.feed(list(roadrunner.check.records(log, *at, start, min(stop, start + PIECE))))
                        done += PIECE
                        self._say(what, done, 0)
                self._say(what, done, done)
                wrong = recount.end(chosen, ends)
            except MeshError as error:
                wrong = [f"can't be compared with the log: {error}"]
        for why in wrong:
            self._wrong(Finding(str(folder.path), why, remedy=remedy(view.service)))

    def _opening(self, view: Checked, shard: Shard, own: range) -> Opening:
        return Opening(shard, own, self._partitions, self._sections[view.service], self._data, self._clock)

    def _ends(self, log: Database) -> dict[Partition, End]:
        return {at: End(end.first, end.next, end.events) for at, end in roadrunner.check.ends_of(log).items()}

    def _sample(self, log: Database, ends: dict[Partition, End], size: int, chance: Any) -> U64:
        """Ids of some records of every partition, and of its last, where losses begin."""
        batches: list[Batch] = []
        for at, end in ends.items():
            offsets = chance.integers(0, end.next, SAMPLED).tolist() if end.next else []
            for offset in {*offsets, *range(max(0, end.next - 3), end.next)}:
                batches += [record.batch for record in roadrunner.check.records(log, *at, offset, offset + 1)]
        return sample_of(batches, size, chance)

    def _boards(self, log: Database, ends: dict[Partition, End], chosen: U64) -> U64:
        found = [ids([])]
        for at, end in ends.items():
            if at[0] == Topic.USERS:
                found += [boards_of(record.batch, chosen) for record in roadrunner.check.records(log, *at, 0, end.next)]
        return np.unique(np.concatenate(found))

    # --- files ----------------------------------------------------------------------------------------------------

    def _files(self) -> None:
        for damaged_files in FILES:
            for file, why, todo in damaged_files(self._data, lambda what: self._say(what, 0, 0)):
                folder, _, name = str(file).rpartition("/")
                self._wrong(Finding(folder, why, file=name, remedy=todo))


def _own(folder: Folder, partitions: int) -> range:
    return range(partitions * folder.number // folder.of, partitions * (folder.number + 1) // folder.of)


@contextmanager
def _empty(scratch: Path, view: Checked) -> Iterator[Shard]:
    folder = scratch / view.service / "recount"
    shard = Shard(folder, view.form, view.families, CACHE_MB, MEMTABLE_MB)
    try:
        yield shard
    finally:
        shard.close()
        shutil.rmtree(folder)
