"""A shard takes records and answers questions of its own partitions alone, once it is connected to the log."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.columns import ids
from services.core.errors import InvalidArgument, MeshError
from services.core.topics import Topic, partition_of_one
from services.log.history import Epoch, LogHistory
from services.log.protocol import Record
from services.state.shard import Shard
from tests.services.batches import follows

PARTITIONS = 4
HISTORY = LogHistory(b"0123456789abcdef", [Epoch(1, {})])
MINE, FOREIGN = (
    [key for key in range(1, 60) if (partition_of_one(key, PARTITIONS) in (1, 2)) == mine] for mine in (True, False)
)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    opened = Shard(tmp_path / "seen" / "1of2", "test 1", ("data",), cache_mb=1, memtable_mb=1)
    opened.connect(HISTORY, {}, [(int(Topic.USERS), partition) for partition in (1, 2)])
    yield opened
    opened.close()


def record(partition: int, topic: Topic = Topic.USERS) -> Record:
    return Record(topic, partition, 0, 0, follows(1))


@pytest.mark.parametrize(
    ("foreign", "named"),
    [
        (record(3), "topic 0 partition 3"),
        (record(0), "topic 0 partition 0"),
        (record(1, Topic.FEEDS), "topic 3 partition 1"),
    ],
)
def test_a_record_of_another_partition_is_refused_and_nothing_is_written(
    shard: Shard, foreign: Record, named: str
) -> None:
    refusal = rf"seen/1of2: a record of {named} came, .* does not own; it owns topics 0 of partitions 1 to 2"
    with pytest.raises(MeshError, match=refusal):
        shard.fresh([record(1), foreign])
    batch = shard.batch()
    batch.put(b"k", b"v", shard.handle("data"))
    with pytest.raises(MeshError, match=refusal):
        shard.commit(batch, [record(1), foreign])
    assert list(shard.family("data").items()) == []
    assert shard.applied() == {}
    shard.commit(shard.batch(), shard.fresh([record(1), record(2)]))
    assert shard.applied_events() == 2


def test_a_question_about_a_key_of_another_shard_is_refused(shard: Shard) -> None:
    for key in MINE:
        assert shard.partition_of(key, PARTITIONS) == partition_of_one(key, PARTITIONS)
    assert set(shard.partitions_of(ids(MINE), PARTITIONS).tolist()) == {1, 2}
    assert len(shard.partitions_of(ids([]), PARTITIONS)) == 0
    assert {partition_of_one(key, PARTITIONS) for key in FOREIGN} == {0, 3}, "below its own, and above"
    for key in FOREIGN:
        refusal = (
            rf"^key {key} is in partition [03], which shard seen/1of2 does not own; it owns topics 0 of partitions 1"
        )
        with pytest.raises(InvalidArgument, match=refusal):
            shard.partition_of(key, PARTITIONS)
        with pytest.raises(InvalidArgument, match=refusal):
            shard.partitions_of(ids([*MINE, key, *FOREIGN]), PARTITIONS)


def test_before_it_is_connected_it_knows_of_no_partitions_and_refuses_none(tmp_path: Path) -> None:
    opened = Shard(tmp_path / "1of2", "test 1", ("data",), cache_mb=1, memtable_mb=1)
    opened.commit(opened.batch(), opened.fresh([record(3)]))
    assert opened.partition_of(FOREIGN[0], PARTITIONS) == opened.partitions_of(ids(FOREIGN[:1]), PARTITIONS)[0]
    opened.close()
