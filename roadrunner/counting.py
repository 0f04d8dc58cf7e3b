"""Makes the records of COUNTS of those of OBJECTS, on a log where others may do so too. Needs no log.

The records of a partition that are summed as one are named before (roadrunner/stage.py), so that whoever sums them again sums
the same; the last one's offset is the provenance of the sums.
"""

from collections.abc import Sequence

from roadrunner import layout
from roadrunner.aggregation import Aggregation
from roadrunner.splitting import Made, Part
from roadrunner.staged import Staged
from services.core.topics import Topic
from services.log.protocol import LAST, Provenance, Record
from services.state.shard import Shard

FORMAT = "aggregator 1"
FAMILIES = ("interests", "voices")
RECORD_ROWS = 40_000  # of a record of COUNTS: about a megabyte
check = layout.check


class Counting:
    """A stage (roadrunner/stage.py): of OBJECTS, to COUNTS. One thread uses it."""

    name, topic = "aggregator", int(Topic.OBJECTS)
    writes: tuple[int, ...] = (int(Topic.COUNTS),)

    def __init__(self, shard: Shard, partitions: int) -> None:
        """shard: with FAMILIES."""
        self.shard, self._partitions = shard, partitions

    def make(self, records: Sequence[Record], parts: bool = True) -> Made:
        """Of records in order within a partition, none twice; those of a partition are summed as one. parts: whether any are
        wanted, beside the state.
        """
        staged, found = Staged(self.shard), list[Part]()
        aggregation = Aggregation(staged.family("interests"), staged.family("voices"))
        for partition in dict.fromkeys(record.partition for record in records):
            own = [record for record in records if record.partition == partition]
            of = [(partition, record.message) for record in own if record.events]
            all_sums = list(aggregation.sums(of, self._partitions)) if of else []
            made = [part for sums in all_sums for part in sums.records(RECORD_ROWS)] if parts else []
            last = {at: i for i, (at, _, _) in enumerate(made)}
            found += [
                Part(
                    int(Topic.COUNTS),
                    at,
                    events,
                    value,
                    Provenance(self.topic, partition, own[-1].offset, i | (LAST if last[at] == i else 0)),
                )
                for i, (at, events, value) in enumerate(made)
            ]
        return Made(found, list(records), staged)

    def keep(self, made: Made) -> None:
        """Write how the tables have changed, and how far it has come."""
        batch = self.shard.batch()
        made.staged.write(batch)
        self.shard.commit(batch, made.records)

    def forget(self) -> None:
        """It remembers nothing that was not kept."""
