"""The JavaScript of docs/frontend.md, run by Node.js against an edge as it is written there."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from protos import feedgen_pb2 as pb
from services.core.errors import InvalidArgument
from tests.web.edge import Edge, serve_edge

PAGE = Path(__file__).parents[2] / "docs/frontend.md"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="NOT TESTED: the page's JavaScript. Install Node.js")
#: What a browser has and Node.js has not: observers that are called by hand.
BROWSER = """
const observers = [];
globalThis.IntersectionObserver = class {
  constructor(call) { this.call = call; this.left = []; observers.push(this); }
  observe() {}
  unobserve(target) { this.left.push(target); }
};
const added = [];
const addCard = (item) => added.push(item.pin);
"""


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with serve_edge(tmp_path) as edge:
        yield edge


def run(edge: Edge, does: str) -> Any:
    """What `does` leaves in `found`, after the page's code."""
    [block] = re.findall(
        r"^    const BASE = .*?^    \}\);[^\n]*end\.observe[^\n]*\n", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    code = dedent(block).replace("http://localhost:8080", str(edge.http.base_url))
    done = subprocess.run(
        [NODE or "", "--input-type=module", "-"],
        input=f"{BROWSER}\n{code}\nlet found;\n{does}\nconsole.log(JSON.stringify(found));",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_pages_follow_each_other_until_the_end(edge: Edge) -> None:
    edge.feedgen.reply = pb.FeedReply(items=[pb.Item(pin=7301)], cursor="bm90aGluZw")
    assert run(edge, "await observers[1].call([{ isIntersecting: true }]); found = [added, cursor];") == [
        ["7301"],
        "bm90aGluZw",
    ]
    edge.feedgen.reply = pb.FeedReply(items=[pb.Item(pin=7302)])
    assert run(
        edge, "cursor = 'bm90aGluZw'; found = [await nextPage(), await nextPage()].map((p) => p && p[0].pin);"
    ) == [
        "7302",
        None,
    ]
    request, _ = edge.feedgen.asked[-1]
    assert (request.user, request.feed, request.limit, request.cursor) == (1, "home", 25, "bm90aGluZw")


def test_an_old_cursor_begins_at_the_first_page(edge: Edge) -> None:
    edge.feedgen.error = InvalidArgument("cursor is of another version")
    said = run(edge, "cursor = 'b2xk'; try { await nextPage(); } catch (e) { found = [e.status, e.message, cursor]; }")
    assert [request.cursor for request, _ in edge.feedgen.asked] == ["b2xk", ""]
    assert said == [400, "cursor is of another version", ""]


def test_a_card_that_was_seen_is_reported_once_and_the_next_page_shows_it(edge: Edge) -> None:
    edge.feedgen.reply = pb.FeedReply(items=[pb.Item(pin=7301)])
    before = edge.events()
    found = run(
        edge,
        """const card = { dataset: { pin: "7301" } };
        observers[0].call([{ target: card, isIntersecting: true }, { target: {}, isIntersecting: false }]);
        while (!token) await pause(0.01);
        await report("save", "7301", { board: "5" });
        await nextPage();
        found = [observers[0].left.length, token.length > 0];""",
    )
    assert found == [1, True]
    assert edge.events() > before
    assert edge.feedgen.asked[-1][1], "the token of the latest write"


def test_ids_of_events_are_allowed_ones(edge: Edge) -> None:
    ids = [int(one) for one in run(edge, "found = Array.from({ length: 1000 }, newId);")]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0
    assert max(ids) < 2**64 - 2**20
