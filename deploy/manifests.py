"""The objects of Kubernetes for a mesh, as plain values: what every overlay shares. `generate.py` writes them down.

A zone has a StatefulSet of each stateful service, whose ordinals give shards, and Deployments of those whose number follows the
load. kustomize appends the zone to their names: apiary-a-0 is then the first process of apiary in zone a, as the
cluster file's rule has it.
"""

from collections.abc import Iterable
from typing import Any

from cli.plan_lines import read
from cli.pods import SCALED
from cli.schema import SCHEMA, SERVICES
from services.core.settings import MeshSettings, load
from services.ops.cluster import PER_SERVICE, ClusterSettings

Object = dict[str, Any]
DATA, BLOBS, FILES = "/var/lib/feedmesh", "/var/blobs", "/etc/feedmesh"
PART_OF, NAME, ZONE = "app.kubernetes.io/part-of", "app.kubernetes.io/name", "feedmesh-zone"
ALL = {PART_OF: "feedmesh"}
USER = 10001  # as in the Containerfile
HTTP_PORT = load(None, SCHEMA)["web"].http_port
HEALTH_PORT = 7390  # of every pod: kubelets know no TLS
DRAIN_S = 10
LEAVE_S = 15  # in which callers stop to ask a pod that its name no longer stands for
CLOSE_S = 15  # in which a store is closed
ALIVE_EVERY_S = 5
HANG_S = MeshSettings().hang_s
START_S = 600  # to open a large store
MAKES_MODELS = "learning"
KEEPS = tuple(name for name, of in read().services.items() if of.disk)  # on a disk of their own

#: Who calls whom. Views follow the log at roadrunner; web and the prober ask everybody, and so do commands.
STORES = ("apiary", "polaris", "aperture", "realpin", "counters", "rockstore", "smartfeed", "pixie", "scorpion")
FOLLOW = tuple(name for name in STORES if name != "pixie")
CALLS: dict[str, frozenset[str]] = {
    **{name: frozenset({"roadrunner"}) for name in FOLLOW},
    "pixie": frozenset(),
    "roadrunner": frozenset(),
    "realpin": frozenset({"roadrunner", "rockstore"}),
    "scorpion": frozenset({"roadrunner", "rockstore", "counters"}),
    "feedgen": frozenset({*STORES, "roadrunner"}),
    "prober": frozenset({*STORES, "roadrunner"}),
    "web": frozenset(SERVICES),
    MAKES_MODELS: frozenset(SERVICES),
}


def port(service: str) -> int:
    """The gRPC port of a service, as the cluster file's rule has it."""
    return ClusterSettings().port + PER_SERVICE * SERVICES.index(service)


def stateful_set(service: str) -> Object:
    """Of one zone. Its number of pods, resources and disk are the overlay's."""
    spec = {
        "serviceName": service,
        "podManagementPolicy": "Parallel",
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "selector": {"matchLabels": {NAME: service}},
        "template": _template(service),
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": _named(service), "spec": spec}


def deployment(service: str) -> Object:
    """Of one zone, of a service whose number follows the load."""
    spec = {
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": {NAME: service}},
        "template": _template(service),
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _named(service), "spec": spec}


def autoscaler(service: str) -> Object:
    """Of one zone; the overlay has the bounds. CPU is asked for at 60 % busy, and one is added when it is more than that."""
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service},
        "maxReplicas": 1,
        "metrics": [metric],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _named(service),
        "spec": spec,
    }


def headless(service: str) -> Object:
    """The name that stands for the pods of a zone. Callers find out by themselves whether a stateful one is ready."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": service not in SCALED,
        "selector": {NAME: service},
        "ports": [{"name": "grpc", "port": port(service), "targetPort": "grpc"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": _named(service), "spec": spec}


def _named(service: str) -> Object:
    return {"name": service, "labels": {NAME: service}}


def _template(service: str) -> Object:
    claims = ["data"] if service in KEEPS else []
    volumes: list[Object] = [
        {"name": "files", "configMap": {"name": "feedmesh"}},
        {"name": "secrets", "secret": {"secretName": "feedmesh", "optional": True}},
        {"name": "blobs", "persistentVolumeClaim": {"claimName": "feedmesh-blobs"}},
        *({"name": name, "emptyDir": {}} for name in ("data", "cache", "tmp") if name not in claims),
    ]
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {NAME: service}},
    }
    spec = {
        **_pod(),
        "terminationGracePeriodSeconds": DRAIN_S + CLOSE_S + (LEAVE_S if service in SCALED else 0),
        "topologySpreadConstraints": [spread],
        "containers": [_container(service)],
        "volumes": volumes,
    }
    return {"metadata": {"labels": {NAME: service}}, "spec": spec}


def _pod() -> Object:
    return {
        "serviceAccountName": "feedmesh",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _container(service: str) -> Object:
    ports = [{"name": "grpc", "containerPort": port(service)}]
    environment: list[Object] = [_zone()]
    if service in SCALED:
        environment.append({"name": "FEEDMESH_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
    if service == "web":
        ports.append({"name": "http", "containerPort": HTTP_PORT})

    def probe(of: str, every_s: int, failures: int) -> Object:
        return {
            "grpc": {"port": HEALTH_PORT, "service": of},
            "periodSeconds": every_s,
            "timeoutSeconds": every_s,
            "failureThreshold": failures,
        }

    leave = {"lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}}} if service in SCALED else {}
    return {
        **_program(service, ["serve", "--cluster", f"{FILES}/cluster.toml", "--service", service], environment),
        "ports": ports,
        "startupProbe": probe("alive", 2, START_S // 2),
        "readinessProbe": probe("", 2, 2),
        "livenessProbe": probe("alive", ALIVE_EVERY_S, round(HANG_S / ALIVE_EVERY_S)),
        **leave,
    }


def _zone() -> Object:
    return {"name": "FEEDMESH_ZONE", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{ZONE}']"}}}


def _program(name: str, words: list[str], environment: list[Object]) -> Object:
    """A container of the image, with what all of them have."""
    mounts = {"data": DATA, "files": FILES, "secrets": f"{FILES}-secrets", "blobs": BLOBS}
    return {
        "name": name,
        "image": "feedmesh",
        "args": words,
        "env": environment,
        "envFrom": [{"secretRef": {"name": "feedmesh-environment", "optional": True}}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            *({"name": name, "mountPath": path} for name, path in mounts.items()),
            {"name": "cache", "mountPath": "/var/cache/feedmesh"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def learning() -> Object:
    """Graph and model, made anew once a day and served if they are better (docs/machine-learning.md)."""
    data = f"{DATA}/data"
    resources = {"resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}}

    def step(name: str, *words: str) -> Object:
        return _program(name, [*words, "--data", data], [_zone()]) | resources

    pod = {
        **_pod(),
        "restartPolicy": "Never",
        "initContainers": [
            step("describe", "describe", "--cluster", f"{FILES}/cluster.toml"),
            step("graph", "graph", "build"),
        ],
        "containers": [step("model", "model", "train", "--promote", "--from", "replay")],
        "volumes": [
            {"name": "files", "configMap": {"name": "feedmesh"}},
            {"name": "secrets", "secret": {"secretName": "feedmesh", "optional": True}},
            {"name": "blobs", "persistentVolumeClaim": {"claimName": "feedmesh-blobs"}},
            *({"name": name, "emptyDir": {}} for name in ("data", "cache", "tmp")),
        ],
    }
    job = {"backoffLimit": 0, "template": {"metadata": {"labels": {NAME: MAKES_MODELS}}, "spec": pod}}
    spec = {"schedule": "30 3 * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": _named(MAKES_MODELS), "spec": spec}


def disruption_budget(service: str) -> Object:
    """Of all zones together: no two processes of a service are taken away at once, so no two replicas of a shard."""
    spec = {"maxUnavailable": "25%" if service in SCALED else 1, "selector": {"matchLabels": {**ALL, NAME: service}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _named(service), "spec": spec}


def network_policies() -> Iterable[Object]:
    """No pod may call another, but for DNS, for pages, and for what CALLS says."""
    names_port = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    kube_system = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    yield _policy("default", ALL, {"ingress": [], "egress": [{"to": [kube_system], "ports": names_port}]})
    for service, called in CALLS.items():
        callers = [caller for caller, of in CALLS.items() if service in of]
        rules: Object = {}
        if callers:
            rules["ingress"] = [{"from": [_pods(one) for one in callers], "ports": [{"port": port(service)}]}]
        if service == "web":
            rules["ingress"] = [*rules["ingress"], {"ports": [{"port": HTTP_PORT}]}]
        if called:
            ordered = [one for one in SERVICES if one in called]
            rules["egress"] = [{"to": [_pods(one)], "ports": [{"port": port(one)}]} for one in ordered]
        if rules:
            yield _policy(service, {**ALL, NAME: service}, rules)


def _pods(service: str) -> Object:
    return {"podSelector": {"matchLabels": {**ALL, NAME: service}}}


def _policy(name: str, pods: dict[str, str], rules: Object) -> Object:
    types = [kind.capitalize() for kind in ("ingress", "egress") if kind in rules]
    spec = {"podSelector": {"matchLabels": pods}, "policyTypes": types, **{k: v for k, v in rules.items() if v}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


def pages() -> Object:
    """The service that readers' requests come to, from whatever is in front."""
    spec = {
        "selector": {**ALL, NAME: "web"},
        "trafficDistribution": "PreferClose",
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": _named("web"), "spec": spec}


def shared() -> list[Object]:
    """What has no zone: account, blobs."""
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "20Gi"}}}
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "feedmesh"},
            "automountServiceAccountToken": False,
        },
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "feedmesh-blobs"}, "spec": claim},
    ]


def namespace() -> Object:
    """With the strictest of Kubernetes' standards for pods enforced."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "feedmesh", "labels": labels}}
