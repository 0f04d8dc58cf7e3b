"""Batches cross the wire unchanged, and what is not allowed is refused by row, column and value."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from protos import events_pb2 as pb
from services.core.columns import Ragged, pack
from services.core.errors import InvalidArgument, MeshError
from services.core.events import (
    EARLIEST_MS,
    MAX_FEATURES,
    MAX_INTERESTS,
    MAX_TEXT,
    RAGGED,
    Action,
    Batch,
    events,
    validate,
)
from tests.services.batches import any_batches, good_batches, rows_of

NOW, AHEAD = 1_750_000_000_000, 600_000
A = Action
USER, PIN, BOARD, TARGET = "user", "pin", "board", "target"
#: The columns that each action needs, as its documentation has it.
NEEDED = {
    A.FOLLOW_USER: {USER, TARGET},
    A.UNFOLLOW_USER: {USER, TARGET},
    A.FOLLOW_BOARD: {USER, BOARD},
    A.UNFOLLOW_BOARD: {USER, BOARD},
    A.FOLLOW_INTEREST: {USER, TARGET},
    A.UNFOLLOW_INTEREST: {USER, TARGET},
    A.CREATE_BOARD: {USER, BOARD},
    A.DELETE_BOARD: {USER, BOARD},
    A.IMPRESSION: {USER, PIN},
    A.CLOSEUP: {USER, PIN},
    A.CLICK: {USER, PIN},
    A.SAVE: {USER, PIN, BOARD},
    A.HIDE: {USER, PIN},
    A.UNSAVE: {USER, PIN, BOARD},
    A.CREATE_PIN: {PIN},
    A.UPDATE_PIN: {PIN},
    A.TAKEDOWN: {PIN},
    A.JOIN_INTEREST: {PIN, TARGET},
    A.LEAVE_INTEREST: {PIN, TARGET},
    A.PUT_FEATURES: {TARGET},
    A.SWITCH_DATASET: {TARGET},
    A.NAME_USER: {USER},
    A.NAME_INTEREST: {TARGET},
    A.NAME_ID: {TARGET},
    A.SERVED: {USER, PIN},
}


def good(**columns: Any) -> Batch:
    n = 3
    given = {"user": 1, "action": A.SAVE, "pin": 2, "board": 3, "target": 4, "at_ms": NOW, "id": range(1, n + 1)}
    return events(n, **(given | columns))


def check(batch: Batch) -> None:
    validate(batch, NOW, AHEAD)


# --- the wire -------------------------------------------------------------------------------------------------------


@given(any_batches())
def test_batches_cross_the_wire_unchanged(batch: Batch) -> None:
    sent = batch.to_proto().SerializeToString()
    assert rows_of(Batch.of(pb.Batch.FromString(sent))) == rows_of(batch)


@given(any_batches(), st.data())
def test_slices_takes_and_joins_are_those_of_rows(batch: Batch, data: st.DataObject) -> None:
    rows = rows_of(batch)
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    assert rows_of(batch.slice(start, stop)) == rows[start:stop]
    assert rows_of(Batch.concat([batch.slice(0, stop), batch, batch.slice(stop, stop)])) == rows[:stop] + rows
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    assert rows_of(batch.take(mask)) == [row for row, taken in zip(rows, mask, strict=True) if taken]


def test_columns_of_nothing_are_left_out_of_a_message() -> None:
    message = events(2, action=[A.TAKEDOWN, A.TAKEDOWN], pin=[1, 2]).to_proto()
    assert {field.name for field, _ in message.ListFields()} == {"n", "action", "pin"}


@pytest.mark.parametrize(
    "column",
    [
        "user",
        "action",
        "pin",
        "board",
        "target",
        "at_ms",
        "surface",
        "id",
        "quality",
        "kind",
        "count",
        "score",
        "model",
    ],
)
def test_a_column_cut_short_is_refused_by_name(column: str) -> None:
    message = good(surface=1, quality=0.5, kind=1, count=2, score=0.5, model=9).to_proto()
    data = getattr(message, column)
    size = len(data) // 3
    setattr(message, column, data[:-size])
    with pytest.raises(InvalidArgument, match=f"batch.{column}: 2 values, expected 3"):
        Batch.of(message)
    if size > 1:
        setattr(message, column, data[:-1])
        with pytest.raises(InvalidArgument, match=f"batch.{column}: {3 * size - 1} bytes are not a whole number"):
            Batch.of(message)


def test_a_batch_that_only_claims_rows_is_refused_before_memory_is_allocated_for_them() -> None:
    with pytest.raises(InvalidArgument, match="batch.action: 0 values, expected 4294967295"):
        Batch.of(pb.Batch(n=2**32 - 1))


@pytest.mark.parametrize("column", list(RAGGED))
def test_ragged_columns_are_refused_by_name(column: str) -> None:
    def of(ends: list[int], data: bytes) -> Batch:
        message = good().to_proto()
        lists = getattr(message, column)
        lists.ends = pack(np.array(ends), "<u4")
        setattr(lists, RAGGED[column][1], data)
        return Batch.of(message)

    item = np.dtype(RAGGED[column][0]).itemsize
    assert getattr(of([0, 1, 2], bytes(range(2 * item))), column).lengths().tolist() == [0, 1, 1]
    with pytest.raises(InvalidArgument, match=f"batch.{column}: ends must not fall, and the last must be 2"):
        of([1, 0, 2], bytes(2 * item))
    with pytest.raises(InvalidArgument, match=f"batch.{column}: ends must not fall, and the last must be 2"):
        of([0, 1, 3], bytes(2 * item))
    with pytest.raises(InvalidArgument, match=f"batch.{column}.ends: 2 values, expected 3"):
        of([0, 2], bytes(2 * item))
    with pytest.raises(InvalidArgument, match=f"batch.{column}: has data but no ends"):
        of([], bytes(item))
    if item > 1:
        refusal = f"batch.{column}: {item + 1} bytes are not a whole number of {item}-byte items"
        with pytest.raises(InvalidArgument, match=refusal):
            of([0, 0, 1], bytes(item + 1))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        check(Batch.of(pb.Batch.FromString(data)))
    except (MeshError, DecodeError):
        pass


@given(good_batches(), st.data())
def test_a_damaged_batch_is_refused_or_read(batch: Batch, data: st.DataObject) -> None:
    sent = bytearray(batch.to_proto().SerializeToString())
    if sent:
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    try:
        check(Batch.of(pb.Batch.FromString(bytes(sent))))
    except (MeshError, DecodeError):
        pass


# --- what is allowed ------------------------------------------------------------------------------------------------


def test_every_action_is_in_the_table() -> None:
    assert set(NEEDED) == set(Action)


@pytest.mark.parametrize("action", Action)
def test_an_action_needs_its_ids_and_no_others(action: Action) -> None:
    check(good(action=action, **{column: 0 for column in (USER, PIN, BOARD, TARGET) if column not in NEEDED[action]}))
    for column in NEEDED[action]:
        with pytest.raises(InvalidArgument) as refused:
            check(good(action=action, **{column: [5, 0, 5]}))
        assert str(refused.value) == (
            f"batch.{column}[1] = 0 (action {action.name.lower()}) is not allowed: "
            "this action needs one, and 0 is not an id"
        )


@given(good_batches())
def test_good_batches_are_accepted(batch: Batch) -> None:
    check(batch)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"action": [23, 99, 23]},
            r"batch.action\[1\] = 99 is not allowed: known actions are 1 follow_user, .*50 served",
        ),
        ({"action": 0}, r"batch.action\[0\] = 0 is not allowed"),
        ({"id": [1, 2, 0]}, r"batch.id\[2\] = 0 \(action save\) is not allowed: every event needs"),
        (
            {"at_ms": [NOW, NOW, NOW + AHEAD + 1]},
            r"batch.at_ms\[2\] = 1750000600001 \(2025-06-15 15:16:40 UTC\) .* to 2025-06-15 15:16:40 UTC; .* 15:06:40 UTC now",
        ),
        ({"at_ms": 2**63 - 1}, r"batch.at_ms\[0\] = 9223372036854775807"),
        (
            {"at_ms": [NOW, EARLIEST_MS - 1, NOW]},
            r"batch.at_ms\[1\] = 0 \(no date\) .* from 1970-01-01 to",
        ),
        ({"at_ms": -(2**63)}, r"batch.at_ms\[0\] = -9223372036854775808"),
        ({"at_ms": -86_400_000}, r"batch.at_ms\[0\] = -86400000 \(1969-12-31\) "),
        ({"quality": [0.5, 1.5, NAN]}, r"batch.quality\[1\] = 1.5 .* 0 to 1, or NaN when not stated"),
        ({"quality": [NAN, NAN, -0.25]}, r"batch.quality\[2\] = -0.25"),
        ({"quality": INF}, r"batch.quality\[0\] = inf"),
        ({"quality": -INF}, r"batch.quality\[0\] = -inf"),
        ({"title": ["", "x" * (MAX_TEXT + 1), ""]}, rf"batch.title\[1\]: 2049 long, at most {MAX_TEXT} is allowed"),
        ({"link": ["", "", "é" * MAX_TEXT]}, r"batch.link\[2\]: 4096 long"),
        ({"interests": [[1] * (MAX_INTERESTS + 1), [], []]}, r"batch.interests\[0\]: 65 long, at most 64 is allowed"),
        (
            {"features": [[], [0.5] * (MAX_FEATURES + 1), []]},
            r"batch.features\[1\]: 1025 long, at most 1024 is allowed",
        ),
        ({"interests": [[1], [], [2, 0]]}, r"batch.interests\[2\]: holds 0, and 0 is not an id"),
    ],
)
def test_what_is_not_allowed_is_refused_by_row_column_and_value(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(good(**columns))


@pytest.mark.parametrize(
    "columns",
    [
        {"at_ms": NOW + AHEAD},
        {"at_ms": EARLIEST_MS},
        {"quality": [0, 1, NAN]},
        {"title": ["x" * MAX_TEXT] * 3},
        {"interests": [[1] * MAX_INTERESTS] * 3},
        {"features": [[NAN] * MAX_FEATURES] * 3},
        {"id": 2**64 - 1},
    ],
)
def test_the_bounds_themselves_are_allowed(columns: dict[str, Any]) -> None:
    check(good(**columns))


def test_an_empty_batch_is_allowed() -> None:
    check(events(0))
    check(Batch.of(pb.Batch()))


def test_events_refuses_columns_of_other_lengths_and_names() -> None:
    with pytest.raises(InvalidArgument, match="batch.user: 2 values, expected 3"):
        events(3, user=[1, 2])
    with pytest.raises(InvalidArgument, match="batch.title: 1 values, expected 3"):
        events(3, title=["one"])
    with pytest.raises(InvalidArgument, match="batch.interests: 2 values, expected 3"):
        events(3, interests=Ragged.empty(2, "u8"))
    with pytest.raises(TypeError, match="no such columns: usr"):
        events(3, usr=1)


#: Two served pins, as the version before `probability` wrote them: bytes of its own schema.
OLD_RECORD = bytes.fromhex(
    "08021210070000000000000007000000000000001a02323222100b000000000000000c000000000000002a10030000000000000000000000"
    "000000003a100068e5cf8b0100000068e5cf8b010000420204044a10650000000000000066000000000000005a0800000000010000008a01"
    "080000003f0000803e920110090000000000000009000000000000009a011c0a08020000000400000012100000803f000000400000404000"
    "008040"
)


def test_a_record_of_before_placements_were_logged_is_read() -> None:
    batch = Batch.of(pb.Batch.FromString(OLD_RECORD))
    assert (batch.pin.tolist(), batch.position.tolist(), batch.score.tolist()) == ([11, 12], [0, 1], [0.5, 0.25])
    assert [batch.features.run(row).tolist() for row in range(2)] == [[1, 2], [3, 4]]
    assert (batch.probability.tolist(), batch.candidates.tolist()) == ([0, 0], [0, 0])  # 0: was not logged
    for runs in (batch.arms, batch.lost, batch.lost_by):
        assert runs.lengths().tolist() == [0, 0]
    assert pb.Batch.FromString(OLD_RECORD) == batch.to_proto(), "written again it is the same"


def test_a_reader_of_the_version_before_passes_over_what_it_does_not_know() -> None:
    """Protobuf keeps unknown fields apart: the columns it knows are as they were."""
    new = events(
        2, action=Action.SERVED, user=7, pin=[11, 12], id=[1, 2], probability=1, candidates=900, lost=[[5], []]
    )
    message = new.to_proto()
    for name in ("probability", "candidates", "arms", "lost", "lost_by"):
        message.ClearField(name)
    assert message.SerializeToString() in new.to_proto().SerializeToString()
