"""Splitting and counting by provenance: every stage twice, interleaved at random, processes dying anywhere; against a recount."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from roadrunner.accepting import Shape
from roadrunner.counting import Counting
from roadrunner.splitting import Splitting
from services.core.errors import NotReady, Unavailable
from services.core.events import Batch
from services.core.topics import INGEST, Topic
from services.log.memory import MemoryLog
from services.log.progress import Progress
from services.log.protocol import Draft, End, Noted, Partition, Record
from tests.damage.world import EVERY_ID, VIEWS, checked, happened, open_view
from tests.roadrunner.counting import Slow, cells_of
from tests.roadrunner.stages import DeadError, Process, World, expected, mixed_up, plain
from tests.services.batches import Row, rows_of

Kind = type[Splitting | Counting]
PARTITIONS = 2
SHAPE = Shape(PARTITIONS, 2)
HOUR_MS = 3_600_000
SLICE = 30


def published(world: World, chance: random.Random, events: int) -> list[Batch]:
    """Batches to publish, some of them again, soon or after a day."""
    whole = happened(events, chance.randrange(1000))
    batches = [whole.slice(start, start + SLICE) for start in range(0, len(whole), SLICE)]
    return [batch for batch in batches for _ in range(1 + (chance.random() < 0.4))]


class Crew:
    """Processes of both stages, of which each may stand where another does, and dies now and then."""

    def __init__(
        self,
        folder: Path,
        world: World,
        chance: random.Random,
        crash: Callable[[str], None],
        follows: bool = False,
    ) -> None:
        self.follows = follows
        self.folder, self.world, self.chance, self.crash = folder, world, chance, crash
        self.processes: dict[tuple[Kind, int], Process] = {}

    def of(self, kind: Kind, number: int) -> Process:
        if (kind, number) not in self.processes:
            folder = self.folder / f"{kind.__name__}-{number}"
            self.processes[kind, number] = Process(self.world, folder, kind, self.crash, self.follows)
        return self.processes[kind, number]

    def die(self, kind: Kind, number: int) -> None:
        self.processes.pop((kind, number)).close()

    def place(self, kind: Kind) -> None:
        """Partitions move; who had them is not told, and goes on."""
        for p in range(self.world.partitions_of(kind.topic)):
            process = self.of(kind, self.chance.randrange(2))
            process.place(
                [*(q for q in process.own if self.world.owners[process.stage.name, q] is process and q != p), p]
            )

    def step(self, kind: Kind, number: int) -> int:
        process = self.of(kind, number)
        if self.chance.random() < 0.3:
            process.look()
        try:
            return process.step(lambda: self.chance.randrange(1, 6))
        except DeadError:
            self.die(kind, number)
        except Unavailable:  # it is told that it is no member any more
            process.place(())
        return 0

    def finish(self, kind: Kind) -> None:
        """One process does what is left, and nobody dies."""
        self.crash = lambda where: None
        for of, number in list(self.processes):
            if of is kind:
                self.die(of, number)
        last = self.of(kind, 0)
        last.place(range(self.world.partitions_of(kind.topic)))
        while last.step(lambda: 10**9):
            pass

    def close(self) -> None:
        for key in list(self.processes):
            self.die(*key)


def applied(world: World) -> dict[Partition, list[Record]]:
    """The records of each partition as a view applies them: repeats without their events."""
    found: dict[Partition, list[Record]] = {}
    for topic in Topic:
        for p in range(PARTITIONS):
            progress = Progress()
            records = (progress.pass_over(record) for record in world.records(topic, p))
            found[topic, p] = [record for record in records if record is not None]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_every_event_counts_once_whoever_dies_when(tmp_path: Path, seed: int) -> None:
    chance, crash, died = mixed_up(seed, 0.1)
    world = World.of(Shape(PARTITIONS, 1 + seed % 3 // 2))
    crew = Crew(tmp_path, world, chance, crash, follows=seed % 2 == 1)
    kinds: tuple[Kind, ...] = (Splitting, Counting)
    for batch in published(world, chance, 390):
        world.publish(batch)
        world.now_ms += chance.choice((1, 1, 1, HOUR_MS, 9 * HOUR_MS))
        for _ in range(3):
            kind = chance.choice(kinds)
            if chance.random() < 0.2:
                crew.place(kind)
            crew.step(kind, chance.randrange(2))
    for kind in kinds:
        crew.finish(kind)
    crew.close()
    assert died, "else nothing was tried"
    check(world)
    compare_views(tmp_path / "views", world)


def ends_of(world: World) -> dict[Partition, End]:
    """What lies in each partition."""
    found = {
        (int(topic), p): world.records(topic, p)
        for topic in (INGEST, *Topic)
        for p in range(world.partitions_of(topic))
    }
    return {at: End(0, records[-1].offset + 1 if records else 0, None) for at, records in found.items()}


def check(world: World, twice: bool = True) -> None:
    """What was applied is what a recount says, of each source in order, and the counts are those of the objects."""
    wanted, slow, cells = expected(world), Slow(), list[Batch]()
    repeated = 0
    for at, records in applied(world).items():
        by_source = defaultdict[int, list[Row]](list)
        for record in records:
            assert record.provenance is not None
            repeated += record.repeated
            by_source[record.provenance.partition] += map(plain, rows_of(record.batch))
            if at[0] == Topic.OBJECTS:
                slow.add(record.batch, at[1])
            elif at[0] == Topic.COUNTS:
                cells.append(record.batch)
        if at[0] != Topic.COUNTS:
            assert {source: rows for source, rows in by_source.items() if rows} == wanted.get(at, {}), at
    assert bool(repeated) >= twice, "else nothing was made twice"
    assert cells_of(cells) == +slow.cells


def compare_views(folder: Path, world: World) -> None:
    """Views of this log answer as those of one in which every record lies once."""
    once = MemoryLog(PARTITIONS)
    writer = once.writer()
    for records in applied(world).values():
        for r in records:
            writer.append([Draft(r.topic, r.partition, r.batch)], 1)
    for service in VIEWS:
        answers = [answered(folder / name, service, log) for name, log in (("twice", world.log), ("once", once))]
        assert answers[0] == answers[1], service


def answered(folder: Path, service: str, log: MemoryLog) -> dict[str, str]:
    """The answers of a view that has followed the whole log."""
    store = open_view(folder, service)
    records = [r for topic in checked(service).topics for p in range(PARTITIONS) for r in log._records[topic, p]]
    for start in range(0, len(records), 50):
        store.apply(store.shard.fresh(records[start : start + 50]))
    found = checked(service).answers(store, EVERY_ID)
    store.shard.close()
    return found


def test_a_process_without_state_writes_nothing_of_what_was_done(tmp_path: Path) -> None:
    world = World.of(SHAPE)
    crew = Crew(tmp_path, world, random.Random(1), lambda where: None)
    for start in range(0, 120, SLICE):
        world.publish(happened(120, 5).slice(start, start + SLICE))
    crew.finish(Splitting)
    written = {at: len(records) for at, records in applied(world).items()}
    another = Process(world, tmp_path / "another", Splitting, lambda where: None)
    another.place(range(SHAPE.ingest))
    while another.step(lambda: 7):
        pass
    assert {at: len(records) for at, records in applied(world).items()} == written
    world.publish(happened(120, 5).slice(0, SLICE))  # which it knows, though it has split none of it
    while another.step(lambda: 7):
        pass
    assert sum(len(r.batch) + r.repeated for records in applied(world).values() for r in records) == sum(
        len(r.batch) for records in applied(world).values() for r in records
    )
    another.close()
    crew.close()
    wanted = expected(world)
    assert {at for at, records in applied(world).items() if any(len(r.batch) for r in records)} == wanted.keys()


def test_where_duplicates_leave_nothing_a_marker_goes(tmp_path: Path) -> None:
    world = World.of(SHAPE)
    crew = Crew(tmp_path, world, random.Random(1), lambda where: None)
    batch = happened(20, 5)
    for _ in range(2):
        world.publish(batch)
        crew.finish(Splitting)
    crew.close()
    for p, records in world.ingest.items():
        first, again = (record.offset for record in records)
        places: dict[int, set[Partition]] = {first: set(), again: set()}
        for at, found in applied(world).items():
            for record in found:
                of = record.provenance
                assert of is not None
                if of.source == (INGEST, p):
                    places[of.offset].add(at)
                    assert of.offset == first or not len(record.batch)
        assert places[first] == places[again] != set()


def test_notes_that_are_gone_stop_a_stage_without_state(tmp_path: Path) -> None:
    from roadrunner.stage import check_known

    world = World.of(SHAPE)
    process = Process(world, tmp_path, Counting, lambda where: None)
    noted = dict.fromkeys(range(PARTITIONS), Noted())
    objects, counts = (
        {(int(topic), p): End(0, 9, None) for p in range(PARTITIONS)} for topic in (Topic.OBJECTS, Topic.COUNTS)
    )
    nothing = {at: End(0, 0, None) for at in counts}
    check_known(process.stage, noted, objects | nothing)
    with pytest.raises(
        NotReady, match="aggregator: how far it had come in partitions 0, 1 is noted neither in its group"
    ):
        check_known(process.stage, noted, objects | counts)
    check_known(process.stage, {**noted, 0: Noted(5, 9)}, objects | counts)
    process.close()


def test_partitions_that_move_before_the_first_note_are_begun_by_whoever_has_them(tmp_path: Path) -> None:
    """Two processes start together; one has written of its partition before the other has noted anything of its own."""
    from roadrunner.stage import check_known

    world, chance = World.of(SHAPE), random.Random(3)
    crew = Crew(tmp_path, world, chance, lambda where: None, follows=True)
    for batch in published(world, chance, 120):
        world.publish(batch)
    crew.finish(Splitting)
    first, second = (crew.of(Counting, number) for number in (0, 1))
    first.place(range(PARTITIONS))
    first.run.step(world.records(Topic.OBJECTS, 0)[:5])
    assert set(world.noted["aggregator"]) == {0}, "it had time for a piece of one partition alone"
    first.place([0])
    second.place([1])
    noted = {p: world.noted["aggregator"].get(p, Noted()) for p in range(PARTITIONS)}
    check_known(second.stage, noted, ends_of(world))
    for process in (first, second) * 3:
        process.look()
        while process.step(lambda: 7):
            process.look()
    assert all(of.next or of.until for of in world.noted["aggregator"].values())
    crew.close()
    check(world, twice=False)


def test_pieces_that_were_begun_end_where_they_were_to_end(tmp_path: Path) -> None:
    world = World.of(SHAPE)
    crew = Crew(tmp_path, world, random.Random(1), lambda where: None)
    for start in range(0, 300, 10):
        world.publish(happened(300, 5).slice(start, start + 10))
    crew.finish(Splitting)
    crew.close()
    dying = Process(world, tmp_path / "dying", Counting, die_at("written"))
    dying.place(range(PARTITIONS))
    with pytest.raises(DeadError):
        dying.step(lambda: 3)
    dying.close()
    noted = world.noted["aggregator"]
    another = Process(world, tmp_path / "another", Counting, lambda where: None)
    another.place(range(PARTITIONS))
    while another.step(lambda: 5):
        pass
    another.close()
    assert all(noted[p].next >= 0 for p in noted)
    repeats = Counter(record.repeated > 0 for records in applied(world).values() for record in records)
    assert repeats[True], "what the first had written came again, and was dropped"
    check(world)


def die_at(moment: str) -> Callable[[str], None]:
    def crash(where: str) -> None:
        if where == moment:
            raise DeadError(where)

    return crash
