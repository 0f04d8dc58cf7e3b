"""A cluster whose addresses follow from a rule: places, names, and what is refused."""

import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.schema import SCHEMA, SERVICES
from services.core.errors import InvalidArgument
from services.ops import cluster as clusters
from services.ops import cluster_rule
from services.ops.cluster import Cluster
from services.ops.cluster_rule import Scaled, number_of, own_place, own_scaled
from services.rpc.membership import Address, Members

RULE = '[cluster]\ninsecure = true\n[rule]\nzones = ["a", "b", "c"]\n'
BLOBS = '[mesh]\nblobs = "file:///nowhere/blobs"\n'


def read(folder: Path, text: str) -> Cluster:
    path = folder / "cluster.toml"
    path.write_text(text)
    return clusters.read(path, SCHEMA)


def of(cluster: Cluster, service: str) -> list[tuple[str, str, str]]:
    return [(p.name, p.zone, p.address) for p in Members(cluster.processes).of(service)]


def test_names_follow_from_service_zone_and_ordinal(tmp_path: Path) -> None:
    cluster = read(tmp_path, RULE + BLOBS + "[polaris]\nshards = 2\n")
    port = 7400 + 100 * SERVICES.index("polaris")
    assert of(cluster, "polaris") == [
        (name, zone, f"polaris-{zone}-{ordinal}.polaris-{zone}:{port}")
        for ordinal in (0, 1)
        for name, zone in ((f"polaris-{ordinal}", "a"), (f"polaris-{ordinal}.1", "b"), (f"polaris-{ordinal}.2", "c"))
    ]
    assert of(cluster, "roadrunner") == [("roadrunner-0", "a", "roadrunner-a-0.roadrunner-a:7400")]
    on_kafka = read(tmp_path, RULE + BLOBS + 'log = "kafka://10.0.0.9:9092/any"\n')
    assert [found[1] for found in of(on_kafka, "roadrunner")] == ["a", "b", "c"]
    assert of(cluster, "feedgen")[1][2].startswith("feedgen-b:"), "one name stands for all of a zone"
    assert [p.http for p in Members(cluster.processes).of("web")] == ["web-a:8080", "web-b:8080", "web-c:8080"]
    assert all(Members(cluster.processes).has_whole(service) for service in SERVICES)


@settings(max_examples=60)
@given(zones=st.integers(1, 5), replicas=st.integers(1, 7), shards=st.integers(1, 16))
def test_ordinals_of_a_zone_are_whole_and_lead_back_to_their_places(
    tmp_path_factory: pytest.TempPathFactory, zones: int, replicas: int, shards: int
) -> None:
    names = [f"z{number}" for number in range(zones)]
    text = f"[cluster]\ninsecure = true\n[rule]\nzones = {names}\n{BLOBS}replicas = {replicas}\n[polaris]\nshards = {shards}\n"
    cluster = read(tmp_path_factory.mktemp("rule"), text)
    assert cluster.rule is not None
    places = list(cluster_rule.places(cluster.sections, cluster.rule, "polaris"))
    assert len({(place.shard, place.replica) for place in places}) == shards * replicas
    for zone in names:
        there = sorted((place for place in places if place.zone == zone), key=lambda place: place.ordinal)
        assert [place.ordinal for place in there] == list(range(len(there))), "a StatefulSet has no gaps"
        assert [place.shard for place in there] == [ordinal % shards for ordinal in range(len(there))]
        for place in there:
            assert own_place(cluster.sections, cluster.rule, "polaris", zone, place.ordinal) == place
    for shard in range(shards):
        in_zone = [sum((p.shard, p.zone) == (shard, zone) for p in places) for zone in names]
        assert max(in_zone) - min(in_zone) <= 1


def test_a_scaled_service_is_all_that_its_name_stands_for(tmp_path: Path) -> None:
    cluster = read(tmp_path, RULE + BLOBS)
    assert cluster.rule is not None
    names: dict[str, list[str] | OSError] = {"feedgen-a": ["10.0.0.5", "10.0.0.6"], "web-a": ["fd00::7"]}

    def resolve(name: str) -> list[str]:
        found = names.get(name, [])
        if isinstance(found, OSError):
            raise found
        return found

    scaled = Scaled(cluster.rule, resolve)

    def look(service: str, own: Address | None = None) -> list[tuple[str, str]]:
        return [(p.zone, p.address) for p in scaled.look(cluster.processes, own) if p.service == service]

    port = 7400 + 100 * SERVICES.index("feedgen")
    both = [("a", f"10.0.0.5:{port}"), ("a", f"10.0.0.6:{port}")]
    nobody = [("b", f"feedgen-b:{port}"), ("c", f"feedgen-c:{port}")]
    assert look("feedgen") == both + nobody
    assert next(p.http for p in scaled.look(cluster.processes) if p.service == "web") == "[fd00::7]:8080"
    assert len(look("polaris")) == 3

    names["feedgen-a"] = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    assert look("feedgen") == both + nobody, "what can't be looked up is as it was"
    names["feedgen-a"] = []
    assert look("feedgen") == [("a", f"feedgen-a:{port}"), *nobody]
    own = own_scaled(cluster.processes, "feedgen", "a", "10.0.0.9")
    assert ("a", f"10.0.0.9:{port}") in look("feedgen", own), "it is found by name only when it is ready"
    names["feedgen-a"] = ["10.0.0.9"]
    assert look("feedgen", own) == [("a", f"10.0.0.9:{port}"), *nobody], "and then once"
    members = Members(scaled.look(cluster.processes, own))
    assert all(members.has_whole(service) for service in SERVICES)


def test_numbers_of_addresses_differ_in_a_network() -> None:
    assert len({number_of(f"10.{a}.{b}.7") for a in range(256) for b in range(0, 256, 5)}) == 256 * 52


def test_a_name_that_there_is_not_stands_for_none() -> None:
    assert cluster_rule.resolved("127.0.100.2") == ["127.0.100.2"]
    try:
        assert cluster_rule.resolved("no-such-name.invalid") == []
    except OSError:
        pass  # this machine reaches no DNS: not known, which is not none


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (RULE + "[hosts.a]\n" + BLOBS, r"\[hosts\] and \[rule\]: allowed is one of them"),
        (RULE, r"\[mesh\] blobs is missing"),
        (RULE.replace("insecure = true", "") + BLOBS, r"\[rule\] host = .*others reach it.*`insecure = true`"),
        (RULE.replace('"b"', '"b_1"') + BLOBS, "zones: 'b_1': allowed are small letters, digits and -"),
        (RULE.replace('"b"', '"a"') + BLOBS, "zones: one is named twice"),
        ("[rule]\nzones = []\n" + BLOBS, r"\[rule\]: zones = \[\] is not allowed"),
        ("[rule]\n" + BLOBS, r"\[rule\]: zones is missing"),
        (RULE + 'scaled = ["fedgen"]\n' + BLOBS, "scaled: there is no 'fedgen'; there are roadrunner"),
        (RULE + 'scaled = ["polaris"]\n' + BLOBS + "[polaris]\nshards = 2\n", "a scaled service has no shards"),
        (RULE + 'host = "{service}-{zone}"\n' + BLOBS, r"host = .*\{ordinal\} is missing: two processes"),
        (RULE + 'host = "{zone}-{ordinal}-{pod}"\n' + BLOBS, r"\{pod\} is not known here; known are \{service\}"),
        (RULE + 'host = "{zone"\n' + BLOBS, r"\[rule\] host = '\{zone': "),
        (RULE + 'scaled_host = "web"\n' + BLOBS, r"scaled_host = 'web': \{zone\} is missing"),
        (RULE + "hosts = 3\n" + BLOBS, r"\[rule\]: hosts is not known here; known are zones"),
    ],
)
def test_what_can_not_be_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        read(tmp_path, text)


def test_places_that_there_are_not_are_named(tmp_path: Path) -> None:
    cluster = read(tmp_path, RULE + BLOBS + "[polaris]\nshards = 2\n")
    rule, sections = cluster.rule, cluster.sections
    assert rule is not None
    with pytest.raises(InvalidArgument, match="--zone d: there is none such; there are a, b, c"):
        own_place(sections, rule, "polaris", "d", 0)
    with pytest.raises(InvalidArgument, match="--ordinal 2: polaris has the ordinals 0 to 1 in zone b"):
        own_place(sections, rule, "polaris", "b", 2)
    with pytest.raises(InvalidArgument, match="--zone b: roadrunner has no process there"):
        own_place(sections, rule, "roadrunner", "b", 0)
    with pytest.raises(InvalidArgument, match="--service polar: there is none such; there are roadrunner"):
        own_place(sections, rule, "polar", "b", 0)
    with pytest.raises(InvalidArgument, match="--address 'web': is no IP address"):
        own_scaled(cluster.processes, "web", "a", "web")
    with pytest.raises(InvalidArgument, match=r"has a \[rule\] and no hosts: `feedmesh serve"):
        clusters.plan(cluster, "a")
