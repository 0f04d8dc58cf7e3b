"""The overlays of deploy/kubernetes, offline: they are those of the generator, valid, and agree with the code they run."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cli.pods import SCALED
from cli.schema import SCHEMA, SERVICES
from deploy import generate
from deploy.manifests import CALLS, MAKES_MODELS, NAME, STORES, ZONE, port
from deploy.overlays import plan_options, sizes
from services.core.settings import MeshSettings
from services.ops import cluster as clusters
from services.ops import cluster_rule
from services.ops.cluster import Cluster
from services.rpc.membership import Members
from tests.floors import imports
from tests.kubernetes.kustomizing import KUBECTL, KUBERNETES, MISSING, NAMES, ROOT, Object, objects, overlay_of, text_of

needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason=MISSING)
VERSIONS = ("1.34", "1.37")  # of Kubernetes


def cluster_of(name: str, tmp_path: Path) -> Cluster:
    """The overlay's cluster file; of a version that has no log on Kafka, without it."""
    path = KUBERNETES / "overlays" / name / "cluster.toml"
    if "log" not in MeshSettings.__struct_fields__:
        text = re.sub(r"(?m)^log = .*\n", "", path.read_text())
        path = tmp_path / "cluster.toml"
        path.write_text(text)
    return clusters.read(path, SCHEMA)


def pod_specs(found: list[Object]) -> Iterator[tuple[str, Object]]:
    for one in found:
        if one["kind"] in ("StatefulSet", "Deployment"):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]
        if one["kind"] == "CronJob":
            yield one["metadata"]["name"], one["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_the_committed_files_are_those_of_the_generator() -> None:
    made = generate.everything()
    there = {str(path.relative_to(KUBERNETES)): path.read_text() for path in KUBERNETES.rglob("*") if path.is_file()}
    assert sorted(made) == sorted(path for path in there if path.startswith(("base/", "overlays/")))
    assert [path for path in made if made[path] != there[path]] == [], "make manifests"


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_object_has_the_form_that_kubernetes_knows(name: str, version: str) -> None:
    validation = pytest.importorskip("kubernetes_validate", reason="NOT TESTED: the form of deploy/kubernetes")
    found = objects(name)
    assert len(found) > 50
    for one in found:
        validation.validate(one, version, strict=True)


@needs_kubectl
def test_an_object_of_another_form_is_refused() -> None:
    validation = pytest.importorskip("kubernetes_validate", reason="NOT TESTED: the form of deploy/kubernetes")
    one = objects("one-zone", "StatefulSet")[0]
    with pytest.raises(validation.ValidationError):
        validation.validate(one | {"spec": one["spec"] | {"replicas": "three"}}, VERSIONS[-1], strict=True)
    with pytest.raises(validation.ValidationError):
        validation.validate(one | {"spec": one["spec"] | {"replica": 3}}, VERSIONS[-1], strict=True)


@needs_kubectl
@pytest.mark.parametrize("name", NAMES)
def test_pods_have_the_names_and_ports_that_the_cluster_file_gives_them(name: str, tmp_path: Path) -> None:
    cluster = cluster_of(name, tmp_path)
    services = {one["metadata"]["name"]: one["spec"] for one in objects(name, "Service")}
    there = {}
    for one in objects(name, "StatefulSet"):
        service, spec = one["metadata"]["labels"][NAME], one["spec"]
        [container] = spec["template"]["spec"]["containers"]
        ports = {of["name"]: of["containerPort"] for of in container["ports"]}
        governing = services[spec["serviceName"]]
        assert governing["clusterIP"] == "None"
        assert governing["publishNotReadyAddresses"], "callers find out whether it is ready"
        assert {**governing["selector"]}.items() <= spec["template"]["metadata"]["labels"].items()
        for ordinal in range(spec["replicas"]):
            there[f"{one['metadata']['name']}-{ordinal}.{spec['serviceName']}:{ports['grpc']}"] = (
                service,
                spec["template"]["metadata"]["labels"][ZONE],
            )
    by_rule = {of.address: (of.service, of.zone) for of in cluster.processes if of.service not in SCALED}
    assert there == by_rule
    scaled = {of.address for of in cluster.processes if of.service in SCALED}
    names = {f"{service}-{zone}" for service in SCALED for zone in overlay_of(name).zones}
    assert scaled == {f"{one}:{services[one]['ports'][0]['port']}" for one in names}
    assert all(Members(cluster.processes).has_whole(service) for service in SERVICES)


@needs_kubectl
@pytest.mark.parametrize("name", NAMES)
def test_a_pod_finds_its_shard_by_its_ordinal(name: str, tmp_path: Path) -> None:
    cluster = cluster_of(name, tmp_path)
    assert cluster.rule is not None
    for one in objects(name, "StatefulSet"):
        service, zone = one["metadata"]["labels"][NAME], one["metadata"]["labels"][ZONE]
        places = [
            cluster_rule.own_place(cluster.sections, cluster.rule, service, zone, ordinal)
            for ordinal in range(one["spec"]["replicas"])
        ]
        assert {place.shard for place in places} == set(range(places[0].shards)), "every zone has all shards"


@needs_kubectl
@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_those_of_the_plan(name: str) -> None:
    overlay = overlay_of(name)
    planned = {of.service: of for of in sizes(overlay)}
    assert plan_options(overlay) in (KUBERNETES / "overlays" / name / "cluster.toml").read_text()
    seen = set()
    for one in (*objects(name, "StatefulSet"), *objects(name, "Deployment")):
        service = one["metadata"]["labels"][NAME]
        of, [container] = planned[service], one["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == {"cpu": f"{round(of.cpu * 1000)}m", "memory": f"{of.memory_mb}M"}
        if of.scaled:
            assert "replicas" not in one["spec"], "the autoscaler sets them"
        else:
            assert one["spec"]["replicas"] == of.a_zone
            claims = one["spec"].get("volumeClaimTemplates", [])
            disks = [claim["spec"]["resources"]["requests"]["storage"] for claim in claims]
            assert disks == ([f"{of.disk_gb}G"] if of.disk_gb else [])
        seen.add((service, one["metadata"]["labels"][ZONE]))
    assert len(seen) == sum(of.zones for of in planned.values())
    for one in objects(name, "HorizontalPodAutoscaler"):
        of = planned[one["metadata"]["labels"][NAME]]
        assert (one["spec"]["minReplicas"], one["spec"]["maxReplicas"]) == (of.a_zone, of.most)
        assert one["spec"]["scaleTargetRef"]["name"] == one["metadata"]["name"]


@needs_kubectl
@pytest.mark.parametrize("name", NAMES)
def test_pods_have_no_privilege_and_say_how_they_are(name: str) -> None:
    found = objects(name)
    assert len(list(pod_specs(found))) > 13
    for pod, spec in pod_specs(found):
        assert spec["securityContext"]["runAsNonRoot"], pod
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["automountServiceAccountToken"]
        volumes = {volume["name"] for volume in spec["volumes"]} | {"data"}
        for container in (*spec["containers"], *spec.get("initContainers", [])):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"], pod
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        if MAKES_MODELS in pod:
            continue
        [container] = spec["containers"]
        assert container["readinessProbe"]["grpc"]["service"] == "", "ready is caught up"
        assert container["livenessProbe"]["grpc"]["service"] == container["startupProbe"]["grpc"]["service"] == "alive"
        leaving = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain_s = 10
        assert spec["terminationGracePeriodSeconds"] > leaving + drain_s
        assert bool(leaving) == any(pod.startswith(service) for service in SCALED)


@needs_kubectl
@pytest.mark.parametrize("name", NAMES)
def test_a_budget_holds_each_service_over_all_zones(name: str, tmp_path: Path) -> None:
    budgets = {one["metadata"]["name"]: one["spec"] for one in objects(name, "PodDisruptionBudget")}
    assert set(budgets) == set(SERVICES)
    for one in (*objects(name, "StatefulSet"), *objects(name, "Deployment")):
        labels = one["spec"]["template"]["metadata"]["labels"]
        selectors = [n for n, b in budgets.items() if b["selector"]["matchLabels"].items() <= labels.items()]
        assert selectors == [labels[NAME]]
    assert cluster_of(name, tmp_path).sections["mesh"].drain_s == 10


def called(service: str) -> set[str]:
    """The services whose client, or whose log, the code of a service uses."""
    found = set()
    for path in (ROOT / service).rglob("*.py"):
        text = path.read_text()
        for _, module in imports(text):
            other = module.split(".")[0]
            if other in SERVICES and other != service and ".client." in f"{module}.":
                found.add(other)
        found |= {"roadrunner"} if re.search(r"\.open_reader\(|RoadrunnerClient", text) else set()
        found |= set(SERVICES) if "Probe(mesh" in text else set()
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_policies_let_through_the_calls_that_the_code_makes(service: str) -> None:
    assert called(service) - {service} <= CALLS[service]
    extra = CALLS[service] - called(service)
    assert extra <= {service} or service in ("feedgen", "prober"), f"{service} is let through to {extra} and calls none"


@needs_kubectl
@pytest.mark.parametrize("name", NAMES)
def test_only_those_calls_pass_the_network(name: str) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in objects(name, "NetworkPolicy")}
    default = policies["default"]
    assert set(default["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in default
    assert [rule["ports"][0]["port"] for rule in default["egress"]] == [53]
    for callee in SERVICES:
        callers = {
            peer["podSelector"]["matchLabels"][NAME]
            for rule in policies.get(callee, {}).get("ingress", [])
            for peer in rule.get("from", [])
            if rule["ports"] == [{"port": port(callee)}]
        }
        assert callers == {caller for caller, of in CALLS.items() if callee in of}
    opened = [rule for policy in policies.values() for rule in policy.get("ingress", []) if "from" not in rule]
    assert opened == [{"ports": [{"port": 8080}]}], "pages alone are for everybody"
    for caller, of in CALLS.items():
        to = {
            (peer["podSelector"]["matchLabels"][NAME], rule["ports"][0]["port"])
            for rule in policies.get(caller, {}).get("egress", [])
            for peer in rule["to"]
        }
        assert to == {(callee, port(callee)) for callee in of}


def test_an_overlay_of_ones_own_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--name ours --zones x,y --nodes eu-1,eu-2 --users 5000000 --pins 50000000 --edges 900000000 --feeds-per-second 3000"
    monkeypatch.setattr("sys.argv", ["generate", "--into", str(tmp_path), *words.split()])
    generate.main()
    cluster = clusters.read(tmp_path / "overlays" / "ours" / "cluster.toml", SCHEMA)
    assert max(of.shards for of in cluster.processes) > 2
    if KUBECTL is not None:
        found = [
            one for one in yaml.safe_load_all(text_of(tmp_path / "overlays" / "ours")) if one["kind"] == "StatefulSet"
        ]
        pods = sum(one["spec"]["replicas"] for one in found)
        assert pods == sum(of.service not in SCALED for of in cluster.processes)
        nodes = {one["spec"]["template"]["spec"]["nodeSelector"]["topology.kubernetes.io/zone"] for one in found}
        assert nodes == {"eu-1", "eu-2"}
    monkeypatch.setattr("sys.argv", ["generate", "--into", str(tmp_path), *words.replace("eu-1,", "").split()])
    with pytest.raises(SystemExit):
        generate.main()


def test_stores_are_all_that_keep_or_rank() -> None:
    assert set(STORES) == set(SERVICES) - {"roadrunner", "prober", *SCALED}
