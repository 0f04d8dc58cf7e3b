"""The edge where ids are text: events under a text are answered under it, and no other text is taken for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import numpy as np
import pytest

from protos import events_pb2
from protos import feedgen_pb2 as pb
from services.core import external
from services.core.events import RESERVED_FROM, Action, Batch
from services.core.topics import Topic
from tests.web.edge import Edge, serve_edge

UUID = "9c5b94b1-35ad-49bb-b118-8e8fc24abf80"
#: Ids that are allowed, whatever they look like.
HOSTILE = [
    UUID,
    "u-0651",
    "ana@example.org",
    "0",
    "007",
    "7",
    str(2**64),
    "-5",
    "a/b",
    "../etc/passwd",
    "a%2Fb",
    "%41",
    "a?b#c&d=e",
    "a b",
    "__proto__",
    "constructor",
    "null",
    "true",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\u05e9\u05dc\u05d5\u05dd",
    "\ufeffbom",
    "'; DROP TABLE pins; --",
    "<script>alert(1)</script>",
    "A",
    "a",
    "x" * 255,
    "\u00e9" * 127,
    "#17",
]
REFUSED = [
    "",
    " a",
    "a ",
    "\ta",
    "a\nb",
    "a\x00b",
    "\x7f",
    "\u2028",
    "a\ufffdb",
    ".",
    "..",
    "x" * 256,
    "\u00e9" * 128,
    "x" * 10_240,
]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with serve_edge(tmp_path_factory.mktemp("edge"), ids="text", read_timeout_s=20) as serving:
        yield serving


def written(edge: Edge, *events: dict[str, Any]) -> str:
    answer = edge.post({"events": list(events)})
    assert answer.status_code == 202, answer.text
    assert answer.json()["accepted"] == len(events), "what names ids is not counted"
    token: str = answer.json()["token"]
    return token


def pin_of(edge: Edge, pin: str, token: str = "") -> httpx.Response:
    return edge.http.get(f"/v1/pins/{quote(pin, safe='')}", params={"token": token})


def names_of(edge: Edge) -> list[tuple[int, str]]:
    """The names in the log, in order."""
    named = []
    for record in edge.log.read({at: 0 for at in edge.log.ends() if at[0] == Topic.OBJECTS}):
        batch = Batch.of(events_pb2.Batch.FromString(record.batch))
        rows = batch.take(batch.action == Action.NAME_ID)
        named += list(zip(rows.kind.tolist(), rows.title.strings(), strict=True))
    return named


@pytest.mark.parametrize("text", HOSTILE)
def test_a_pin_is_answered_under_the_text_that_it_was_written_under(edge: Edge, text: str) -> None:
    token = written(
        edge, {"action": "create_pin", "pin": text, "title": f"of {text!r}", "interests": [text], "user": text}
    )
    answer = pin_of(edge, text, token)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["pin"], found["title"]) == (text, f"of {text!r}")
    assert found["interests"] == [{"id": text, "name": ""}]


def test_texts_that_look_alike_are_different_ids(edge: Edge) -> None:
    """Nothing is trimmed, folded or normalised, so no two of these become one."""
    numbers = external.numbers_of(HOSTILE)
    assert len(np.unique(numbers)) == len(HOSTILE)
    assert int(numbers.min()) > 0
    assert int(numbers.max()) < RESERVED_FROM


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_id_is_refused_with_the_rule_wherever_it_stands(edge: Edge, text: str) -> None:
    message = edge.refused({"events": [{"action": "save", "user": text, "pin": "p", "board": "b"}]})
    assert "events[0].user" in message
    assert "1 to 255 bytes of text" in message
    assert "events[0].interests[1]" in edge.refused({"action": "create_pin", "pin": "p", "interests": ["ok", text]})
    feed = edge.http.get("/v1/feeds/home", params={"user": text})
    assert feed.status_code == 400
    assert "user" in feed.json()["error"]["message"]
    if text not in (".", ".."):  # which clients take out of a path
        assert pin_of(edge, text).status_code in (400, 404)
        assert edge.http.delete(f"/v1/pins/{quote(text, safe='')}").status_code in (400, 404)


@pytest.mark.parametrize("value", ["1.5", "true", "[]", "{}", "1e3", '"\\ud83d"'])
def test_values_that_are_neither_text_nor_whole_numbers_are_refused(edge: Edge, value: str) -> None:
    body = f'{{"action": "save", "user": {value}, "pin": "p", "board": "b"}}'
    assert edge.http.post("/v1/events", content=body).status_code == 400


def test_bytes_that_are_no_utf8_are_refused_in_a_path_and_in_a_query(edge: Edge) -> None:
    assert edge.http.get("/v1/pins/%FF").status_code == 400
    assert edge.http.get("/v1/feeds/home?user=%FF").status_code == 400


def test_an_integer_is_its_digits(edge: Edge) -> None:
    for number in (651, 2**70, -4):
        token = written(edge, {"action": "create_pin", "pin": number, "title": "counted"})
        assert pin_of(edge, str(number), token).json()["title"] == "counted"


def test_kinds_are_name_spaces_of_their_own(edge: Edge) -> None:
    token = written(
        edge,
        {"action": "create_pin", "pin": "one", "title": "the pin"},
        {"action": "name_user", "user": "one", "title": "the user"},
        {"action": "create_board", "user": "one", "board": "one", "title": "the board"},
        {"action": "name_interest", "target": "one", "title": "the interest"},
        {"action": "follow_interest", "user": "one", "target": "one"},
        {"action": "follow_user", "user": "one", "target": "two"},
    )
    answer = edge.http.get("/v1/users/one", params={"token": token})
    assert answer.status_code == 200, answer.text
    user = answer.json()
    assert (user["user"], user["name"]) == ("one", "the user")
    assert user["boards"] == [{"id": "one", "title": "the board"}]
    assert user["follows"]["interests"] == [{"id": "one", "name": "the interest"}]
    assert user["follows"]["users"] == [{"id": "two", "name": ""}]
    assert user["degraded"] == []
    assert pin_of(edge, "one", token).json()["title"] == "the pin"


def test_users_are_listed_searched_and_paged_by_their_texts(tmp_path: Path) -> None:
    with serve_edge(tmp_path, ids="text", read_timeout_s=20) as edge:
        people = {f"u-{i:03}": f"Person {i}" for i in range(25)}
        token = written(edge, *({"action": "name_user", "user": user, "title": name} for user, name in people.items()))
        written(edge, {"action": "follow_user", "user": "u-001", "target": "never named"})
        edge.http.get("/v1/users/u-001", params={"token": token})
        found: dict[str, str] = {}
        after = ""
        for _ in range(6):
            page = edge.http.get("/v1/users", params={"limit": 5, "after": after} if after else {"limit": 5}).json()
            found |= {row["user"]: row["name"] for row in page["users"]}
            after = page["next"]
            if after is None:
                break
            assert after in people
        assert found == people, "a user who is only named by others is not listed, as with numbers"
        exact = edge.http.get("/v1/users", params={"q": "u-007"}).json()["users"]
        assert [row["user"] for row in exact] == ["u-007"]


def test_an_id_is_named_in_the_log_until_it_is_known(tmp_path: Path) -> None:
    with serve_edge(tmp_path, ids="text", read_timeout_s=20) as edge:
        for _ in range(3):
            token = written(edge, {"action": "create_pin", "pin": UUID, "title": "t"})
            pin_of(edge, UUID, token)  # rockstore has applied it
        assert names_of(edge) == [(1, UUID)]


def test_pages_and_their_xray_speak_the_texts(edge: Edge) -> None:
    token = written(
        edge,
        {"action": "create_pin", "pin": "p/1", "title": "one", "interests": ["i 1"]},
        {"action": "create_board", "user": "owner@x", "board": "b-1", "title": "board"},
    )
    pin_of(edge, "p/1", token)
    pin, board, owner, interest = map(external.number_of, ("p/1", "b-1", "owner@x", "i 1"))
    unknown = external.number_of("never written")
    edge.feedgen.reply = pb.FeedReply(cursor="c", model="light")
    edge.feedgen.reply.items.add(pin=pin, board=board, owner=owner)
    edge.feedgen.reply.items.add(pin=unknown)
    ray = {"sources": [{"source": "walk", "board": str(board), "seed": str(pin), "interest": "0"}]}
    parts = {"interests": [{"interest": str(interest)}], "walk": {"seeds": [{"pin": str(pin)}]}, "stages": []}
    edge.feedgen.reply.xray = msgspec.json.encode({**parts, "pins": {str(pin): ray, str(unknown): {"sources": []}}})
    page = edge.http.get("/v1/feeds/home", params={"user": "reader 1", "explain": "true"}).json()
    assert edge.feedgen.asked[-1][0].user == external.number_of("reader 1")
    [item] = page["items"]
    assert (item["pin"], item["board"]["id"], item["owner"]["id"]) == ("p/1", "b-1", "owner@x")
    assert page["degraded"] == ["ids"], "what has no text was left out"
    xray = page["xray"]
    assert list(xray["pins"]) == ["p/1", f"#{unknown}"]
    assert xray["pins"]["p/1"]["sources"] == [{"source": "walk", "board": "b-1", "seed": "p/1", "interest": "0"}]
    assert xray["interests"] == [{"interest": "i 1"}]
    assert xray["walk"]["seeds"] == [{"pin": "p/1"}]


def test_a_takedown_reaches_the_pin_of_the_text(edge: Edge) -> None:
    written(edge, {"action": "create_pin", "pin": "to/take down", "title": "t"})
    answer = edge.http.delete("/v1/pins/to%2Ftake%20down")
    assert answer.status_code == 202
    assert pin_of(edge, "to/take down", answer.json()["token"]).json()["taken_down"] is True


@pytest.fixture
def colliding(monkeypatch: pytest.MonkeyPatch) -> None:
    """All texts of one length have one number."""
    from web import ids

    monkeypatch.setattr(ids, "number_of", len)


@pytest.mark.usefixtures("colliding")
def test_two_texts_with_one_number_are_refused_by_name(tmp_path: Path) -> None:
    with serve_edge(tmp_path, ids="text", read_timeout_s=20) as edge:
        token = written(edge, {"action": "create_pin", "pin": "one", "title": "t"})
        assert pin_of(edge, "one", token).status_code == 200
        for message in (
            edge.refused({"action": "create_pin", "pin": "two", "title": "u"}),
            pin_of(edge, "two").json()["error"]["message"],
            edge.http.delete("/v1/pins/two").json()["error"]["message"],
        ):
            assert "pin 'two' is not allowed: its hash is that of pin 'one' (3)" in message
        both = [{"action": "create_pin", "pin": "four"}, {"action": "create_pin", "pin": "five"}]
        assert "'four' and 'five' have one hash (4)" in edge.refused(both)
        written(edge, {"action": "name_user", "user": "two", "title": "another kind has its own"})
        assert pin_of(edge, "one").json()["title"] == "t"


def test_without_rockstore_events_are_accepted_and_their_ids_named_again(tmp_path: Path) -> None:
    with serve_edge(tmp_path, ids="text", read_timeout_s=20) as edge:
        token = written(edge, {"action": "create_pin", "pin": "p", "title": "t"})
        pin_of(edge, "p", token)
        edge.kill("rockstore")
        written(edge, {"action": "impression", "user": "somebody", "pin": "p"})
        assert sorted(names_of(edge)) == [(1, "p"), (3, "somebody")], (
            "names that the edge has in memory are not asked for"
        )


def test_the_description_says_that_ids_are_text(edge: Edge) -> None:
    described = edge.http.get("/openapi.json").json()
    assert "1 to 255 bytes of text" in described["info"]["description"]
    item = described["components"]["schemas"]["FeedItem"]["properties"]["pin"]
    assert item == {"type": "string", "minLength": 1, "maxLength": 255, "description": "an id, as it was stated"}
    fingerprint = described["components"]["schemas"]["ModelVersion"]["properties"]["fingerprint"]
    assert fingerprint["pattern"] == "^[0-9a-f]{16}$"


def test_with_numbers_a_text_is_refused_as_before(tmp_path: Path) -> None:
    with serve_edge(tmp_path) as edge:
        assert "a string of digits" in edge.refused({"action": "save", "user": UUID, "pin": "1", "board": "1"})
        assert edge.http.get(f"/v1/pins/{UUID}").status_code == 400
        written(edge, {"action": "create_pin", "pin": "7", "title": "t"})
        assert names_of(edge) == []
