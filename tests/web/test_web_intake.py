"""From bodies to batches, without a network."""

import contextlib
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import ask
from services.core.errors import InvalidArgument
from services.core.events import RESERVED_FROM, Action, Surface, validate
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
    assert 0 < batch.id[0] < RESERVED_FROM


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


def test_R03_a_writer_goes_by_any_name_or_number() -> None:
    stated: list[dict[str, object]] = [
        {},
        {"writer": None},
        {"writer": "phone"},
        {"writer": "tablet"},
        {"writer": 7},
        {"writer": "7"},
    ]
    writers = batch_of(parse(json.dumps([{**SAVE, **more} for more in stated]).encode()), NOW).writer.tolist()
    assert writers[:2] == [0, 0]
    assert len({*writers[2:5]}) == 3
    assert 0 not in writers[2:]
    assert writers[4] == writers[5]


def test_R04_an_empty_text_is_stated_and_none_is_not() -> None:
    texts: list[dict[str, object]] = [{}, {"title": None}, {"title": ""}, {"title": "a"}, {"link": ""}]
    texts.append({"title": "", "link": ""})
    stated = [{"action": "name_user", "user": 1} | more for more in texts]
    batch = batch_of(parse(json.dumps(stated).encode()), NOW)
    assert batch.stated.tolist() == [0, 0, 1, 0, 2, 3]
    validate(batch, NOW, 0)


def test_ids_that_are_missing_differ() -> None:
    batch = batch_of(parse(json.dumps([SAVE] * 100).encode()), NOW)
    assert len(set(batch.id.tolist())) == 100


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"user": 4.5}, "events[1].user = 4.5 is not allowed: an id is 1 to 18446744073708503039, as a string"),
        ({"user": True}, "events[1].user = true"),
        ({"user": "-1"}, 'events[1].user = "-1"'),
        ({"user": "1_0"}, 'events[1].user = "1_0"'),
        ({"user": "١"}, "events[1].user"),
        ({"user": 2**64}, f"events[1].user = {2**64}"),
        ({"pin": RESERVED_FROM}, f"events[1].pin = {RESERVED_FROM} is not allowed: ids from {RESERVED_FROM} on"),
        (
            {"interests": [1, 2**64 - 1]},
            f"events[1].interests[1] = {2**64 - 1} is not allowed: ids from {RESERVED_FROM}",
        ),
        ({"user": "01"}, 'events[1].user = "01" is not allowed: an id is 1 to'),
        ({"user": "+1"}, 'events[1].user = "+1" is not allowed: an id is 1 to'),
        ({"user": " 1"}, 'events[1].user = " 1" is not allowed: an id is 1 to'),
        ({"user": "1\n"}, 'events[1].user = "1\\n" is not allowed: an id is 1 to'),
        ({"board": 0}, "events[1].board = 0 is not allowed: an id is 1 to"),
        ({"interests": [0]}, "events[1].interests[0] = 0 is not allowed: an id is 1 to"),
        ({"user": None}, "events[1].user is missing: save needs one"),
        ({"title": 5}, "events[1].title = 5 is not allowed: text, or null (of a pin or board"),
        ({"interests": "7"}, 'events[1].interests = "7" is not allowed: a list, or null (of the pin; at most 64)'),
        ({"quality": "high"}, 'events[1].quality = "high" is not allowed: a number, or null (of the pin, 0 to 1'),
        ({"writer": []}, "events[1].writer = [] is not allowed: "),
        ({"interests": [1, "x"]}, 'events[1].interests[1] = "x"'),
        ({"id": 0}, "events[1].id = 0 is not allowed"),
        ({"id": RESERVED_FROM + 5}, f"events[1].id = {RESERVED_FROM + 5}"),
        ({"writer": ""}, 'events[1].writer = ""'),
        ({"writer": "w" * 201}, "events[1].writer"),
        ({"writer": 1.5}, "events[1].writer = 1.5"),
        ({"writer": True}, "events[1].writer = true"),
        ({"action": "like"}, 'events[1].action = "like" is not allowed: one of follow_user'),
        ({"action": "served"}, 'events[1].action = "served" is not allowed'),
        ({"action": 23}, "events[1].action = 23 is not allowed: one of follow_user"),
        ({"surface": "moon"}, 'events[1].surface = "moon" is not allowed: one of unknown, following'),
        ({"quality": 1.00000001}, "events[1].quality = 1.00000001 is not allowed: 0 to 1"),
        ({"at_ms": "soon"}, 'events[1].at_ms = "soon"'),
        ({"at_ms": 2**70}, "events[1].at_ms"),
        ({"at_ms": NOW // 1000}, f"events[1].at_ms = {NOW // 1000} is not allowed: it is 1970-01-2"),
        ({"title": "a\x00b"}, 'events[1].title = "a\\u0000b" is not allowed: text without control characters'),
        ({"link": "javascript:alert(1)"}, 'events[1].link = "javascript:alert(1)" is not allowed: a link that begins'),
        ({"link": "https://a b"}, "events[1].link"),
        ({"link": "example.org"}, "events[1].link"),
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
    assert refusal({"events": 5}).startswith(
        "events = 5 is not allowed: a list, 1 to 10000 of them (1 to 10000 events)"
    )
    assert refusal({"events": [SAVE, 5]}).startswith("events[1] = 5 is not allowed: an object of action, user")
    assert refusal([{"user": 1}]).startswith("events[0].action is missing: one of follow_user, ")
    assert refusal({"events": []}).startswith("events = []")
    assert refusal([]).startswith("events: 0 are not allowed")
    assert refusal([{"action": "hide"}] * (MAX_EVENTS + 1)).startswith(f"events: {MAX_EVENTS + 1} are not allowed")
    assert refusal({"events": [SAVE], "more": 1}) == "more is not known here; known are events"
    assert refusal(b"[" * 100_000).startswith("the body")
    assert refusal(b'{"events":' + b"[" * 100_000).startswith("the body")


@pytest.mark.parametrize("body", [{"events": [SAVE] * 3}, [SAVE] * 3, SAVE], ids=["envelope", "list", "bare"])
def test_a_field_that_is_stated_twice_is_refused(body: object) -> None:
    whole = json.dumps(body).encode()
    assert len(parse(whole)) in (1, 3)
    at = whole.rindex(b'"user"')
    where = 2 if whole.count(b'"user"') == 3 else 0
    for name in (b'"user"', b'"us\\u0065r"'):
        assert (
            refusal(whole[:at] + name + b': "1", ' + whole[at:])
            == f"events[{where}].user is stated twice; once is allowed"
        )
    assert refusal(b'{"events": [{"action": "hide"}], "events": [{"action": "hide"}]}').startswith(
        "events is stated twice"
    )


def test_nothing_is_said_in_the_words_of_a_library() -> None:
    values: list[object] = [None, True, 1.5, "", "x", [], {}, [[]], -1, 2**70]
    for value in values:
        for name in ("action", "user", "surface", "at_ms", "id", "writer", "title", "quality", "interests"):
            with contextlib.suppress(InvalidArgument):
                batch_of(parse(json.dumps([SAVE, {**SAVE, name: value}]).encode()), NOW)
                continue
            said = refusal([SAVE, {**SAVE, name: value}])
            assert said.startswith(f"events[1].{name}"), said
            assert not re.search(r"`|\$|Expected|another kind", said), said


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


def test_the_command_names_the_actions_that_the_edge_takes() -> None:
    assert list(ask.ACTIONS) == list(ACTIONS)
