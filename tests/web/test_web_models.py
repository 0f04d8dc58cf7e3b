"""The models and their reports by real HTTP, over a real registry."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scorpion import keys, layout, registry
from services.ops.learning import Learning, learning_file, save
from tests.scorpion.making import NAMES
from tests.web.edge import Edge, serve_edge
from tests.web.models import METRICS, REPORT, train


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with serve_edge(tmp_path / "data") as edge:
        yield edge


def listed(edge: Edge) -> list[dict[str, Any]]:
    """The API's answer once scorpion has looked."""
    edge.models.refresh()
    answer = edge.http.get("/v1/models")
    assert answer.status_code == 200, answer.text
    models: list[dict[str, Any]] = answer.json()["models"]
    return models


def test_every_version_is_told_and_which_is_promoted(edge: Edge, tmp_path: Path) -> None:
    nothing = edge.http.get("/v1/models").json()
    assert (nothing["models"], nothing["rollback"], nothing["learning"]["state"]) == ([], None, "off")
    data = edge.mesh.data
    first, second = train(data, tmp_path / "a"), train(data, tmp_path / "b", seed=2, report="")
    registry.promote(data, str(first))
    one, two = listed(edge)
    assert (one["name"], one["version"], one["promoted"], one["loaded"]) == ("ranker", 1, True, True)
    assert (two["version"], two["promoted"], two["loaded"]) == (2, False, False)
    assert (one["features"], one["trees"], one["metrics"]) == (list(NAMES), 12, METRICS)
    assert re.fullmatch("[0-9a-f]{16}", one["fingerprint"])
    assert one["fingerprint"] != two["fingerprint"]
    assert (one["report"], two["report"]) == ("/models/ranker/1/report", None)
    registry.promote(data, str(second))
    assert [model["promoted"] for model in listed(edge)] == [False, True]
    assert edge.http.get("/v1/models").json()["rollback"] == "ranker@1"


def test_how_a_model_did_beside_baselines_is_shown(edge: Edge, tmp_path: Path) -> None:
    """The edge answers every field that training writes, also one that is added later."""
    figure = layout.MetricMean(value=0.2, low=0.1, high=0.3, requests=40)
    found = layout.Evaluation(
        metric="ndcg@10", requests=40, users=30, methods={"model": {"ndcg@10": figure}, "light": {"ndcg@10": figure}},
        best_baseline="light", difference=figure, verdict=layout.Verdict.BETTER, needed_requests=12, words="better",
        from_ms=7, serving=layout.Comparison(model="ranker@1", difference=figure, users=30, note="of pages seen"),
    )  # fmt: skip
    train(edge.mesh.data, tmp_path / "a")
    assert listed(edge)[0]["evaluation"] is None
    manifest = layout.read_json(tmp_path / "a" / layout.MANIFEST, layout.ModelManifest)
    manifest.evaluation = found
    layout.write_json(tmp_path / "a" / layout.MANIFEST, manifest)
    registry.push(tmp_path / "a", edge.mesh.data)
    assert listed(edge)[1]["evaluation"] == msgspec.to_builtins(found)


def test_how_far_a_model_in_the_making_is_is_shown(edge: Edge) -> None:
    at = learning_file(edge.mesh.data)
    state = Learning(state="running", stage="training", fraction=0.5, since_ms=7, events=99)
    save(state, at)
    said = edge.http.get("/v1/models").json()["learning"]
    assert said == {
        "state": "running", "stage": "training", "fraction": 0.5, "since_ms": 7, "ended_ms": 0, "message": "", "model": "",
    }  # fmt: skip
    at.write_text('{"state": "dreaming"}')
    assert edge.http.get("/v1/models").json()["learning"]["state"] == "off"


def test_why_one_was_refused_is_told_and_what_served_goes_on(edge: Edge, tmp_path: Path) -> None:
    data = edge.mesh.data
    for draft in ("a", "b"):
        ref = train(data, tmp_path / draft)
    registry.promote(data, "ranker@1")
    listed(edge)
    (registry.folder_of(data, ref) / "model.txt").write_text("tree\nno model")
    (data / keys.PROMOTED).write_text('{"promoted": "ranker@2", "before": ["ranker@1"]}')
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


def test_a_report_that_is_missing_is_said_to_be_missing_of_what(edge: Edge, tmp_path: Path) -> None:
    train(edge.mesh.data, tmp_path / "a", report="")
    said = {
        ref: edge.http.get(f"/models/{ref}/report").json()["detail"] for ref in ("ranker/1", "ranker/2", "nosuch/1")
    }
    assert said == {
        "ranker/1": "model ranker@1: it has no report; `feedmesh model train` writes one",
        "ranker/2": "model ranker@2: there is none; ranker has the versions 1",
        "nosuch/1": "model nosuch@1: there is none of this name",
    }


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


def judged_worse(draft: Path) -> layout.Evaluation:
    """A model's manifest, changed so that training found it worse than a baseline."""
    figure = layout.MetricMean(value=-0.1, low=-0.2, high=-0.05, requests=90)
    methods = {
        name: {"ndcg@10": layout.MetricMean(value=value, requests=90)}
        for name, value in (("model", 0.1), ("light", 0.2))
    }
    found = layout.Evaluation(
        metric="ndcg@10", requests=90, users=40, methods=methods, best_baseline="light", difference=figure,
        verdict=layout.Verdict.WORSE, needed_requests=12, words="worse",
    )  # fmt: skip
    manifest = layout.read_json(draft / layout.MANIFEST, layout.ModelManifest)
    manifest.evaluation = found
    layout.write_json(draft / layout.MANIFEST, manifest)
    return found


def test_a_version_is_promoted_and_rolled_back(edge: Edge, tmp_path: Path) -> None:
    for draft in ("a", "b"):
        train(edge.mesh.data, tmp_path / draft, seed=1 + (draft == "b"))
    for version in (1, 2):
        answer = edge.http.post(f"/v1/models/ranker/{version}/promotion")
        assert (answer.status_code, answer.json()) == (200, {"model": f"ranker@{version}"}), answer.text
        assert [model["promoted"] for model in listed(edge)] == [version == 1, version == 2]
    assert edge.http.post("/v1/models/rollback").json() == {"model": "ranker@1"}
    assert [model["promoted"] for model in listed(edge)] == [True, False]
    nothing = edge.http.post("/v1/models/rollback")
    assert (nothing.status_code, "no model was served before" in nothing.text) == (404, True)


def test_what_may_not_rank_is_refused_with_the_reason_and_nothing_changed(edge: Edge, tmp_path: Path) -> None:
    data = edge.mesh.data
    train(data, tmp_path / "a")
    assert edge.http.post("/v1/models/ranker/1/promotion").status_code == 200
    train(data, tmp_path / "b", seed=2)
    judged_worse(tmp_path / "b")
    ref = registry.push(tmp_path / "b", data)
    refused = edge.http.post(f"/v1/models/ranker/{ref.version}/promotion")
    assert refused.status_code == 400
    assert "worse than a baseline, light" in refused.json()["error"]["message"]
    damaged = registry.folder_of(data, registry.Ref("ranker", 2)) / "model.txt"
    damaged.write_text("no model")
    assert edge.http.post("/v1/models/ranker/2/promotion").status_code == 400
    for path in ("ranker/99", "nothing/1"):
        assert edge.http.post(f"/v1/models/{path}/promotion").status_code == 404
    for path in ("Ranker/1", "ranker/0", "ranker/1x"):
        assert edge.http.post(f"/v1/models/{path}/promotion").status_code == 400
    assert registry.promoted(data).promoted == "ranker@1"
    forced = edge.http.post(f"/v1/models/ranker/{ref.version}/promotion", params={"force": "true"})
    assert (forced.status_code, forced.json()) == (200, {"model": str(ref)})
