"""What an overlay adds to the base: its zones, the cluster file, and numbers and sizes by the plan for its load."""

from collections.abc import Iterator
from typing import NamedTuple

from cli.plan_lines import Line, load_of, planned, read
from cli.pods import Pods, pods
from cli.schema import SERVICE_SETTINGS, SERVICES
from deploy.manifests import BLOBS, DATA, DRAIN_S, HEALTH_PORT, NAME, ZONE, Object
from services.core.settings import MeshSettings


class Overlay(NamedTuple):
    """users to feeds_per_second: the load that it is for; log: where the log is, if not in roadrunner; nodes: the value of the
    nodes' label topology.kubernetes.io/zone for each zone, none where there is one zone.
    """

    name: str
    zones: tuple[str, ...]
    users: int
    pins: int
    edges: int
    feeds_per_second: float
    log: str = ""
    nodes: tuple[str, ...] = ()


EMBEDDED, ON_KAFKA = MeshSettings(), MeshSettings(log="kafka://any:9092/any")
IN_THE_FIRST = tuple(name for name in SERVICES if SERVICE_SETTINGS[name].single(ON_KAFKA))
WITH_THE_LOG = tuple(  # in the first zone; with the log on Kafka, in all of them
    name for name in SERVICES if SERVICE_SETTINGS[name].single(EMBEDDED) and name not in IN_THE_FIRST
)
EVERYWHERE = tuple(name for name in SERVICES if name not in (*IN_THE_FIRST, *WITH_THE_LOG))
ONE_ZONE = Overlay("one-zone", ("a",), 100_000, 1_000_000, 10_000_000, 50)
THREE_ZONES = Overlay(
    "three-zones",
    ("a", "b", "c"),
    1_000_000,
    10_000_000,
    100_000_000,
    500,
    log="kafka://kafka-bootstrap.kafka.svc:9092/feedmesh",
    nodes=("zone-a", "zone-b", "zone-c"),
)
OVERLAYS = (ONE_ZONE, THREE_ZONES)
FOLLOWS, EVENTS, MACHINE, CORES = 50, 500, 64e9, 16  # as `feedmesh plan` has them


def sizes(overlay: Overlay) -> list[Pods]:
    """The pods of an overlay, as `feedmesh plan --zones` has them."""
    users, pins, edges = overlay.users, overlay.pins, overlay.edges
    load = load_of(users, pins, edges, overlay.feeds_per_second, FOLLOWS, EVENTS, MACHINE, CORES)
    lines: list[Line] = planned(read(), load)
    return pods(lines, len(overlay.zones), ON_KAFKA if overlay.log else EMBEDDED)


def cluster_file(overlay: Overlay) -> str:
    """The cluster file, from which every process knows who it is and where the others are."""
    load = (
        f"{overlay.users:,} users, {overlay.pins:,} pins, {overlay.edges:,} saves, {overlay.feeds_per_second:g} pages/s"
    )
    lines = [
        f"# For {load}.",
        f"# Shards: feedmesh plan {plan_options(overlay)}",
        "[cluster]",
        "insecure = true                 # without TLS; docs/kubernetes.md has it. The network policies say who may call whom",
        "",
        "[rule]",
        f"zones = [{', '.join(map(_quoted, overlay.zones))}]".ljust(31)
        + " # new ones come last: their order numbers replicas",
        "",
        "[mesh]",
        f'data = "{DATA}/data"',
        f'blobs = "file://{BLOBS}"'.ljust(31) + " # the volume that all pods share",
        "unix_sockets = false",
        f"drain_s = {DRAIN_S:.1f}",
        f"health_port = {HEALTH_PORT}".ljust(31) + " # which probes ask",
    ]
    if overlay.log:
        lines.append(f"log = {_quoted(overlay.log)}   # made by `feedmesh log init`")
    most = max(of.shards for of in sizes(overlay))
    if most > MeshSettings().partitions:
        lines.append(f"partitions = {most}".ljust(31) + " # fixed once data has been written")
    lines += [
        "",
        "[web]",
        'allowed_hosts = ["web"]'.ljust(31) + " # and the names by which readers come, such as feeds.example.org",
        "",
        "[learning]",
        "first = false".ljust(31) + " # the job `learning` makes models",
    ]
    return "\n".join([*lines, *_layouts(overlay)]) + "\n"


def plan_options(overlay: Overlay) -> str:
    """The options of `feedmesh plan` that print the numbers of an overlay."""
    return (
        f"--users {overlay.users} --pins {overlay.pins} --edges {overlay.edges} "
        f"--feeds-per-second {overlay.feeds_per_second:g} --zones {len(overlay.zones)}"
    )


def _layouts(overlay: Overlay) -> Iterator[str]:
    for of in sizes(overlay):
        stated = [f"shards = {of.shards}"] if of.shards > 1 else []
        if of.replicas > len(overlay.zones) and not of.scaled:
            stated.append(f"replicas = {of.replicas}")
        if stated:
            yield from ("", f"[{of.service}]", *stated)


def _quoted(text: str) -> str:
    return f'"{text}"'


def numbers(overlay: Overlay, zone: str) -> Iterator[Object]:
    """Patches of a zone: how many pods, what each asks for, how much disk, and how they are renewed."""
    first = zone == overlay.zones[0]
    for of in sizes(overlay):
        if first or of.service in EVERYWHERE or (overlay.log and of.service in WITH_THE_LOG):
            yield from _numbers_of(of, len(overlay.zones) > 1)


def _numbers_of(of: Pods, several_zones: bool) -> Iterator[Object]:
    memory = f"{of.memory_mb}M"
    asked = {"requests": {"cpu": f"{round(of.cpu * 1000)}m", "memory": memory}, "limits": {"memory": memory}}
    container = {"name": of.service, "resources": asked}
    spec: Object = {"template": {"spec": {"containers": [container]}}}
    if of.scaled:
        yield _patch("apps/v1", "Deployment", of.service, spec)
        yield _patch(
            "autoscaling/v2", "HorizontalPodAutoscaler", of.service, {"minReplicas": of.a_zone, "maxReplicas": of.most}
        )
        return
    # The sets of several zones know nothing of each other, and would take a shard's replicas away together: `roll` evicts.
    spec = {"replicas": of.a_zone, "updateStrategy": {"type": "OnDelete" if several_zones else "RollingUpdate"}} | spec
    if of.disk_gb:
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{of.disk_gb}G"}}}
        spec["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": claim}]
    yield _patch("apps/v1", "StatefulSet", of.service, spec)


def _patch(version: str, kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def kafka_policy(overlay: Overlay) -> Object:
    """Lets those who read or write the log reach Kafka, in its own namespace."""
    readers = {
        "matchExpressions": [{"key": NAME, "operator": "NotIn", "values": ["web", "feedgen", "pixie", "prober"]}]
    }
    port = int(overlay.log.partition("//")[2].partition("/")[0].partition(",")[0].rpartition(":")[2])
    kafka = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kafka"}}}
    spec = {"podSelector": readers, "policyTypes": ["Egress"], "egress": [{"to": [kafka], "ports": [{"port": port}]}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "kafka"}, "spec": spec}


def on_nodes(value: str) -> Object:
    """A patch that keeps pods on the nodes of a zone."""
    return {"template": {"spec": {"nodeSelector": {"topology.kubernetes.io/zone": value}}}}


def zone_labels(zone: str) -> Object:
    """The label of a zone's objects and of what they select."""
    return {"pairs": {ZONE: zone}, "includeSelectors": True, "includeTemplates": True}
