"""From bodies to batches, without a network."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.events import AUDIT_FROM, Action, Surface, validate
from web.intake import as_stated, batch_of, parse
from web.questions import ACTIONS, MAX_EVENTS

NOW = 1_760_000_000_000
BIG = 2**63 + 11
SAVE = {"user": str(BIG), "action": "save", "pin": 7, "board": "8", "surface": "home"}


def refusal(body: bytes | object) -> str:
    with pytest.raises(InvalidArgument) as caught:
        batch_of(parse(body if isinstance(body, bytes) else json.dumps(body).encode()), NOW)
    return str(caught.value)


@pytest.mark.parametrize("body", [{"events": [SAVE]}, [SAVE], SAVE], ids=["envelope", "list", "bare"])
def test_three_forms_are_one_batch(body: object) -> None:
    batch = batch_of(parse(json.dumps(body).encode()), NOW)
    validate(batch, NOW, 0)
    assert (batch.user[0], batch.pin[0], batch.board[0]) == (BIG, 7, 8)
    assert (batch.action[0], batch.surface[0], batch.at_ms[0]) == (Action.SAVE, Surface.HOME, NOW)
    assert np.isnan(batch.quality[0])
    assert 0 < batch.id[0] < AUDIT_FROM


def test_everything_that_can_be_stated_arrives() -> None:
    pin = {"action": "create_pin", "pin": 1, "title": "ünï", "link": "https://x", "quality": 0.5, "interests": ["3", 4]}
    batch = batch_of(
        parse(json.dumps([{**pin, "id": "9", "at_ms": 5}, {"action": "takedown", "pin": 2}]).encode()), NOW
    )
    assert batch.title.strings() == ["ünï", ""]
    assert batch.link.strings() == ["https://x", ""]
    assert batch.interests.run(0).tolist() == [3, 4]
    assert batch.quality[0] == np.float32(0.5)
    assert (batch.id[0], batch.at_ms[0]) == (9, 5)


def test_ids_that_are_missing_differ() -> None:
    batch = batch_of(parse(json.dumps([SAVE] * 100).encode()), NOW)
    assert len(set(batch.id.tolist())) == 100


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"user": 4.5}, "events[1].user = 4.5 is not allowed: an id is 0 to 18446744073709551615"),
        ({"user": True}, "events[1].user = true"),
        ({"user": "-1"}, 'events[1].user = "-1"'),
        ({"user": "1_0"}, 'events[1].user = "1_0"'),
        ({"user": "١"}, "events[1].user"),
        ({"user": 2**64}, f"events[1].user = {2**64}"),
        ({"pin": AUDIT_FROM}, f"events[1].pin = {AUDIT_FROM} is not allowed: ids from {AUDIT_FROM} on"),
        ({"interests": [1, 2**64 - 1]}, f"events[1].interests = {2**64 - 1} is not allowed"),
        ({"interests": [1, "x"]}, 'events[1].interests[1] = "x"'),
        ({"id": 0}, "events[1].id = 0 is not allowed"),
        ({"id": AUDIT_FROM + 5}, f"events[1].id = {AUDIT_FROM + 5}"),
        ({"action": "like"}, 'events[1].action = "like" is not allowed: one of follow_user'),
        ({"action": "served"}, 'events[1].action = "served" is not allowed'),
        ({"action": 23}, "events[1].action = 23 is not allowed: Expected `str`"),
        ({"surface": "moon"}, 'events[1].surface = "moon" is not allowed: one of unknown, following'),
        ({"quality": 1.00000001}, "events[1].quality = 1.00000001 is not allowed: 0 to 1"),
        ({"at_ms": "soon"}, 'events[1].at_ms = "soon"'),
        ({"at_ms": 2**70}, "events[1].at_ms"),
        ({"bord": 5}, "events[1].bord is not known here; known are action, user"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], named: str) -> None:
    assert refusal({"events": [SAVE, {**SAVE, **change}]}).startswith(named)
    assert refusal([SAVE, {**SAVE, **change}]).startswith(named)


def test_the_body_itself_is_refused_saying_where() -> None:
    assert "truncated" in refusal(b'{"events":[')
    assert "byte 12 is 0xff" in refusal(b'[{"action":"\xff"}]')
    assert "byte 3" in refusal(b"[1 2]")
    assert refusal(b"").startswith("the body is not allowed")
    assert refusal(b"true").startswith("the body is not allowed")
    assert refusal({"evnts": []}).startswith("the body is not allowed")
    assert refusal({"events": 5}).startswith("events = 5")
    assert refusal({"events": []}).startswith("events = []")
    assert refusal([]).startswith("events: 0 are not allowed")
    assert refusal([{"action": "hide"}] * (MAX_EVENTS + 1)).startswith(f"events: {MAX_EVENTS + 1} are not allowed")
    assert refusal({"events": [SAVE], "more": 1}) == "more is not known here; known are events"
    assert refusal(b"[" * 100_000).startswith("the body")
    assert refusal(b'{"events":' + b"[" * 100_000).startswith("the body")


def test_the_logs_columns_are_renamed() -> None:
    error = as_stated(InvalidArgument("batch.user[3] = 0 (action save) is not allowed: this action needs one"))
    assert str(error).startswith("events[3].user = 0 (action save)")


@given(st.binary(max_size=200))
def test_no_body_breaks_it(body: bytes) -> None:
    with contextlib.suppress(InvalidArgument):
        parse(body)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([*ACTIONS])
fields = st.sampled_from(["action", "user", "pin", "board", "id", "at_ms", "title", "quality", "interests", "surface"])


@given(st.lists(st.dictionaries(fields, scalars | st.lists(scalars, max_size=3)), max_size=4))
def test_no_events_break_it(events: list[dict[str, object]]) -> None:
    with contextlib.suppress(InvalidArgument):
        assert len(batch_of(parse(json.dumps(events).encode()), NOW)) == len(events)
