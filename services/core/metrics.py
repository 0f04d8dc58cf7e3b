"""The metrics of a process: calls by method and code for Prometheus, and the last minute's QPS, P50 and P99.

A call is counted in about a microsecond, and becomes families of Prometheus when they are asked for: the client library's
own histograms and counters take ten times that, at every call of every service behind a page.
"""

import threading
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate

import grpc
import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.utils import floatToGoString

WINDOW_S = 60.0
KEPT = 4096  # latencies a method
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
NOT_ERRORS = {"OK", "NOT_FOUND", "INVALID_ARGUMENT"}  # the last two are the caller's mistakes
_LE = [*map(floatToGoString, BUCKETS), "+Inf"]  # as Prometheus writes upper bounds


class _Calls:
    """Of one method: its latest latencies with when each ended, how many calls took how long, and how each ended."""

    __slots__ = ("answers", "buckets", "calls", "created", "ended", "errors", "seconds", "sum")

    def __init__(self) -> None:
        self.ended, self.seconds = array("d", [-np.inf]) * KEPT, array("d", [0.0]) * KEPT
        self.calls = self.errors = 0
        self.buckets = [0] * len(_LE)
        self.sum = 0.0
        self.answers: dict[grpc.StatusCode, _Answers] = {}
        self.created = time.time()

    def add(self, seconds: float, code: grpc.StatusCode) -> None:
        answers = self.answers.get(code)
        if answers is None:
            answers = self.answers[code] = _Answers(code.name not in NOT_ERRORS)
        answers.count += 1
        slot = self.calls % KEPT
        self.ended[slot], self.seconds[slot] = time.monotonic(), seconds
        self.calls += 1
        self.errors += answers.errors
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class _Answers:
    """How often a method ended with one code. errors: whether that is an error of the service."""

    __slots__ = ("count", "created", "errors")

    def __init__(self, errors: bool) -> None:
        self.count, self.errors, self.created = 0, errors, time.time()


class _Histogram:
    """Of one series: how many durations were within each bucket, and their sum in seconds."""

    __slots__ = ("buckets", "created", "sum")

    def __init__(self) -> None:
        self.buckets, self.sum, self.created = [0] * len(_LE), 0.0, time.time()

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def add_to(self, family: Metric, labels: dict[str, str]) -> None:
        """Its samples."""
        for le, within in zip(_LE, accumulate(self.buckets), strict=True):
            family.add_sample(f"{family.name}_bucket", {**labels, "le": le}, float(within))
        for name, value in (("count", float(sum(self.buckets))), ("sum", self.sum), ("created", self.created)):
            family.add_sample(f"{family.name}_{name}", labels, value)


class Window:
    """Of one method, over the last minute or the last 4,096 calls, whichever is shorter."""

    def __init__(self, of: _Calls, now: float) -> None:
        ended = np.array(of.ended)
        recent = ended > now - WINDOW_S
        self.calls, self.errors = of.calls, of.errors
        self.qps = self.p50_ms = self.p99_ms = 0.0
        if recent.any():
            span = WINDOW_S if recent.sum() < KEPT else max(now - ended.min(), 0.001)
            self.qps = float(recent.sum() / span)
            p50, p99 = np.percentile(np.array(of.seconds)[recent], (50, 99))
            self.p50_ms, self.p99_ms = float(p50 * 1000), float(p99 * 1000)


class Metrics:
    """Of one process. Thread-safe."""

    def __init__(self, service: str, shard: int, replica: int = 0) -> None:
        """replica: a label unless it is the first."""
        self.registry = CollectorRegistry()
        self._labels = {"service": service, "shard": str(shard)} | ({"replica": str(replica)} if replica else {})
        self._methods: dict[str, _Calls] = {}
        self._lock = threading.Lock()
        self._gauges: dict[str, Callable[[], float]] = {}
        self._counters: dict[str, Counter[tuple[tuple[str, str], ...]]] = {}
        self._read_counters: dict[str, Callable[[], Iterable[tuple[dict[str, str], int]]]] = {}
        self._histograms: dict[str, dict[tuple[tuple[str, str], ...], _Histogram]] = {}
        self.registry.register(self)

    def observe(self, method: str, seconds: float, code: grpc.StatusCode) -> None:
        """One request was answered."""
        with self._lock:
            calls = self._methods.get(method)
            if calls is None:
                calls = self._methods[method] = _Calls()
            calls.add(seconds, code)

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Report `read()` under feedmesh_<name> in every answer."""
        self._gauges[name] = read

    def count(self, name: str, **labels: str) -> None:
        """One more of feedmesh_<name>_total with these labels, of which there must be few: each is a series."""
        with self._lock:
            self._counters.setdefault(name, Counter())[tuple(labels.items())] += 1

    def counter(self, name: str, read: Callable[[], Iterable[tuple[dict[str, str], int]]]) -> None:
        """Report feedmesh_<name>_total as `read()` has it: labels and counts, which never fall."""
        self._read_counters[name] = read

    def counted(self, name: str, **labels: str) -> int:
        """How many there were."""
        with self._lock:
            return self._counters.get(name, Counter())[tuple(labels.items())]

    def measure(self, name: str, seconds: float, **labels: str) -> None:
        """A duration, for the histogram feedmesh_<name> with these labels, of which there must be few: each is a series."""
        key = tuple(labels.items())
        with self._lock:
            of = self._histograms.setdefault(name, {})
            histogram = of.get(key)
            if histogram is None:
                histogram = of[key] = _Histogram()
            histogram.add(seconds)

    def gauges(self) -> dict[str, float]:
        """Every gauge as it stands."""
        return {name: float(read()) for name, read in list(self._gauges.items())}  # others may come meanwhile

    def windows(self) -> dict[str, Window]:
        """The last minute of each method."""
        now = time.monotonic()
        with self._lock:
            return {method: Window(calls, now) for method, calls in self._methods.items()}

    def collect(self) -> list[Metric]:
        """Everything, as the Prometheus registry asks for it."""
        with self._lock:
            families = self._requests()
            for name, counts in self._counters.items():
                total = Metric(f"feedmesh_{name}", name.replace("_", " "), "counter")
                for labels, n in counts.items():
                    total.add_sample(f"{total.name}_total", {**self._labels, **dict(labels)}, float(n))
                families.append(total)
            for name, histograms in self._histograms.items():
                family = Metric(f"feedmesh_{name}", name.replace("_", " "), "histogram")
                for labels, histogram in histograms.items():
                    histogram.add_to(family, {**self._labels, **dict(labels)})
                families.append(family)
        for name, read in list(self._read_counters.items()):
            total = Metric(f"feedmesh_{name}", name.replace("_", " "), "counter")
            for named, n in read():
                total.add_sample(f"{total.name}_total", {**self._labels, **named}, float(n))
            families.append(total)
        for name, value in self.gauges().items():
            gauge = GaugeMetricFamily(f"feedmesh_{name}", name.replace("_", " "), labels=list(self._labels))
            gauge.add_metric(list(self._labels.values()), value)
            families.append(gauge)
        return families

    def _requests(self) -> list[Metric]:
        seconds = Metric("feedmesh_request_seconds", "Time to answer a request", "histogram")
        requests = Metric("feedmesh_requests", "Requests answered", "counter")
        for method, calls in self._methods.items():
            labels = {**self._labels, "method": method}
            for le, within in zip(_LE, accumulate(calls.buckets), strict=True):
                seconds.add_sample(f"{seconds.name}_bucket", {**labels, "le": le}, float(within))
            for name, value in (("count", float(calls.calls)), ("sum", calls.sum), ("created", calls.created)):
                seconds.add_sample(f"{seconds.name}_{name}", labels, value)
            for code, answers in calls.answers.items():
                of_code = {**labels, "code": code.name}
                requests.add_sample(f"{requests.name}_total", of_code, float(answers.count))
                requests.add_sample(f"{requests.name}_created", of_code, answers.created)
        return [seconds, requests]

    def prometheus(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
