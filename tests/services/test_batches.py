"""Batches off the wire: joined they are what they are one by one, and what is not whole is refused as before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import events_pb2 as pb
from services.core.batches import check_whole, joined
from services.core.errors import InvalidArgument
from services.core.events import COLUMNS, RAGGED, Action, Batch, events
from tests.services.batches import follows

ROWS = st.fixed_dictionaries(
    {
        "action": st.sampled_from([Action.SAVE, Action.CREATE_PIN, Action.SERVED]),
        "user": st.integers(0, 9),
        "quality": st.sampled_from([float("nan"), 0.25]),
        "title": st.text(max_size=3),
        "interests": st.lists(st.integers(1, 9), max_size=3),
        "features": st.lists(st.floats(0, 1, width=32), max_size=2),
    }
)


def batch_of(rows: list[dict[str, object]]) -> pb.Batch:
    return events(len(rows), **{name: [row[name] for row in rows] for name in (rows[0] if rows else {})}).to_proto()


@given(st.lists(st.lists(ROWS, max_size=4), min_size=1, max_size=5))
def test_joined_is_the_rows_of_all_in_order(parts: list[list[dict[str, object]]]) -> None:
    messages = [batch_of(rows) for rows in parts]
    found, expected = joined(messages), Batch.concat([Batch.of(message) for message in messages])
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype
        assert getattr(found, name).flags.writeable, "as those of a concatenation are"
    for name in RAGGED:
        for part in ("ends", "values"):
            np.testing.assert_array_equal(
                getattr(getattr(found, name), part), getattr(getattr(expected, name), part), err_msg=name
            )


def broken(name: str, value: object) -> pb.Batch:
    message = events(3, action=Action.SAVE, user=1, title=["a", "b", "c"]).to_proto()
    if name == "title":
        message.title.CopyFrom(value)  # type: ignore[arg-type]
    else:
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 4),
        ("n", 2**31),
        ("action", b"\x01"),
        ("user", bytes(17)),
        ("user", bytes(16)),
        ("title", pb.Batch().title.__class__(ends=bytes(12), data=b"abc")),
        ("title", pb.Batch().title.__class__(ends=b"\x03\0\0\0\x02\0\0\0\x03\0\0\0", data=b"abc")),
        ("title", pb.Batch().title.__class__(ends=bytes(5), data=b"")),
        ("title", pb.Batch().title.__class__(ends=b"", data=b"abc")),
    ],
)
def test_a_batch_that_is_not_whole_is_refused_as_one_that_is_read(name: str, value: object) -> None:
    message = broken(name, value)
    with pytest.raises(InvalidArgument) as looked:
        check_whole(message)
    with pytest.raises(InvalidArgument) as read:
        Batch.of(message)
    assert str(looked.value) == str(read.value)


def test_a_whole_batch_is_let_pass() -> None:
    check_whole(follows(3).to_proto())
    check_whole(pb.Batch())
