"""The models and their reports by real HTTP, over a real registry."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scorpion import registry
from scorpion.layout import promoted_file
from tests.scorpion.making import NAMES
from tests.web.edge import Edge, serve_edge
from tests.web.models import METRICS, REPORT, train


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with serve_edge(tmp_path / "data") as edge:
        yield edge


def listed(edge: Edge) -> list[dict[str, Any]]:
    """What the API says once scorpion has looked."""
    edge.models.refresh()
    answer = edge.http.get("/v1/models")
    assert answer.status_code == 200, answer.text
    models: list[dict[str, Any]] = answer.json()["models"]
    return models


def test_every_version_is_told_and_which_is_promoted(edge: Edge, tmp_path: Path) -> None:
    assert edge.http.get("/v1/models").json() == {"models": [], "rollback": None}
    data = edge.mesh.data
    first, second = train(data, tmp_path / "a"), train(data, tmp_path / "b", seed=2, report="")
    registry.promote(data, str(first))
    one, two = listed(edge)
    assert (one["name"], one["version"], one["promoted"], one["loaded"]) == ("ranker", 1, True, True)
    assert (two["version"], two["promoted"], two["loaded"]) == (2, False, False)
    assert (one["features"], one["trees"], one["metrics"]) == (list(NAMES), 12, METRICS)
    assert one["fingerprint"].isdigit()
    assert one["fingerprint"] != two["fingerprint"]
    assert (one["report"], two["report"]) == ("/models/ranker/1/report", None)
    registry.promote(data, str(second))
    assert [model["promoted"] for model in listed(edge)] == [False, True]
    assert edge.http.get("/v1/models").json()["rollback"] == "ranker@1"


def test_why_one_was_refused_is_told_and_what_served_goes_on(edge: Edge, tmp_path: Path) -> None:
    data = edge.mesh.data
    for draft in ("a", "b"):
        ref = train(data, tmp_path / draft)
    registry.promote(data, "ranker@1")
    listed(edge)
    (registry.folder_of(data, ref) / "model.txt").write_text("tree\nno model")
    promoted_file(data).write_text('{"promoted": "ranker@2", "before": ["ranker@1"]}')
    one, two = listed(edge)
    assert (one["promoted"], one["problem"]) == (True, "")
    assert (two["promoted"], two["loaded"]) == (False, False)
    assert "model.txt" in two["problem"]


def test_what_is_no_manifest_has_no_metrics(edge: Edge, tmp_path: Path) -> None:
    ref = train(edge.mesh.data, tmp_path / "a")
    (registry.folder_of(edge.mesh.data, ref) / "manifest.json").write_text('{"metrics": {"auc": "good"}}')
    (model,) = listed(edge)
    assert (model["metrics"], model["trees"]) == ({}, 0)
    assert "manifest.json" in model["problem"]


def test_a_report_may_show_and_do_nothing_else(edge: Edge, tmp_path: Path) -> None:
    train(edge.mesh.data, tmp_path / "a")
    answer = edge.http.get("/models/ranker/1/report")
    assert (answer.status_code, answer.text) == (200, REPORT)
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "img-src data:" in policy
    assert "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert edge.http.get("/models").headers["content-security-policy"].startswith("default-src 'self'")


NO_REPORTS = {
    "/models/ranker/2/report": 404,
    "/models/other/1/report": 404,
    "/models/ranker/0/report": 400,
    "/models/ranker/01/report": 400,
    "/models/ranker/%2e%2e/report": 400,
    "/models/%2e%2e/1/report": 400,
    "/models/..%2f..%2fsecret/1/report": 404,
    "/models/Ranker/1/report": 400,
    "/models/ranker/1/report?x=1": 400,
    "/models/ranker/1/model.txt": 404,
    f"/models/{'a' * 65}/1/report": 400,
}


def test_nothing_else_is_a_report(edge: Edge, tmp_path: Path) -> None:
    data = edge.mesh.data
    train(data, tmp_path / "a")
    for elsewhere in (data, data / "models", data / "models" / "ranker"):
        (elsewhere / "report.html").write_text("not this one")
    answers = {path: edge.http.get(path) for path in NO_REPORTS}
    assert {path: answer.status_code for path, answer in answers.items()} == NO_REPORTS
    assert all(answer.json()["error"]["message"] for answer in answers.values())


def test_a_link_leads_nowhere_else(edge: Edge, tmp_path: Path) -> None:
    ref = train(edge.mesh.data, tmp_path / "a", report="")
    secret = tmp_path / "secret.html"
    secret.write_text("secret")
    (registry.folder_of(edge.mesh.data, ref) / "report.html").symlink_to(secret)
    assert edge.http.get("/models/ranker/1/report").status_code == 404
    assert listed(edge)[0]["report"] is None


def test_without_scorpion_the_models_are_away_and_reports_are_not(edge: Edge, tmp_path: Path) -> None:
    train(edge.mesh.data, tmp_path / "a")
    edge.kill("scorpion")
    answer = edge.http.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["status"]) == (503, "UNAVAILABLE")
    assert edge.http.get("/models/ranker/1/report").status_code == 200
