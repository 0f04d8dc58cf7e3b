"""The API by real HTTP, over real services."""

from collections.abc import Iterator

import pytest

from protos import events_pb2
from protos import feedgen_pb2 as pb
from services.core import tokens
from services.core.errors import (
    DeadlineExceeded,
    Exhausted,
    InvalidArgument,
    NotReady,
    OutOfRange,
    Unavailable,
    Unimplemented,
)
from services.core.events import RESERVED_FROM, Action, Batch
from tests.web.edge import Edge, serve_edge

WORLD = [
    {"action": "create_pin", "pin": "7301", "title": "Tomatoes", "link": "https://example.org/t", "interests": ["12"]},
    {"action": "update_pin", "pin": "7301", "quality": 0.82},
    {"action": "name_interest", "target": "12", "title": "cooking"},
    {"action": "name_user", "user": "42", "title": "Ola Nordmann"},
    {"action": "name_user", "user": "77", "title": "Inês Duarte"},
    {"action": "create_board", "user": "42", "board": "512", "title": "To try"},
    {"action": "create_board", "user": "77", "board": "410", "title": "Summer kitchen"},
    {"action": "follow_user", "user": "42", "target": "77"},
    {"action": "follow_board", "user": "42", "board": "410"},
    {"action": "follow_interest", "user": "42", "target": "12"},
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with serve_edge(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


@pytest.fixture
def edge(served: Edge) -> Edge:
    served.feedgen.error, served.feedgen.reply = None, pb.FeedReply()
    served.feedgen.asked.clear()
    return served


@pytest.fixture(scope="module")
def written(served: Edge) -> str:
    answer = served.post({"events": WORLD})
    assert answer.status_code == 202, answer.text
    assert answer.json()["accepted"] == len(WORLD)
    return str(answer.json()["token"])


def test_what_was_written_is_read(edge: Edge, written: str) -> None:
    pin = edge.http.get("/v1/pins/7301", params={"token": written}).json()
    assert (pin["pin"], pin["interests"], pin["quality"]) == ("7301", [{"id": "12", "name": "cooking"}], 0.82)
    user = edge.http.get("/v1/users/42", params={"token": written}).json()
    assert user["name"] == "Ola Nordmann"
    assert user["follows"] == {
        "users": [{"id": "77", "name": "Inês Duarte"}],
        "boards": [{"id": "410", "title": "Summer kitchen"}],
        "interests": [{"id": "12", "name": "cooking"}],
    }
    assert user["boards"] == [{"id": "512", "title": "To try"}]
    assert user["counts"] == {"users": 1, "followed_boards": 1, "interests": 1, "boards": 1}


def test_users_are_listed_and_found(edge: Edge, written: str) -> None:
    edge.http.get("/v1/users/42", params={"token": written})
    first = edge.http.get("/v1/users", params={"limit": 1}).json()
    assert first == {"users": [{"user": "42", "name": "Ola Nordmann", "followers": 0}], "next": "42", "degraded": []}
    second = edge.http.get("/v1/users", params={"after": first["next"]}).json()
    assert (second["users"], second["next"]) == ([{"user": "77", "name": "Inês Duarte", "followers": 1}], None)
    for q in ("inês", "DUAR", "77"):
        assert [u["user"] for u in edge.http.get("/v1/users", params={"q": q}).json()["users"]] == ["77"]
    both = edge.http.get("/v1/users", params={"q": "a", "limit": 1}).json()
    assert ([u["user"] for u in both["users"]], both["next"]) == (["42"], "42")
    exact = edge.http.get("/v1/users", params={"q": "77", "limit": 1}).json()
    assert ([u["user"] for u in exact["users"]], exact["next"]) == (["77"], None)
    assert edge.http.get("/v1/users", params={"q": "nobody"}).json()["users"] == []


def test_R28_a_board_of_another_is_not_among_a_users_own(edge: Edge, written: str) -> None:
    taken = {"action": "create_board", "board": "512", "user": "77", "title": "Taken"}
    own = {"action": "create_board", "board": "513", "user": "77", "title": "Own"}
    token = edge.post({"events": [taken, own, {"action": "delete_board", "board": "512", "user": "99"}]}).json()[
        "token"
    ]
    stranger = edge.http.get("/v1/users/77", params={"token": token}).json()
    before = [{"id": "410", "title": "Summer kitchen"}]
    assert (stranger["boards"], stranger["counts"]["boards"]) == ([{"id": "513", "title": "Own"}, *before], 2)
    assert edge.http.get("/v1/users/42", params={"token": token}).json()["boards"] == [{"id": "512", "title": "To try"}]
    gone = edge.post({"action": "delete_board", "board": "513", "user": "77"}).json()["token"]
    assert edge.http.get("/v1/users/77", params={"token": gone}).json()["boards"] == before


def test_R04_a_name_is_emptied(edge: Edge, written: str) -> None:
    for name in ("Some Name", "", "Again", None):
        event = {"action": "name_user", "user": "706", "title": name}
        token = edge.post(event).json()["token"]
        expected = "Again" if name is None else name
        assert edge.http.get("/v1/users/706", params={"token": token}).json()["name"] == expected
    edge.post({"action": "name_user", "user": "706", "title": ""})


def test_somebody_unknown_is_no_error(edge: Edge) -> None:
    user = edge.http.get(f"/v1/users/{RESERVED_FROM - 1}").json()
    assert (user["name"], user["boards"], user["follows"]["users"], user["followers"]) == ("", [], [], 0)


def test_a_feed_is_translated(edge: Edge, written: str) -> None:
    big = 2**64 - 2**30
    item = pb.Item(pin=big, title="t", board=410, board_title="b", owner=77, owner_name="n", score=0.5, at_ms=5)
    edge.feedgen.reply = pb.FeedReply(
        items=[item, pb.Item(pin=2)], cursor="c", degraded=["seen"], model="light", request_id="r", took_ms=1.5
    )
    page = edge.http.get("/v1/feeds/following", params={"user": big, "token": f"{written},{written}"}).json()
    assert page["items"][0]["pin"] == str(big)
    assert page["items"][0]["board"] == {"id": "410", "title": "b"}
    assert (page["items"][1]["board"], page["items"][1]["owner"]) == (None, None)
    assert (page["cursor"], page["degraded"], "xray" in page) == ("c", ["seen"], False)
    request, seen = edge.feedgen.asked[0]
    assert (request.user, request.feed, request.limit, request.explain) == (big, "following", 25, False)
    assert tokens.decode(seen) == tokens.decode(tokens.of_text(written))


def test_a_page_is_named_by_the_trace_of_its_request(edge: Edge) -> None:
    edge.http.get("/v1/feeds/home", params={"user": 1})
    edge.feedgen.error = Unavailable("no page")
    fallen = edge.http.get("/v1/feeds/home", params={"user": 1}).json()
    first, second = edge.feedgen.traces[-2:]
    assert first != second == fallen["request_id"], "feedgen, and the edge where feedgen makes no page"
    assert all(len(trace) == 32 for trace in (first, second))


def test_an_xray_comes_only_when_asked_for(edge: Edge) -> None:
    edge.feedgen.reply = pb.FeedReply(xray=b'{"stages":[1]}')
    page = edge.http.get("/v1/feeds/home", params={"user": 1, "explain": "true", "limit": 3, "cursor": "abc"}).json()
    assert (page["xray"], page["cursor"]) == ({"stages": [1]}, None)
    request, _ = edge.feedgen.asked[0]
    assert (request.explain, request.limit, request.cursor) == (True, 3, "abc")


@pytest.mark.parametrize(
    ("error", "http", "status"),
    [
        (InvalidArgument("cursor: forged"), 400, "INVALID_ARGUMENT"),
        (OutOfRange("gone"), 400, "OUT_OF_RANGE"),
        (Exhausted("full"), 429, "RESOURCE_EXHAUSTED"),
        (Unimplemented("no such method"), 501, "UNIMPLEMENTED"),
        (Unavailable("away"), 503, "UNAVAILABLE"),
        (NotReady("catching up"), 503, "FAILED_PRECONDITION"),
        (DeadlineExceeded("late"), 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_errors_keep_their_status(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, error: Exception, http: int, status: str
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("feedgen.client.FeedgenClient.feed", fail)
    answer = edge.http.get("/v1/feeds/home", params={"user": 1})
    assert (answer.status_code, answer.json()["error"]["status"]) == (http, status)
    assert str(error) in answer.json()["error"]["message"]
    assert ("retry-after" in answer.headers) == (http in (429, 503))


def test_what_feedgen_refuses_keeps_its_words(edge: Edge) -> None:
    edge.feedgen.error = InvalidArgument("cursor: forged")
    answer = edge.http.get("/v1/feeds/home", params={"user": 1})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "cursor: forged")


def test_a_feed_comes_without_feedgen(edge: Edge) -> None:
    edge.feedgen.error = Unavailable("away")
    answer = edge.http.get("/v1/feeds/following", params={"user": 1})
    assert (answer.status_code, "feedgen" in answer.json()["degraded"]) == (200, True)


@pytest.mark.parametrize(
    ("path", "http", "named"),
    [
        ("/v1/feeds/home?user=1&limit=0", 400, 'limit = "0" is not allowed'),
        ("/v1/feeds/home?user=1&limit=101", 400, "1 to 100"),
        ("/v1/feeds/home?user=1&limit=many", 400, 'limit = "many"'),
        ("/v1/feeds/home", 400, "user is missing"),
        ("/v1/feeds/home?user=x", 400, 'user = "x"'),
        ("/v1/feeds/home?user=1&user=2", 400, "user is stated twice; once is allowed"),
        ("/v1/feeds/home?user=1&us%65r=2", 400, "user is stated twice"),
        ("/v1/feeds/home?user=01", 400, 'user = "01" is not allowed: an id is 1 to 18446744073708503039'),
        ("/v1/feeds/home?user=%2B1", 400, 'user = "+1" is not allowed: an id is 1 to'),
        ("/v1/feeds/home?user=+1", 400, 'user = " 1" is not allowed: an id is 1 to'),
        ("/v1/feeds/home?user=1%0A", 400, 'user = "1\\n" is not allowed: an id is 1 to'),
        ("/v1/feeds/home?user=0", 400, 'user = "0" is not allowed: an id is 1 to'),
        (f"/v1/feeds/home?user={2**64 - 1}", 400, "ids from 18446744073708503040 on are the mesh's own; an id is 1 to"),
        (f"/v1/feeds/home?user={RESERVED_FROM}", 400, "are the mesh's own"),
        (f"/v1/users/{RESERVED_FROM}", 400, "are the mesh's own"),
        (f"/v1/pins/{RESERVED_FROM}", 400, "are the mesh's own"),
        (f"/v1/users?after={RESERVED_FROM}", 400, "are the mesh's own"),
        ("/v1/users?after=00", 400, 'after = "00" is not allowed'),
        ("/v1/users/01", 400, 'user = "01" is not allowed: an id is 1 to'),
        ("/v1/users?q=%ff", 400, "the query is not UTF-8"),
        ("/v1/users?limit=%2B5", 400, 'limit = "+5" is not allowed: a whole number, 1 to 100'),
        ("/v1/feeds/home?user=1&explain=maybe", 400, 'explain = "maybe" is not allowed: true or false'),
        (f"/v1/feeds/home?user=1&cursor={'a' * 32_001}", 400, "is not allowed: text of at most 32000 characters"),
        ("/v1/feeds/home?user=1&curser=2", 400, "curser is not known here; known are user, limit, cursor"),
        ("/v1/feeds/home?user=1&token=abc", 400, "token"),
        ("/v1/feeds/best?user=1", 404, "following, interest, picked, home"),
        ("/v1/users/me", 400, 'user = "me"'),
        ("/v1/users/0", 400, "user"),
        ("/v1/users?limit=1000", 400, "limit"),
        ("/v1/pins/18446744073709551616", 400, "pin"),
        ("/v1/pins/4040404", 404, "pin 4040404"),
        ("/v1/nothing", 404, "/docs has every route"),
        ("/v1/users/", 404, "Not Found"),
        ("/static/../web/app.py", 404, "Not Found"),
        ("/static/%2e%2e/app.py", 404, "Not Found"),
    ],
)
def test_what_is_asked_wrongly_is_named(edge: Edge, path: str, http: int, named: str) -> None:
    answer = edge.http.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (http, "application/problem+json")
    assert named in answer.json()["error"]["message"]


def test_a_wrong_method_says_which_are_right(edge: Edge) -> None:
    answer = edge.http.put("/v1/users")
    assert (answer.status_code, answer.json()["error"]["status"]) == (405, "INVALID_ARGUMENT")
    assert "GET" in answer.headers["allow"]


def test_all_or_nothing(edge: Edge, written: str) -> None:
    before = edge.events()
    good = {"user": 1, "action": "click", "pin": 5}
    assert edge.refused([good, {"user": 0, "action": "click", "pin": 5}]).startswith(
        "events[1].user = 0 is not allowed: an id is 1 to"
    )
    assert edge.refused([good, {"action": "click", "pin": 5}]) == "events[1].user is missing: click needs one"
    assert edge.refused([good, {**good, "at_ms": -5}]).startswith("events[1].at_ms = -5")
    assert edge.refused([good, {**good, "title": "x" * 3000}]).startswith("events[1].title: 3000 long")
    assert edge.refused([good, {**good, "action": "served"}]).startswith("events[1].action")
    assert edge.events() == before


def test_an_id_is_accepted_once(edge: Edge) -> None:
    event = {"user": 1, "action": "click", "pin": 5, "id": "123456"}
    assert [edge.post(event).json()["accepted"], edge.post(event).json()["accepted"]] == [1, 0]
    assert edge.post(event).json()["duplicates"] == 1


def test_a_takedown_works_on_a_pin_without_a_description(edge: Edge) -> None:
    answer = edge.http.delete("/v1/pins/999111")
    assert answer.status_code == 202
    pin = edge.http.get("/v1/pins/999111", params={"token": answer.json()["token"]}).json()
    assert (pin["taken_down"], pin["title"]) == (True, "")
    assert edge.http.delete(f"/v1/pins/{RESERVED_FROM}").status_code == 400
    assert edge.http.delete("/v1/pins/0").status_code == 400
    assert edge.http.delete("/v1/pins/1", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_a_save_takes_its_pins_quality(edge: Edge, written: str) -> None:
    edge.http.get("/v1/pins/7301", params={"token": written})
    edge.post([{"user": 42, "action": "save", "pin": pin, "board": 512} for pin in (7301, 5)]).raise_for_status()
    ends = {at: end.next - 1 for at, end in edge.log.ends().items() if at[0] == 1 and end.next}
    records = edge.log.read(dict(ends))
    batches = [Batch.of(events_pb2.Batch.FromString(r.batch)) for r in records]
    saved = {int(b.pin[i]): float(b.quality[i]) for b in batches for i in range(len(b)) if b.action[i] == Action.SAVE}
    assert saved[7301] == pytest.approx(0.82)
    assert saved[5] != saved[5]  # NaN: never stated
