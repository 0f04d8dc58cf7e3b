"""Layouts in a cluster file: where the processes of both are, how the file is changed, and what is waited for."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.schema import SCHEMA, SERVICES
from protos import status_pb2 as pb
from services.core.errors import Conflict, InvalidArgument, NotFound
from services.ops import cluster as clusters
from services.ops import cluster_layouts as several
from services.ops import layouts, toml_edit
from services.ops.cluster import Cluster
from services.ops.cluster_layouts import ClusterFile
from services.ops.probe import Health
from services.ops.supervisor import Supervisor
from services.rpc.membership import Address, Members
from tests.services.test_cluster_file import BLOBS, HOSTS, planned, read, written

SERVING = BLOBS + "[polaris]  # the boards\nshards = 2\n"
BESIDE = "[layouts.polaris]\nshards = 3\n"


def of(cluster: Cluster, asked: bool) -> list[tuple[str, str, str]]:
    found = (p for p in cluster.processes if p.service == "polaris" and p.asked == asked)
    return [(p.name, p.host, p.address.rpartition(":")[2]) for p in found]


def test_the_other_layout_is_spread_as_the_first_one_on_ports_of_its_own(tmp_path: Path) -> None:
    alone, both = read(tmp_path, HOSTS + SERVING), read(tmp_path, HOSTS + SERVING + BESIDE)
    assert of(both, True) == of(alone, True)
    assert [p for p in both.processes if p.service != "polaris"] == [
        p for p in alone.processes if p.service != "polaris"
    ]
    first = int(of(alone, True)[0][2])
    assert of(both, False) == [
        (f"polaris-{i}of3{replica}", host, str(first + 50 + i))
        for i in range(3)
        for replica, host in (("", "a"), (".1", "b"))
    ]
    members = Members(both.processes)
    assert (members.has_whole("polaris"), members.layouts()["polaris"]) == (True, 2)


def test_hosts_that_say_what_they_run_say_so_of_both_layouts(tmp_path: Path) -> None:
    rest = ", ".join(f'"{s}"' for s in SERVICES if s != "polaris")
    text = HOSTS.replace('"east"', f'"east"\nruns = [{rest}, "polaris:0", "polaris:2"]')
    text = text.replace('"west"', '"west"\nruns = ["polaris:1"]')
    both = read(tmp_path, text + SERVING + BESIDE)
    assert [one[:2] for one in of(both, True)] == [("polaris-0", "a"), ("polaris-1", "b")]
    assert [one[:2] for one in of(both, False)] == [("polaris-0of3", "a"), ("polaris-1of3", "b"), ("polaris-2of3", "a")]
    with pytest.raises(InvalidArgument, match="no host runs polaris:2 of 3 shards"):
        read(tmp_path, text.replace(', "polaris:2"', "") + SERVING + BESIDE)
    with pytest.raises(InvalidArgument, match="'polaris:2': polaris has the shards 0 to 1"):
        read(tmp_path, text + SERVING)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[layouts.polaris]\nshards = 2\n",
            r"\[layouts.polaris\] shards = 2: allowed is another number than 2, which answer",
        ),
        ("[layouts.polaris]\nshards = 17\n", "at most one a partition, 16"),
        ("[layouts.polaris]\nshards = 0\n", r"\[layouts.polaris\]: shards = 0 is not allowed"),
        ("[layouts.polaris]\n", r"\[layouts.polaris\]: shards is missing"),
        ("[layouts.polaris]\nshards = 3\nhosts = 1\n", "hosts is not known here; known are shards, port"),
        ("[layouts.web]\nshards = 3\n", r"\[layouts.web\]: web has no shards; those that do are rockstore"),
        ("[layouts.polaris]\nshards = 3\nport = 7501\n", "would both listen on 127.0.0.2:7501; name another `port`"),
        ("[layouts]\npolaris = 3\n", r"\[layouts.polaris\]"),
    ],
)
def test_layouts_that_can_not_be_are_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        read(tmp_path, HOSTS + SERVING + "[rockstore]\nshards = 2\n" + text)


def test_a_rule_has_one_layout(tmp_path: Path) -> None:
    rule = '[cluster]\ninsecure = true\n[rule]\nzones = ["a"]\n' + BLOBS
    with pytest.raises(InvalidArgument, match=r"\[layouts\] and \[rule\]"):
        read(tmp_path, rule + BESIDE)
    with pytest.raises(InvalidArgument, match=r"has a \[rule\], by which a service has one layout"):
        ClusterFile(written(tmp_path, rule), SCHEMA)


# --- the file -------------------------------------------------------------------------------------------------------------


def test_ports_stay_through_two_changes_of_the_number_of_shards(tmp_path: Path) -> None:
    """2 -> 3 -> 5; each process has its port from when it is added until it is retired."""
    path = written(tmp_path, "# a mesh\n" + HOSTS + SERVING)
    path.chmod(0o640)
    ports: dict[tuple[int, int, str], str] = {}
    for shards in (3, 5):
        for change in ("add", "switch", "retire"):
            file = ClusterFile(path, SCHEMA)
            said = file.add("polaris", shards) if change == "add" else getattr(file, change)("polaris")
            assert said
            found = [p for p in clusters.read(path, SCHEMA).processes if p.service == "polaris"]
            for p in found:
                assert ports.setdefault((p.shards, p.shard, p.host), p.address) == p.address
            assert {p.shards for p in found if p.asked} == {shards if change != "add" else {3: 2, 5: 3}[shards]}
    assert path.read_text().startswith("# a mesh\n" + HOSTS + BLOBS + "[polaris]  # the boards\nshards = 5\n")
    assert (path.stat().st_mode & 0o777, "layouts" in path.read_text()) == (0o640, False)


def test_what_can_not_be_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, HOSTS + SERVING)
    for words, error, says in (
        (("add", "polaris", 2), InvalidArgument, "allowed is another number than 2"),
        (("add", "polaris", 17), InvalidArgument, "at most one a partition, 16"),
        (("add", "web", 2), InvalidArgument, "service = 'web' has no shards"),
        (("switch", "polaris"), NotFound, "has no layout beside its 2 shards"),
        (("retire", "polaris"), NotFound, "has no layout beside its 2 shards"),
    ):
        with pytest.raises(error, match=says):
            getattr(ClusterFile(path, SCHEMA), words[0])(*words[1:])
        assert path.read_text() == HOSTS + SERVING
    file = ClusterFile(path, SCHEMA)
    path.write_text(HOSTS + SERVING + "# another hand\n")
    with pytest.raises(Conflict, match="was changed meanwhile"):
        file.add("polaris", 3)
    assert path.read_text() == HOSTS + SERVING + "# another hand\n"
    assert ClusterFile(path, SCHEMA).add("polaris", 3)
    assert not ClusterFile(path, SCHEMA).add("polaris", 3), "a second time there is nothing to do"
    with pytest.raises(Conflict, match="has 3 shards beside its 2 already"):
        ClusterFile(path, SCHEMA).add("polaris", 4)


def test_a_file_in_another_form_is_to_be_changed_by_hand(tmp_path: Path) -> None:
    path = written(tmp_path, "polaris = { shards = 2 }\n" + HOSTS + BLOBS)
    assert ClusterFile(path, SCHEMA).add("polaris", 3)
    with pytest.raises(
        InvalidArgument, match=r"change it by hand: \[polaris\] shards = 3, port = \d+; \[layouts.polaris\] shards = 2"
    ):
        ClusterFile(path, SCHEMA).switch("polaris")


lines = st.sampled_from(
    [
        "",
        "# [a]",
        "[a]",
        "[a.b]",
        "[c]  # more",
        " [ a.d ]",
        "x = 1",
        "y=2 # two",
        "  x = 30",
        "text = '[a]'",
        "z = [",
        "1,",
        "[2]]",
    ]
)
change = st.one_of(st.none(), st.dictionaries(st.sampled_from("xy"), st.integers(0, 99), min_size=1))


@given(
    st.lists(lines, max_size=12), st.dictionaries(st.sampled_from(["a", "a.b", "c", "n", "n.m"]), change, min_size=1)
)
def test_a_changed_file_says_what_it_said_but_for_the_change(
    text: list[str], changes: dict[str, toml_edit.Change]
) -> None:
    before = "\n".join(text)
    try:
        raw = tomllib.loads(before)
        after = toml_edit.changed(before, changes, "the test")
    except (tomllib.TOMLDecodeError, InvalidArgument):
        return
    found = tomllib.loads(after)
    for name, settings in changes.items():
        section = found
        for part in name.split("."):
            section = section.get(part, {})
        if settings is not None:
            assert section.items() >= settings.items()
    touched = {name.split(".")[0] for name in changes}
    assert {k: v for k, v in found.items() if k not in touched} == {k: v for k, v in raw.items() if k not in touched}
    if None not in changes.values():
        assert {line for line in text if line.startswith("#")} <= set(after.split("\n"))


# --- what is waited for ---------------------------------------------------------------------------------------------------


def health(host: str, shards: int, shard: int, asks: int | None, ready: bool = True, behind: int = 0) -> Health:
    """Of a process of polaris; asks: which layout is asked on its host, 0 where it does not say, None: it gives no answer."""
    address = f"127.0.0.{2 + ord(host) - ord('a')}:{shards}{shard}"
    process = Address(service="polaris", shard=shard, shards=shards, address=address, host=host, asked=shards == 2)
    if asks is None:
        return Health(process, None, "UNAVAILABLE")
    said = {"polaris": asks} if asks else {}
    return Health(
        process,
        pb.StatusReply(ready=ready, why="" if ready else "catching up", behind=behind, asks=said),
        "catching up",
    )


def test_a_switch_waits_for_every_process_but_of_hosts_that_are_away() -> None:
    def why(found: list[Health], *without: str) -> str:
        return several.why_not_switched_to(found, "polaris", 3, without)

    well = [health(host, 3, shard, 2) for host in "ab" for shard in range(3)]
    assert why(well) == ""
    assert "polaris-1of3 on b: catching up" in why([*well[:4], health("b", 3, 1, 2, ready=False), well[5]])
    assert "polaris-1of3 on b is 9999 events behind" in why([*well[:4], health("b", 3, 1, 2, behind=9999), well[5]])
    away = [*well[:3], *(health("b", 3, shard, None) for shard in range(3))]
    assert "on b: UNAVAILABLE" not in why(well)
    assert "polaris-0of3 on b" in why(away)
    assert ", and 2 more" in why(away)
    assert why(away, "b") == ""
    assert "polaris-0of3 on b" in why([*away, health("b", 2, 0, 2)], "b"), (
        "a host of which something answers is not away"
    )
    assert why([*away[:2], *away[3:]], "b") == "no process of shard 2 is ready"


def test_a_layout_ends_when_no_host_asks_it_any_more() -> None:
    def why(found: list[Health], *without: str) -> str:
        return several.why_not_left(found, "polaris", 3, without)

    well = [health(host, 3, 0, 3) for host in "ab"]
    assert why(well) == ""
    assert why([*well, health("b", 2, 0, 2)]) == "host b asks 2 shards"
    assert why([*well, health("c", 3, 0, None)]).startswith("host c gives no answer")
    assert why([*well, health("c", 3, 0, None)], "c") == ""
    assert why([*well, health("c", 3, 0, 2)], "c") == "host c asks 2 shards", "it is there"
    assert "do not say which layout they ask" in why([*well, health("c", 3, 0, 0)])


# --- the supervisor -------------------------------------------------------------------------------------------------------


def test_a_layout_that_was_not_beside_does_not_answer_and_nothing_changes(tmp_path: Path) -> None:
    text = HOSTS + BLOBS + f'data = "{tmp_path}"\n[polaris]\nshards = '
    plan = planned(read(tmp_path, text + "2\n"), "a")
    supervisor = Supervisor(plan, lambda line: None)
    for after in ("3\n", "3\nport = 7450\n[layouts.polaris]\nshards = 2\n"):
        with pytest.raises(InvalidArgument, match=r"\[polaris\] shards = 3: are not filled yet|can't move"):
            supervisor.take(planned(read(tmp_path, text + after), "a"))
        assert supervisor.mesh is plan.mesh
    supervisor.stop()


def test_a_folder_goes_when_its_layout_is_gone_and_not_with_its_replica(tmp_path: Path) -> None:
    mine = Address(service="polaris", shard=0, shards=2, address="127.0.0.2:1")
    other = Address(service="polaris", shard=1, shards=2, address="127.0.0.3:1")
    new = Address(service="polaris", shard=0, shards=3, address="127.0.0.2:2")
    assert layouts.is_retired(mine, [new])
    assert not layouts.is_retired(mine, [other, new])
    assert not layouts.is_retired(mine, []), "of a service that is not here any more nothing is removed"
    folder = tmp_path / mine.folder
    for _ in range(2):
        folder.mkdir()
        (folder / "CURRENT").write_text("x")
        layouts.remove(folder)
        assert not folder.exists()
