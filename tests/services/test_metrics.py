"""The metrics of a process, against the numbers that went in."""

import threading
import time

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.core.metrics import BUCKETS, KEPT, Metrics

OK, INTERNAL = grpc.StatusCode.OK, grpc.StatusCode.INTERNAL


def test_a_window_has_the_calls_errors_and_percentiles_of_its_method() -> None:
    metrics = Metrics("apiary", 3)
    for ms in range(1, 101):
        metrics.observe("Followed", ms / 1000, OK)
    for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, INTERNAL, grpc.StatusCode.UNAVAILABLE):
        metrics.observe("Owned", 0.5, code)
    windows = metrics.windows()
    followed, owned = windows["Followed"], windows["Owned"]
    assert (followed.calls, followed.errors) == (100, 0)
    assert followed.p50_ms == pytest.approx(50.5)
    assert followed.p99_ms == pytest.approx(float(np.percentile(np.arange(1, 101), 99)))
    assert followed.qps == pytest.approx(100 / 60)
    assert (owned.calls, owned.errors) == (4, 2), "what the caller did wrong is no error of the service"
    assert (owned.p50_ms, owned.p99_ms) == (500, 500)


def test_what_is_older_than_a_minute_leaves_the_window_but_not_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    metrics = Metrics("apiary", 0)
    metrics.observe("Followed", 5.0, OK)
    now[0] += 59
    metrics.observe("Followed", 1.0, OK)
    assert metrics.windows()["Followed"].p99_ms > 1000
    now[0] += 2
    window = metrics.windows()["Followed"]
    assert (window.calls, window.p50_ms, window.qps) == (2, 1000, 1 / 60)
    now[0] += 60
    window = metrics.windows()["Followed"]
    assert (window.calls, window.p50_ms, window.p99_ms, window.qps) == (2, 0, 0, 0)


def test_more_calls_than_are_kept_are_counted_and_their_rate_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    metrics = Metrics("apiary", 0)
    for _ in range(3 * KEPT):
        now[0] += 0.001
        metrics.observe("Followed", 0.002, OK)
    window = metrics.windows()["Followed"]
    assert window.calls == 3 * KEPT
    assert window.qps == pytest.approx(1000, rel=0.01)


def test_prometheus_tells_calls_by_code_times_and_gauges() -> None:
    metrics, size = Metrics("apiary", 3), [7.0]
    metrics.gauge("size_bytes", lambda: size[0])
    metrics.observe("Followed", 0.003, OK)
    metrics.observe("Followed", 0.3, INTERNAL)
    size[0] = 8.0
    families = {f.name: f for f in text_string_to_metric_families(metrics.prometheus().decode())}
    assert metrics.gauges() == {"size_bytes": 8.0}
    (gauge,) = families["feedmesh_size_bytes"].samples
    assert (gauge.value, gauge.labels) == (8.0, {"service": "apiary", "shard": "3"})
    calls = {s.labels["code"]: s.value for s in families["feedmesh_requests"].samples if s.name.endswith("_total")}
    assert calls == {"OK": 1, "INTERNAL": 1}
    within = {
        s.labels["le"]: s.value for s in families["feedmesh_request_seconds"].samples if s.name.endswith("_bucket")
    }
    assert (within["0.002"], within["0.005"], within["+Inf"]) == (0, 1, 2)


def by_the_library(calls: list[tuple[str, float, grpc.StatusCode]]) -> bytes:
    """The samples of Prometheus' own histogram and counter for the same calls."""
    registry, labels = CollectorRegistry(), {"service": "apiary", "shard": "3"}
    names = [*labels, "method"]
    times = Histogram("feedmesh_request_seconds", "Time to answer a request", names, registry=registry, buckets=BUCKETS)
    answers = Counter("feedmesh_requests", "Requests answered", [*names, "code"], registry=registry)
    for method, seconds, code in calls:
        times.labels(**labels, method=method).observe(seconds)
        answers.labels(**labels, method=method, code=code.name).inc()
    return generate_latest(registry)


some_calls = st.lists(
    st.tuples(
        st.sampled_from(["Followed", "GET /v1/feeds/{feed}", 'a "quoted"\nname']),
        st.one_of(st.sampled_from([0.0, *BUCKETS]), st.floats(0, 20)),
        st.sampled_from(list(grpc.StatusCode)),
    ),
    max_size=50,
)


@given(some_calls)
def test_prometheus_reads_what_its_own_library_would_tell(calls: list[tuple[str, float, grpc.StatusCode]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: 1_700_000_000.5)  # the time when each was made is reported too
        metrics = Metrics("apiary", 3)
        for call in calls:
            metrics.observe(*call)
        ours, theirs = metrics.prometheus().decode(), by_the_library(calls).decode()
    assert sorted(ours.splitlines()) == sorted(theirs.splitlines())
    assert [line for line in ours.splitlines() if line[0] == "#"] == [
        line for line in theirs.splitlines() if line[0] == "#"
    ]


def test_threads_lose_no_call() -> None:
    metrics = Metrics("apiary", 0)

    def call() -> None:
        for i in range(500):
            metrics.observe(f"M{i % 3}", 0.001, OK)

    threads = [threading.Thread(target=call) for _ in range(8)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.windows()
    assert sum(window.calls for window in metrics.windows().values()) == 4_000
    assert time.monotonic() - started < 60


def test_what_is_counted_by_labels_is_a_counter_of_prometheus() -> None:
    metrics = Metrics("feedgen", 2)
    for stage, cause in (("seen", "unavailable"), ("seen", "unavailable"), ("ranked", "fault")):
        metrics.count("stage_losses", stage=stage, cause=cause)
    assert metrics.counted("stage_losses", stage="seen", cause="unavailable") == 2
    assert metrics.counted("stage_losses", stage="never", cause="fault") == 0
    lines = metrics.prometheus().decode().splitlines()
    assert "# TYPE feedmesh_stage_losses_total counter" in lines
    assert 'feedmesh_stage_losses_total{cause="fault",service="feedgen",shard="2",stage="ranked"} 1.0' in lines


def test_durations_by_labels_are_a_histogram_of_prometheus() -> None:
    metrics = Metrics("feedgen", 0)
    for seconds in (0.0004, 0.001, 0.3, 60.0):
        metrics.measure("feed_phase_seconds", seconds, feed="home", phase="slate")
    metrics.measure("feed_phase_seconds", 0.01, feed="picked", phase="slate")
    families = {family.name: family for family in text_string_to_metric_families(metrics.prometheus().decode())}
    family = families["feedmesh_feed_phase_seconds"]
    of_home = [sample for sample in family.samples if sample.labels.get("feed") == "home"]
    within = {sample.labels["le"]: sample.value for sample in of_home if sample.name.endswith("_bucket")}
    assert family.type == "histogram"
    assert (within["0.0005"], within["0.001"], within["0.2"], within["0.5"], within["+Inf"]) == (1, 2, 2, 3, 4)
    assert {sample.value for sample in of_home if sample.name.endswith("_count")} == {4}
    assert [sample.value for sample in of_home if sample.name.endswith("_sum")] == [pytest.approx(60.3014)]
    assert all(sample.labels["service"] == "feedgen" for sample in of_home)
