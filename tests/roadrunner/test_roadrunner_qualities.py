"""A save states its pin's quality as it is accepted, whichever caller wrote it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import events_pb2
from roadrunner import qualities
from roadrunner.store import EventLog
from services.core.events import Action, Batch, events
from services.core.topics import Topic
from tests.roadrunner.running import append, open_log

A = Action
NOW = 1_750_000_000_000
NAN = math.nan


def clock() -> int:
    return NOW


def said(*rows: tuple[Action, int, float, int], first_id: int = 1) -> Batch:
    """Rows of action, pin, quality and date, of user 1 and board 9."""
    action, pin, quality, at_ms = zip(*rows, strict=True)
    ids = range(first_id, first_id + len(rows))
    return events(len(rows), action=action, user=1, pin=pin, board=9, quality=quality, at_ms=at_ms, id=ids)


def saved(log: EventLog, topic: Topic = Topic.SOURCES) -> list[tuple[int, float]]:
    """Pin and quality of each save that a topic has, in order within a partition."""
    log.sync()
    positions, found = {at: end.first for at, end in log.ends().items() if at[0] == topic}, []
    while records := log.read(positions):
        for record in records:
            positions[record.topic, record.partition] = record.offset + 1
            batch = Batch.of(events_pb2.Batch.FromString(record.batch))
            rows = zip(batch.action.tolist(), batch.pin.tolist(), batch.quality.tolist(), strict=True)
            found += [(pin, round(quality, 4)) for action, pin, quality in rows if action == A.SAVE]
    return found


def test_a_save_takes_the_quality_that_was_stated_last_and_keeps_its_own(tmp_path: Path) -> None:
    log = open_log(tmp_path, clock)
    append(log, said((A.CREATE_PIN, 1, 0.25, NOW), (A.CREATE_PIN, 2, NAN, NOW)))
    append(log, said((A.SAVE, 1, NAN, NOW), (A.SAVE, 1, 0.75, NOW), first_id=10))
    append(
        log, said((A.UPDATE_PIN, 1, 0.5, NOW - 1), (A.SAVE, 1, NAN, NOW), first_id=20)
    )  # stated earlier: passed over
    append(log, said((A.SAVE, 1, NAN, NOW), (A.UPDATE_PIN, 1, 0.125, NOW), first_id=30))  # of one group
    append(log, said((A.UPDATE_PIN, 1, NAN, NOW + 9), (A.SAVE, 1, NAN, NOW), first_id=40))  # states none
    assert saved(log) == [(1, 0.25), (1, 0.75), (1, 0.25), (1, 0.125), (1, 0.125)]
    assert saved(log, Topic.USERS) == saved(log)
    append(log, said((A.SAVE, 2, NAN, NOW), first_id=50))
    assert np.isnan([quality for pin, quality in saved(log) if pin == 2]).all()
    log.close()
    log = open_log(tmp_path, clock)
    append(log, said((A.SAVE, 1, NAN, NOW), first_id=60))
    assert saved(log)[-1] == (1, 0.125)
    log.close()


def test_what_is_dropped_as_a_duplicate_states_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path, clock)
    append(log, said((A.CREATE_PIN, 1, 0.25, NOW)))
    append(log, said((A.CREATE_PIN, 1, 0.5, NOW)))  # the same id
    append(log, said((A.SAVE, 1, NAN, NOW), first_id=10))
    assert saved(log) == [(1, 0.25)]
    log.close()


def forget(log: EventLog) -> None:
    """Leave the log as it was before there was a table."""
    write, handle = log.database.batch(), log.database.handle("qualities")
    for key in list(log.database.family("qualities").keys()):
        write.delete(key, handle)
    write.delete(qualities.NOTE)
    log.database.write(write)


row = st.tuples(
    st.sampled_from([A.CREATE_PIN, A.UPDATE_PIN]), st.integers(1, 3), st.sampled_from([NAN, 0.25, 0.5, 1.0]),
    st.integers(NOW, NOW + 3),
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(row, min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_log_of_before_there_was_a_table_is_read_once(tmp_path_factory: Any, drawn: list[list[Any]]) -> None:
    folder, known = tmp_path_factory.mktemp("log"), dict[int, tuple[int, float]]()
    log = open_log(folder, clock)
    for i, rows in enumerate(drawn):
        append(log, said(*rows, first_id=1 + 10 * i))
        for _, pin, quality, at_ms in rows:
            if not math.isnan(quality) and at_ms >= known.get(pin, (0, 0.0))[0]:
                known[pin] = at_ms, quality
    log.sync()
    forget(log)
    log.close()
    log = open_log(folder, clock)
    append(log, said(*((A.SAVE, pin, NAN, NOW) for pin in (1, 2, 3)), first_id=900))
    found = dict(saved(log))
    log.close()
    for pin in (1, 2, 3):
        expected = known.get(pin, (0, NAN))[1]
        assert found[pin] == expected or (math.isnan(found[pin]) and math.isnan(expected))
