"""The processes of a mesh on one machine, and their ports."""

import socket
from pathlib import Path

import pytest

from services.core.errors import InvalidArgument, Unavailable
from services.core.settings import TlsSettings
from services.ops.layouts import Layout
from services.ops.planning import laid_out, plan
from services.rpc.membership import Members
from tests.services.test_supervisor import planned, sections


def test_every_process_has_a_port_of_its_own(tmp_path: Path) -> None:
    mesh = planned(sections(tmp_path, apiary={"shards": 4}))
    assert [(p.service, p.shard, p.shards) for p in mesh.processes] == [
        ("roadrunner", 0, 1),
        *(("apiary", i, 4) for i in range(4)),
    ]
    assert len({p.address for p in mesh.processes}) == 5


def test_each_shard_has_its_replicas_in_the_zones_in_turn(tmp_path: Path) -> None:
    mesh = planned(sections(tmp_path, mesh={"replicas": 3, "zones": ["a", "b"]}, apiary={"shards": 2}))
    assert [(p.name, p.zone) for p in mesh.processes] == [
        ("roadrunner-0", "a"),
        ("apiary-0", "a"),
        ("apiary-0.1", "b"),
        ("apiary-0.2", "a"),
        ("apiary-1", "a"),
        ("apiary-1.1", "b"),
        ("apiary-1.2", "a"),
    ]
    assert len({p.address for p in mesh.processes}) == 7
    assert len(planned(sections(tmp_path, mesh={"replicas": 3}, apiary={"shards": 2, "replicas": 1})).processes) == 3


def test_a_layout_beside_the_present_one_has_as_many_replicas_in_the_same_zones(tmp_path: Path) -> None:
    made = plan(sections(tmp_path, mesh={"replicas": 2, "zones": ["a", "b"]}, apiary={"shards": 2}))
    try:
        added = laid_out(made.own, {"apiary": Layout(2, 1)}, "127.0.0.1", made.ports)
        assert [(p.name, p.folder, p.zone, p.asked) for p in added] == [
            ("roadrunner-0", "0of1", "a", True),
            ("apiary-0", "0of2", "a", True),
            ("apiary-0.1", "0of2.replica1", "b", True),
            ("apiary-1", "1of2", "a", True),
            ("apiary-1.1", "1of2.replica1", "b", True),
            ("apiary-0of1", "0of1", "a", False),
            ("apiary-0of1.1", "0of1.replica1", "b", False),
        ]
        assert len({p.address for p in added}) == len({p.name for p in added}) == 7
        assert laid_out(added, {"apiary": Layout(2, 1)}, "127.0.0.1", made.ports) == added, "they are there already"
        switched = laid_out(added, {"apiary": Layout(1, 2)}, "127.0.0.1", made.ports)
        assert [p.address for p in switched] == [p.address for p in added]
        assert [p.name for p in switched if p.asked] == ["roadrunner-0", "apiary-0", "apiary-0.1"]
        assert len({p.name for p in switched}) == 7
        assert Members(tuple(switched)).has_whole("apiary")
        assert [p.folder for p in laid_out(switched, {"apiary": Layout(1)}, "127.0.0.1", made.ports)] == [
            "0of1",
            "0of1",
            "0of1.replica1",
        ]
        assert laid_out(added, {"apiary": Layout(5)}, "127.0.0.1", made.ports) == added, "no such layout is there"
    finally:
        made.ports.release()


def test_a_second_log_is_refused_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidArgument, match=r"\[roadrunner\] replicas = 2: roadrunner is one process: the embedded log is one folder"
    ):
        plan(sections(tmp_path, roadrunner={"replicas": 2}))


def test_with_the_log_on_kafka_roadrunner_has_replicas_as_others_have(tmp_path: Path) -> None:
    on_kafka = {"replicas": 2, "log": "kafka://127.0.0.1:9092/any"}
    assert len(planned(sections(tmp_path, mesh=on_kafka)).of("roadrunner")) == 2
    assert len(planned(sections(tmp_path, mesh=on_kafka, roadrunner={"replicas": 3})).of("roadrunner")) == 3
    assert len(planned(sections(tmp_path, mesh={"replicas": 2})).of("roadrunner")) == 1


def test_ports_of_shards_are_consecutive(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    mesh = planned(sections(tmp_path, apiary={"port": port, "shards": 1}))
    assert mesh.of("apiary")[0].address == f"127.0.0.1:{port}"


def test_a_port_in_use_is_refused_by_setting_and_number(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            Unavailable, match=rf"\[apiary\] port: cannot listen on 127.0.0.1:{port}: Address already in"
        ):
            plan(sections(tmp_path, apiary={"port": port}))


def test_two_services_on_one_port_are_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(Unavailable, match=rf"\[apiary\] port: cannot listen on 127.0.0.1:{port}"):
        plan(sections(tmp_path, roadrunner={"port": port}, apiary={"port": port}))


def test_ports_end_at_65535(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"\[apiary\] port: cannot listen on 127.0.0.1:6553\d: "):
        plan(sections(tmp_path, apiary={"port": 65535, "shards": 2}))


def test_an_address_that_is_not_this_machines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"\[roadrunner\] port: cannot listen on 192.0.2.1:0: Cannot assign"):
        plan(sections(tmp_path, mesh={"host": "192.0.2.1"}) | {"tls": TlsSettings(insecure=True)})


def test_an_address_that_others_reach_takes_tls_or_that_it_is_meant_without(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidArgument, match=r"\[mesh\] host = '0.0.0.0': others reach it.*`insecure = true` in \[tls\]"
    ):
        plan(sections(tmp_path, mesh={"host": "0.0.0.0"}))
    for said in (TlsSettings(insecure=True), TlsSettings(ca="ca.pem", certificate="own.pem", key="own.key")):
        plan(sections(tmp_path, mesh={"host": "0.0.0.0"}) | {"tls": said}).ports.release()
    with pytest.raises(InvalidArgument, match=r"\[tls\] key is missing"):
        plan(sections(tmp_path, mesh={"host": "0.0.0.0"}) | {"tls": TlsSettings(ca="ca.pem", certificate="own.pem")})


def test_a_port_for_probes_is_of_machines_with_one_process(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"\[mesh\] health_port = 7390: of one process; allowed here is 0"):
        plan(sections(tmp_path, mesh={"health_port": 7390}))


def test_more_shards_than_partitions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"\[apiary\] shards = 5: at most one a partition, 4"):
        plan(sections(tmp_path, apiary={"shards": 5}))
