"""The cluster file: who runs what, where it listens, and what is refused by name."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.schema import SCHEMA, SERVICES
from services.core.errors import InvalidArgument, Unavailable
from services.ops import cluster as clusters
from services.ops.cluster import Cluster
from services.ops.planning import Plan
from services.ops.supervisor import Supervisor
from services.rpc.membership import Members
from services.rpc.unix_socket import socket_path

HOSTS = """
[hosts.a]
address = "127.0.0.2"
zone = "east"
[hosts.b]
address = "127.0.0.3"
zone = "west"
"""
BLOBS = '[mesh]\nblobs = "file:///nowhere/blobs"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "cluster.toml"
    path.write_text(text)
    return path


def read(folder: Path, text: str) -> Cluster:
    return clusters.read(written(folder, text), SCHEMA)


def planned(cluster: Cluster, host: str) -> Plan:
    plan = clusters.plan(cluster, host)
    plan.ports.release()
    return plan


def test_by_default_each_zone_has_a_replica_of_every_shard(tmp_path: Path) -> None:
    cluster = read(tmp_path, HOSTS + BLOBS + "[polaris]\nshards = 2\n")
    members = Members(cluster.processes)
    assert all(members.has_whole(service) for service in SERVICES)
    assert [(p.name, p.zone, p.host) for p in members.of("polaris")] == [
        ("polaris-0", "east", "a"),
        ("polaris-0.1", "west", "b"),
        ("polaris-1", "east", "a"),
        ("polaris-1.1", "west", "b"),
    ]
    assert [(p.name, p.host) for p in (*members.of("roadrunner"), *members.of("prober"))] == [
        ("roadrunner-0", "a"),
        ("prober-0", "a"),
    ]
    assert [p.http for p in members.of("web")] == ["127.0.0.2:8080", "127.0.0.3:8080"]


def test_a_host_has_its_own_part_and_knows_all(tmp_path: Path) -> None:
    cluster = read(tmp_path, HOSTS + BLOBS)
    plan = planned(cluster, "b")
    common = plan.mesh.common
    assert (common.host, common.zone) == ("127.0.0.3", "west")
    assert {p.host for p in plan.own} == {"b"}
    assert plan.mesh.processes == list(cluster.processes)
    assert {p.service for p in plan.own} == set(SERVICES) - {"roadrunner", "prober"}
    near, far = plan.own[0].address, next(p.address for p in cluster.processes if p.host == "a")
    assert socket_path(plan.mesh, near) is not None, "Unix sockets stay within a machine"
    assert socket_path(plan.mesh, far) is None


def test_ports_follow_from_the_service_and_shard_alone(tmp_path: Path) -> None:
    few = read(tmp_path, HOSTS + BLOBS + "[polaris]\nshards = 3\n")
    more = read(
        tmp_path, HOSTS + '[hosts.c]\naddress = "127.0.0.4"\nzone = "north"\n' + BLOBS + "[polaris]\nshards = 3\n"
    )
    ports = {(p.service, p.shard): p.address.rpartition(":")[2] for p in few.processes}
    assert all(ports[p.service, p.shard] == p.address.rpartition(":")[2] for p in more.processes)
    assert ports["roadrunner", 0] == "7400"
    assert ports["rockstore", 0] == "7500"
    stated = read(tmp_path, HOSTS + BLOBS + "[rockstore]\nport = 9100\nshards = 2\n")
    assert {p.address for p in stated.processes if p.service == "rockstore"} == {
        f"127.0.0.{host}:{port}" for host in (2, 3) for port in (9100, 9101)
    }


def test_hosts_may_say_what_they_run(tmp_path: Path) -> None:
    everything = ", ".join(f'"{s}"' for s in SERVICES if s != "polaris")
    text = HOSTS.replace('"east"', f'"east"\nruns = [{everything}, "polaris:0"]').replace(
        '"west"', '"west"\nruns = ["polaris", "web"]'
    )
    cluster = read(tmp_path, text + BLOBS + "[polaris]\nshards = 2\n")
    members = Members(cluster.processes)
    assert [(p.name, p.host) for p in members.of("polaris")] == [
        ("polaris-0", "a"),
        ("polaris-0.1", "b"),
        ("polaris-1", "b"),
    ]
    assert [p.name for p in members.of("web")] == ["web-0", "web-0.1"]


@settings(max_examples=60)
@given(
    zones=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    replicas=st.integers(1, 6),
    shards=st.integers(1, 16),
)
def test_replicas_of_a_shard_are_on_hosts_of_their_own_and_zones_are_even(
    tmp_path_factory: pytest.TempPathFactory, zones: list[int], replicas: int, shards: int
) -> None:
    hosts, number = "", 1
    for zone, n in enumerate(zones):
        for _ in range(n):
            number += 1
            hosts += f'[hosts.h{number}]\naddress = "127.0.0.{number}"\nzone = "z{zone}"\n'
    text = f'{hosts}[mesh]\nblobs = "file:///nowhere"\nreplicas = {replicas}\n[polaris]\nshards = {shards}\n'
    folder = tmp_path_factory.mktemp("cluster")
    if -(-replicas // len(zones)) > max(zones):
        with pytest.raises(InvalidArgument, match="two of a shard would be on host"):
            read(folder, text)
    if -(-replicas // len(zones)) > min(zones):
        return
    cluster = read(folder, text)
    members = Members(cluster.processes)
    for service in SERVICES:
        assert members.has_whole(service)
    for shard in range(shards):
        of = [p for p in members.of("polaris") if p.shard == shard]
        assert len({p.host for p in of}) == len(of) == replicas
        in_zone = [sum(p.zone == f"z{zone}" for p in of) for zone in range(len(zones))]
        assert max(in_zone) - min(in_zone) <= 1
    assert len({p.address for p in cluster.processes}) == len(cluster.processes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no host"),
        ("x", "not TOML"),
        (
            '[hosts.a]\naddress = "10.0.0.1"\nzone = "z"\n',
            r"\[hosts.a\] address = '10.0.0.1'.*`insecure = true` in \[tls\]",
        ),
        ('[hosts.a]\naddress = "db.example"\nzone = "z"\n', r"'db.example': others reach it"),
        ('[hosts.a]\naddress = "127.0.0.2"\n', r"\[hosts.a\]: zone is missing"),
        ('[hosts.a]\naddress = "127.0.0.2"\nzone = "z"\nrun = []\n', r"\[hosts.a\]: run is not known here"),
        (HOSTS.replace(".3", ".2") + BLOBS, "address = '127.0.0.2' is that of 2 hosts"),
        (HOSTS, r"\[mesh\] blobs is missing"),
        (HOSTS + BLOBS + "[polaris]\nshards = 99\n", r"\[polaris\] shards = 99: at most one a partition, 16"),
        (HOSTS + BLOBS + "replicas = 3\n", r"replicas = 3: two of a shard would be on host [ab]"),
        (HOSTS + BLOBS + "[roadrunner]\nreplicas = 2\n", r"\[roadrunner\] replicas = 2: roadrunner is one process"),
        (HOSTS + BLOBS + "[web]\nhttp_port = 0\n", r"\[web\] http_port = 0"),
        (HOSTS + BLOBS + "[cluster]\nport = 65000\n", "would end at"),
        (HOSTS + BLOBS + "[cluster]\nports = 1\n", r"\[cluster\]: ports is not known here; known are port, insecure"),
        (HOSTS.replace('"east"', '"east"\nruns = ["web"]') + BLOBS, r"\[hosts.b\] has no `runs`, and others have"),
        ('[hosts.a]\naddress = "127.0.0.2"\nzone = "z"\nruns = ["web"]\n', "no host runs roadrunner"),
        (
            '[hosts.a]\naddress = "127.0.0.2"\nzone = "z"\nruns = ["wep"]\n',
            "'wep': there is no 'wep'; there are roadrunner",
        ),
        ('[hosts.a]\naddress = "127.0.0.2"\nzone = "z"\nruns = ["web:1"]\n', "'web:1': web has the shards 0 to 0"),
        ('[hosts.a]\naddress = "127.0.0.2"\nzone = "z"\nruns = 7\n', r"\[hosts.a\]: runs = 7 is not allowed"),
        ("mesh = 3\n" + HOSTS, r"\[mesh\]"),
        ("hosts = 3\n", "names no host"),
    ],
)
def test_what_can_not_be_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        read(tmp_path, text)


def test_a_host_that_there_is_not_and_a_port_in_use_are_named(tmp_path: Path) -> None:
    cluster = read(tmp_path, HOSTS + BLOBS)
    with pytest.raises(InvalidArgument, match=r"there is no \[hosts.c\]; there are a, b"):
        clusters.plan(cluster, "c")
    plan = planned(cluster, "a")
    held = planned(cluster, "a")
    held.ports.take(7400, "the test")
    held.ports._named[-1].listen()
    with pytest.raises(Unavailable, match=r"roadrunner-0: cannot listen on 127.0.0.2:7400: Address already in use"):
        clusters.check_ports(plan)
    held.ports.release()
    plan.ports.release()


def test_a_process_that_would_move_while_it_runs_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    text = HOSTS + BLOBS + f'data = "{tmp_path}"\n'
    plan = planned(read(tmp_path, text), "a")
    supervisor = Supervisor(plan, lambda line: None)
    moved = planned(read(tmp_path, text + "[rockstore]\nport = 9100\n"), "a")
    with pytest.raises(InvalidArgument, match=r"rockstore-0 can't move from 127.0.0.2:7500 to 127.0.0.2:9100"):
        supervisor.take(moved)
    assert supervisor.mesh is plan.mesh
    supervisor.stop()


def test_the_example_in_deploy_is_one(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "deploy" / "cluster.toml"
    cluster = clusters.read(example, SCHEMA)
    replicas: dict[Any, set[str]] = {}
    for p in cluster.processes:
        replicas.setdefault((p.service, p.shard), set()).add(p.zone)
    assert replicas["polaris", 1] == {"a", "b", "c"}
    assert msgspec.to_builtins(cluster.sections["mesh"])["replicas"] == 3
