"""Processes that split and count, on logs in memory, as Kafka has them: groups that place partitions, deaths at any moment."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protos import events_pb2
from roadrunner import counting, split_layout
from roadrunner.accepting import Shape, accepted
from roadrunner.counting import Counting
from roadrunner.splitting import Part, Splitting
from roadrunner.stage import Run, Stage
from services.core.boards import Board, after
from services.core.clock import DAY_MS
from services.core.errors import Unavailable
from services.core.events import Action, Batch
from services.core.topics import INGEST, Topic, split
from services.log.history import new_number
from services.log.memory import MemoryLog
from services.log.protocol import Draft, Noted, Partition, Record
from services.state.shard import Shard
from tests.services.batches import Row, rows_of

START_MS = 1_750_000_000_000


class DeadError(Exception):
    """A process died here."""


@dataclass
class World:
    """The logs, and what is noted in the groups."""

    shape: Shape
    log: MemoryLog
    ingest: dict[int, list[Record]] = field(default_factory=lambda: defaultdict(list))
    noted: dict[str, dict[int, Noted]] = field(default_factory=lambda: defaultdict(dict))
    owners: dict[tuple[str, int], object] = field(default_factory=dict)
    now_ms: int = START_MS

    @staticmethod
    def of(shape: Shape) -> "World":
        return World(shape, MemoryLog(shape.partitions, gaps=3))

    @property
    def partitions(self) -> int:
        """Those of every topic but `ingest`."""
        return self.shape.partitions

    def partitions_of(self, topic: int) -> int:
        return self.shape.ingest if topic == INGEST else self.shape.partitions

    def publish(self, batch: Batch) -> None:
        """As the ingest API appends it; an append with an unknown outcome may be there twice."""
        for part in accepted(batch.to_proto(), self.shape):
            own = self.ingest[part.partition]
            offset = own[-1].offset + 1 + len(own) % 3 if own else 0
            content = Batch.of(part.batch)
            # An ingest process of many, each of its own number.
            own.append(Record(_ingest(), part.partition, offset, self.now_ms, content, None, new_number(), 0))

    def records(self, topic: int, partition: int) -> list[Record]:
        """All that lie in a partition."""
        if topic == INGEST:
            return self.ingest[partition]
        return self.log._records[topic, partition]


def _ingest() -> Topic:
    topic: object = INGEST
    return topic  # type: ignore[return-value]


class Process:
    """One process of a stage: its folder outlives it, or does not."""

    def __init__(
        self,
        world: World,
        folder: Path,
        make: type[Splitting | Counting],
        crash: Callable[[str], None],
        follows: bool = False,
    ) -> None:
        """crash: is called with the name of each moment at which a process may die; raises Dead if it does. follows: it goes
        through the partitions of others too, as real processes do; else it begins with them as they are placed.
        """
        self._follows = follows
        self.world, self._crash = world, crash
        families = split_layout.FAMILIES if make is Splitting else counting.FAMILIES
        self.shard = Shard(folder, "test 1", families, 1, 1)
        self.stage: Stage = made(make, self.shard, world.shape)
        self._writer = world.log.writer()
        self.run = Run(self.stage, self._send, self._commit)
        self._keep = self.stage.keep
        self.stage.keep = self._kept  # type: ignore[method-assign]
        self.at: dict[int, int] = {}
        self.own = frozenset[int]()

    def place(self, partitions: Sequence[int]) -> None:
        """The group gives it these; whoever had them can note nothing any more."""
        name = self.stage.name
        for p in partitions:
            self.world.owners[name, p] = self
        noted = {p: self.world.noted[name].get(p, Noted()) for p in range(self.world.partitions_of(self.stage.topic))}
        others = {p: of for p, of in noted.items() if self._follows and p not in partitions}
        self.at = dict(self.run.place({p: noted[p] for p in partitions}, others))
        self.own = frozenset(partitions)

    def look(self) -> None:
        """At what the others have noted."""
        self.run.follow(self.world.noted[self.stage.name])

    def step(self, most: Callable[[], int]) -> int:
        """Read some of what comes next in each of its partitions, and work on it; how many records were read."""
        some: list[Record] = []
        for p, at in self.at.items():
            left = [record for record in self.world.records(self.stage.topic, p) if record.offset >= at]
            some += left[: most()]
            if left[:1] and some and some[-1].partition == p:
                self.at[p] = some[-1].offset + 1
        done = self.run.step(some)
        return len(some) + done

    def _send(self, parts: Sequence[Part]) -> None:
        """Partition by partition, as brokers acknowledge them; a process that dies leaves a beginning of each there."""
        by_partition: dict[Partition, list[Part]] = defaultdict(list)
        for part in parts:
            by_partition[part.topic, part.partition].append(part)
        for own in by_partition.values():
            for part in own:
                self._crash("write")
                batch = Batch.of(events_pb2.Batch.FromString(part.value))
                assert len(batch) == part.events
                self._writer.append([Draft(Topic(part.topic), part.partition, batch, part.provenance)], 1)
        self._crash("written")

    def _kept(self, made: object) -> None:
        self._crash("keep")
        self._keep(made)  # type: ignore[arg-type]
        self._crash("kept")

    def _commit(self, noted: Mapping[int, Noted]) -> None:
        self._crash("note")
        if any(self.world.owners[self.stage.name, p] is not self for p in noted):
            raise Unavailable("not a member any more")
        self.world.noted[self.stage.name] |= noted
        self._crash("noted")

    def close(self) -> None:
        self.shard.close()


def made(kind: type[Splitting | Counting], shard: Shard, shape: Shape) -> Splitting | Counting:
    """A stage of a kind."""
    return Splitting(shard, shape) if kind is Splitting else Counting(shard, shape.partitions)


def expected(world: World) -> dict[Partition, dict[int, list[Row]]]:
    """By topic and partition, then by ingest partition: what views must have applied, row by row, in plain Python."""
    found: dict[Partition, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    boards: dict[int, Board] = defaultdict(Board)
    for source, records in sorted(world.ingest.items()):
        seen: dict[tuple[int, int], int] = {}
        for record in records:
            for i, row in enumerate(rows_of(record.batch)):
                key = (row["id"], row["writer"] or row["user"])
                known = key in seen and seen[key] // 60_000 >= (record.accepted_ms - DAY_MS) // 60_000
                seen[key] = record.accepted_ms
                if known:
                    continue
                holds = True
                if row["action"] in (Action.CREATE_BOARD, Action.DELETE_BOARD):
                    state = after(boards[row["board"]], row["action"], row["user"], row["at_ms"])
                    holds, boards[row["board"]] = state is not None, state or boards[row["board"]]
                for part in split(record.batch.slice(i, i + 1), world.partitions):
                    if holds or part.topic == Topic.OBJECTS:
                        found[int(part.topic), part.partition][source] += map(plain, rows_of(part.batch))
    return {at: dict(of) for at, of in found.items()}


def plain(row: Row) -> Row:
    """A row without what a splitter may fill in one way or another."""
    return row | {"quality": None} if row["action"] == Action.SAVE else row


def mixed_up(seed: int, deaths: float) -> tuple[random.Random, Callable[[str], None], Counter[str]]:
    """A source of chance, what kills a process with it now and then, and where it did."""
    chance, died = random.Random(seed), Counter[str]()

    def crash(where: str) -> None:
        if chance.random() < deaths / (20 if where == "write" else 1):
            died[where] += 1
            raise DeadError(where)

    return chance, crash, died
