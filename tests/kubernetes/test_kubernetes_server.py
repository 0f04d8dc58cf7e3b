"""Every overlay on a real API server with its controllers (`make test-kubernetes`): pods, budgets, and the order of renewal."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.pods import SCALED
from cli.schema import SERVICES
from deploy.manifests import MAKES_MODELS, NAME
from tests.kubernetes.api import Api, Nodes, Object, control_plane, is_ready, missing, until
from tests.kubernetes.kustomizing import KUBERNETES, NAMES, objects

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
NAMESPACE = "feedmesh"
APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with control_plane(tmp_path_factory.mktemp("kubernetes")) as found:
        until(lambda: found.has("/api/v1/namespaces/default"), "the default namespace")
        yield found


def names_of(overlay: str) -> set[str]:
    """The pods of the stateful sets of an overlay."""
    sets = objects(overlay, "StatefulSet")
    return {f"{one['metadata']['name']}-{n}" for one in sets for n in range(one["spec"]["replicas"])}


def serving(pods: dict[str, Object]) -> dict[str, Object]:
    """All but those of the job that makes models, which is due once a day."""
    return {name: pod for name, pod in pods.items() if pod["metadata"]["labels"].get(NAME) != MAKES_MODELS}


def stateful(pods: dict[str, Object]) -> dict[str, Object]:
    return {name: pod for name, pod in serving(pods).items() if pod["metadata"]["labels"].get(NAME) not in SCALED}


@pytest.fixture(params=NAMES)
def applied(api: Api, request: pytest.FixtureRequest) -> Iterator[tuple[str, Nodes]]:
    """An overlay, applied, with all of its pods there and ready."""
    overlay = str(request.param)
    folder = KUBERNETES / "overlays" / overlay
    api.kubectl("apply", "--server-side", "-k", folder)
    least = sum(one["spec"]["minReplicas"] for one in objects(overlay, "HorizontalPodAutoscaler"))
    wanted = len(names_of(overlay)) + least

    def settled() -> bool:
        pods = serving(api.pods(NAMESPACE))
        return len(pods) == wanted and all(map(is_ready, pods.values()))

    with Nodes(api, NAMESPACE) as nodes:
        try:
            until(settled, lambda: sorted((name, is_ready(pod)) for name, pod in api.pods(NAMESPACE).items()))
            until(lambda: all(allowed(api, service) for service in SERVICES), "budgets are counted")
            yield overlay, nodes
        finally:  # pods end while there are nodes to end them
            nodes.go_on()
            api.kubectl("delete", "--wait", "--timeout=240s", "-k", folder)


def allowed(api: Api, service: str) -> int:
    """Pods of a service that may be evicted now."""
    budget = api.get(f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/{service}")
    return int(budget.get("status", {}).get("disruptionsAllowed", 0))


def renewed(api: Api) -> bool:
    """Whether every stateful pod has the newest form of its set."""
    pods, sets = api.pods(NAMESPACE), api.items(f"{APPS}/statefulsets")
    wanted = {one["metadata"]["name"]: one["status"].get("updateRevision") for one in sets}
    seen = all(one["status"].get("observedGeneration") == one["metadata"]["generation"] for one in sets)
    every = sum(one["spec"]["replicas"] for one in sets) == len(stateful(pods))
    return (
        seen
        and every
        and all(
            pod["metadata"]["labels"]["controller-revision-hash"] == wanted[name.rpartition("-")[0]] and is_ready(pod)
            for name, pod in stateful(pods).items()
        )
    )


def test_an_overlay_becomes_the_pods_that_the_cluster_file_names(api: Api, applied: tuple[str, Nodes]) -> None:
    overlay, nodes = applied
    pods = serving(api.pods(NAMESPACE))
    assert set(stateful(pods)) == names_of(overlay)
    claims = {one["metadata"]["name"] for one in api.items(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims")}
    kept = [
        f"data-{one['metadata']['name']}-{n}"
        for one in objects(overlay, "StatefulSet")
        if "volumeClaimTemplates" in one["spec"]
        for n in range(one["spec"]["replicas"])
    ]
    assert {*kept, "feedmesh-blobs"} <= claims
    for service in SCALED:
        assert sum(pod["metadata"]["labels"][NAME] == service for pod in pods.values()) >= 2

    # A second eviction of a service is refused while the first is not made good, in whichever zone it is.
    nodes.pause()
    several = [name for name, pod in pods.items() if pod["metadata"]["labels"][NAME] == "rockstore"]
    assert len(several) > 1 or overlay == "one-zone"
    first, *others = sorted(several)
    assert api.evict(NAMESPACE, first).status_code == 201
    for other in others:
        refused = api.evict(NAMESPACE, other)
        assert refused.status_code == 429, refused.text
        assert "disruption budget" in refused.text
    nodes.go_on()
    until(lambda: first in api.pods(NAMESPACE) and is_ready(api.pods(NAMESPACE)[first]), f"{first} comes again")
    until(lambda: allowed(api, "rockstore") == 1, "it may be evicted again")


def test_a_change_is_rolled_out_one_pod_of_a_service_after_the_other(api: Api, applied: tuple[str, Nodes]) -> None:
    overlay, nodes = applied
    before = {name: pod["metadata"]["uid"] for name, pod in stateful(api.pods(NAMESPACE)).items()}
    sets = [one["metadata"]["name"] for one in objects(overlay, "StatefulSet")]
    nodes.away.clear()
    for name in sets:
        container = name.rpartition("-")[0]
        api.kubectl("-n", NAMESPACE, "set", "image", f"statefulset/{name}", f"{container}=feedmesh:0.2.0")
    if overlay == "three-zones":

        def known() -> bool:
            found = api.items(f"{APPS}/statefulsets")
            return all(one["status"].get("updateRevision") != one["status"].get("currentRevision") for one in found)

        until(known, "the change is seen")
        assert {name: pod["metadata"]["uid"] for name, pod in stateful(api.pods(NAMESPACE)).items()} == before
        ran = roll(api)
        assert ran.returncode == 0, ran.stderr
        assert sorted(ran.stdout.split(" is renewed\n")[:-1]) == sorted(before)
    until(lambda: renewed(api), "all have the new form")
    after = {name: pod["metadata"]["uid"] for name, pod in stateful(api.pods(NAMESPACE)).items()}
    assert all(after[name] != before[name] for name in before)
    together = [away for away in nodes.away if len(away & set(before)) > 1 and overlay == "three-zones"]
    assert not together, "one after the other"
    for away in nodes.away:
        services = [name.split("-")[0] for name in away & set(before)]
        assert len(services) == len(set(services)), f"two of a service at once: {away}"


def roll(api: Api) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [KUBERNETES / "roll", NAMESPACE, "60"]
    environment = os.environ | {"KUBECONFIG": str(api.config)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)


def test_a_namespace_takes_no_pod_with_more_rights(api: Api) -> None:
    """The standard `restricted` is enforced, so what the other test starts keeps to it."""
    api.kubectl("create", "namespace", "strict")
    api.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    refused = api.kubectl("-n", "strict", "run", "any", "--image=feedmesh", ok=False)
    assert refused.returncode
    assert "violates PodSecurity" in refused.stderr
