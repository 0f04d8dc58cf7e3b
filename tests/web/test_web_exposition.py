"""Metrics of many processes as one exposition."""

import grpc
from prometheus_client.parser import text_string_to_metric_families

from services.core.metrics import Metrics
from web.exposition import Families, up


def test_merged_metrics_are_valid_and_complete() -> None:
    families, texts = Families(), []
    for service, shard in (("apiary", 0), ("apiary", 1), ("web", 0)):
        metrics = Metrics(service, shard)
        metrics.gauge("resident_bytes", lambda: 5.0)
        if service == "web":
            metrics.gauge("only_here", lambda: 1.0)
        metrics.observe("GET /v1/feeds/{feed}", 0.01, grpc.StatusCode.OK)
        texts.append(metrics.prometheus().decode())
        families.add(texts[-1])
    families.add(up([("apiary", 0, 0, True), ("apiary", 0, 1, False), ("apiary", 1, 0, False)]))
    merged = list(text_string_to_metric_families(families.text()))
    assert len({family.name for family in merged}) == len(merged)
    assert families.text().count("# TYPE feedmesh_request_seconds histogram") == 1

    def samples(text: str) -> set[object]:
        return {
            (s.name, tuple(sorted(s.labels.items())), s.value)
            for f in text_string_to_metric_families(text)
            for s in f.samples
        }

    expected = set().union(
        *map(samples, texts), samples(up([("apiary", 0, 0, True), ("apiary", 0, 1, False), ("apiary", 1, 0, False)]))
    )
    assert samples(families.text()) == expected
