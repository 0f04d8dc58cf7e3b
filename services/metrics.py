"""What a process measures: calls by method and code for Prometheus, and the last minute's QPS, P50 and P99."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable

import grpc
import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

WINDOW_S = 60.0
KEPT = 4096  # latencies a method
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
NOT_ERRORS = {"OK", "NOT_FOUND", "INVALID_ARGUMENT"}  # the last two are the caller's mistakes


class _Ring:
    """The latest latencies of one method, with when each ended."""

    def __init__(self) -> None:
        self.ended = np.full(KEPT, -np.inf)
        self.seconds = np.zeros(KEPT)
        self.calls = 0
        self.errors = 0

    def add(self, ended: float, seconds: float, error: bool) -> None:
        slot = self.calls % KEPT
        self.ended[slot], self.seconds[slot] = ended, seconds
        self.calls += 1
        self.errors += error


class Window:
    """Of one method, over the last minute or the last 4,096 calls, whichever is shorter."""

    def __init__(self, ring: _Ring, now: float) -> None:
        recent = ring.ended > now - WINDOW_S
        self.calls, self.errors = ring.calls, ring.errors
        self.qps = self.p50_ms = self.p99_ms = 0.0
        if recent.any():
            span = WINDOW_S if recent.sum() < KEPT else max(now - ring.ended.min(), 0.001)
            self.qps = float(recent.sum() / span)
            p50, p99 = np.percentile(ring.seconds[recent], (50, 99))
            self.p50_ms, self.p99_ms = float(p50 * 1000), float(p99 * 1000)


class Metrics:
    """Of one process. Thread-safe."""

    def __init__(self, service: str, shard: int) -> None:
        self.registry = CollectorRegistry()
        labels = {"service": service, "shard": str(shard)}
        self._labels = labels
        self._seconds = Histogram(
            "feedmesh_request_seconds",
            "Time to answer a request",
            ["service", "shard", "method"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self._calls = Counter(
            "feedmesh_requests", "Requests answered", ["service", "shard", "method", "code"], registry=self.registry
        )
        self._rings: dict[str, _Ring] = defaultdict(_Ring)
        self._counters: dict[tuple[str, grpc.StatusCode], tuple[Histogram, Counter]] = {}
        self._lock = threading.Lock()
        self._gauges: dict[str, Callable[[], float]] = {}
        self.registry.register(self)

    def observe(self, method: str, seconds: float, code: grpc.StatusCode) -> None:
        """One request was answered."""
        with self._lock:
            self._rings[method].add(time.monotonic(), seconds, code.name not in NOT_ERRORS)
            counters = self._counters.get((method, code)) or self._counters_of(method, code)
        counters[0].observe(seconds)
        counters[1].inc()

    def _counters_of(self, method: str, code: grpc.StatusCode) -> tuple[Histogram, Counter]:
        """Looked up once: to find a labelled child costs more than to count."""
        found = (
            self._seconds.labels(**self._labels, method=method),
            self._calls.labels(**self._labels, method=method, code=code.name),
        )
        self._counters[method, code] = found
        return found

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Tell `read()` under feedmesh_<name> whenever somebody asks."""
        self._gauges[name] = read

    def gauges(self) -> dict[str, float]:
        """Every gauge as it stands."""
        return {name: float(read()) for name, read in self._gauges.items()}

    def windows(self) -> dict[str, Window]:
        """The last minute of each method."""
        now = time.monotonic()
        with self._lock:
            return {method: Window(ring, now) for method, ring in self._rings.items()}

    def collect(self) -> list[Metric]:
        """The gauges, as the Prometheus registry asks for them."""
        families: list[Metric] = []
        for name, value in self.gauges().items():
            family = GaugeMetricFamily(f"feedmesh_{name}", name.replace("_", " "), labels=list(self._labels))
            family.add_metric(list(self._labels.values()), value)
            families.append(family)
        return families

    def prometheus(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
