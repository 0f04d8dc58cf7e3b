"""The readings behind the table of where a page's time goes, and the search for the highest rate."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import stages
from bench.plain.comparing import FIRST_RATE, P99_MS, highest


def test_cpu_without_requests_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 15.0])
    readings: Iterator[dict[str, float]] = iter([{"a": 0.0, "b": 0.0}, {"a": 50.0, "b": 0.0}, {"a": 350.0, "b": 40.0}])
    monkeypatch.setattr(stages, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None))
    found = stages.of_a_page(lambda: next(readings), lambda: 20)
    assert found == {"a": (300 - 2 * 50) / 20, "b": 2.0}  # idle is 10 a second, and the pages took ten


def test_the_cpu_of_a_process_is_what_its_threads_had() -> None:
    """As the scheduler counts it: with what the machine beneath took away meanwhile, so at most the time that passed."""
    before, began, at = stages.cpu_ms({"this": os.getpid()})["this"], time.process_time(), time.perf_counter()
    while time.process_time() - began < 0.2:
        pass
    used, passed = (time.process_time() - began) * 1_000, (time.perf_counter() - at) * 1_000
    assert 0.75 * used <= stages.cpu_ms({"this": os.getpid()})["this"] - before <= 1.25 * max(used, passed)


def test_the_table_says_what_the_cores_leave_room_for(tmp_path: Path) -> None:
    measured = stages.PageCost({"feedgen": 15.0, "web": 5.0}, [stages.Stage("seen", "query", 2.0)], {"pixie": 2.0})
    found = {figure.what: figure.value for figure in stages.figures(measured, "a world")}
    assert found["CPU of a home page, all processes and the client"] == 20
    assert found["home pages a second that 2 cores leave room for"] == 100
    assert found["wall time of the query seen"] == 2
    assert found["RPCs of a home page, all services"] == 2
    assert stages.draw(measured, "a world", tmp_path / "stages.png").stat().st_size > 1_000


@pytest.mark.parametrize("limit", [3.0, 5.0, 37.0, 200.0])
def test_the_highest_rate_is_found_between_the_last_good_and_the_first_bad(limit: float) -> None:
    found = highest(lambda rate: P99_MS if rate <= limit else P99_MS + 1)
    assert found == 0 if limit < FIRST_RATE else limit * 15 / 16 <= found <= limit


def test_a_rate_that_fails_once_is_tried_again() -> None:
    asked: list[float] = []

    def p99_ms(rate: float) -> float:
        asked.append(rate)
        return P99_MS if rate <= 20 and asked.count(rate) > 1 else P99_MS + 1

    assert 20 * 15 / 16 <= highest(p99_ms) <= 20
