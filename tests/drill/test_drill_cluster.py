"""The drill of a cluster, without one: what its client takes for a good page, its figures, its bounds and its table."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from tests.drill.cluster import table
from tests.drill.cluster.client import Balancer, Page, Written, wrong_with
from tests.drill.cluster.faults import FAULTS
from tests.drill.cluster.resharding import SHARDS, after
from tests.drill.cluster.rounds import extra, missed
from tests.drill.cluster.table import Round

PINS = [str(pin) for pin in range(10)]
STARTS = 1000.0


def page(after: float, took: float, status: int = 200, degraded: tuple[str, ...] = (), wrong: str = "") -> Page:
    """One that was due so many seconds after the fault began."""
    return Page(STARTS + after, STARTS + after + took, status, degraded, wrong)


def of(pages: list[Page], written: list[Written] | None = None) -> Round:
    figures = table.measured(
        pages, written or [], [(STARTS - 10, STARTS)], (STARTS, STARTS + 20), (STARTS + 3, STARTS + 20)
    )
    return Round(fault="slow", whole_s=1.0, extra_calls=0.01, load=2.0, between_bytes=0.0, problems=[], **figures)


@pytest.mark.parametrize(
    ("pins", "shown", "says"),
    [
        (PINS, (), ""),
        (PINS, ("77",), ""),
        (PINS[:9], (), "9 pins, not 10"),
        ([*PINS[:9], "0"], (), "comes twice"),
        (PINS, ("3", "4"), "2 pins were on an earlier page"),
    ],
)
def test_a_page_is_full_and_repeats_nothing(pins: list[str], shown: tuple[str, ...], says: str) -> None:
    found = wrong_with(pins, shown)
    assert says in found
    assert bool(found) == bool(says)


def test_figures_are_of_what_was_due_in_the_fault() -> None:
    pages = [page(-5 + i / 10, 0.1) for i in range(50)]  # healthy
    pages += [page(i / 10, 0.2) for i in range(98)]
    pages += [page(2, 0.5, status=0), page(3, 1.5, degraded=("seen", "fallback"))]
    pages += [page(30, 9.0, status=503)]  # after it
    found = of(pages)
    assert found.pages == 100
    assert found.availability == 0.99
    assert found.fell_back == found.degraded == 0.01
    assert found.recovery_s == pytest.approx(4.5), "when the last bad page was answered"
    assert found.healthy_p50 == pytest.approx(100)
    assert found.p50 == pytest.approx(200)
    assert of([page(1, 5.0), *pages[:50], page(4, 0.3)]).noticed_p99 == pytest.approx(300), "once it may be noticed"


def test_all_well_recovers_at_once() -> None:
    assert of([page(i, 0.1) for i in range(-5, 15)]).recovery_s == 0.0


def test_the_longest_time_without_a_write_counts_the_ends_of_the_fault() -> None:
    at = [1.0, 2.0, 9.0, 11.0]
    written = [Written(STARTS, STARTS + seconds) for seconds in at]
    assert of([], written).writes_away_s == pytest.approx(9.0)  # from 11 to the end
    assert of([], [*written, Written(STARTS, STARTS + 18)]).writes_away_s == pytest.approx(7.0)
    assert of([]).writes_away_s == pytest.approx(20.0)


def test_bounds_that_are_missed_are_named() -> None:
    [slow] = [fault for fault in FAULTS if fault.name == "slow"]
    well = of([page(i / 10, 0.1) for i in range(-50, 100)])
    assert missed(well, slow) == []
    late = of([page(i / 10, 0.1) for i in range(-50, 0)] + [page(i / 10, 0.4) for i in range(100)])
    late.extra_calls = 0.07
    said = missed(late, slow)
    assert len(said) == 2
    assert "P99 400 ms is more than 1.5 times 100 ms" in said[0]
    assert "7.0 % of calls" in said[1]


def test_calls_that_were_made_twice_are_a_share_of_all() -> None:
    made, again = 'feedmesh_calls_total{to="polaris"}', 'feedmesh_call_hedges_total{to="polaris"}'
    assert extra({made: 100, again: 10}, {made: 200, again: 12}) == pytest.approx(0.02)
    assert extra({made: 100, again: 10}, {made: 50, again: 1}) == pytest.approx(0.02), "the process began anew"
    assert extra({}, {}) == 0.0


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.what and fault.recovers_s <= 10 for fault in FAULTS)


def test_each_number_of_shards_comes_in_turn() -> None:
    found = [SHARDS[0]]
    for _ in SHARDS:
        found.append(after(found[-1]))
    assert set(found) == set(SHARDS)
    assert found[-1] == found[0]
    assert all(one != two for one, two in pairwise(found))


def test_the_table_has_a_cell_for_each_column() -> None:
    head, rule, row = table.markdown([of([page(1, 0.1)])]).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    assert table.shown([of([])]).row_count == 1


@pytest.fixture
def web() -> Iterator[str]:
    """Something that answers 200 to everything, over real HTTP."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def test_the_client_turns_to_another_web(web: str) -> None:
    away = "http://127.0.0.1:9"  # discard: nothing listens
    balancer = Balancer([away, web])
    try:
        for _ in range(4):
            answer = balancer.ask("GET", "/v1/feeds/home")
            assert answer is not None
            assert answer.status_code == 200
        assert balancer.order() == [web, away]
    finally:
        balancer.close()


def test_no_web_at_all_is_no_answer() -> None:
    balancer = Balancer(["http://127.0.0.1:9"])
    try:
        assert balancer.ask("GET", "/v1/feeds/home") is None
    finally:
        balancer.close()
