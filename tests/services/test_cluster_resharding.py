"""Another number of shards on several hosts: a supervisor each, readers on two of them, and the command on the cluster file."""

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import cluster, cluster_layout
from cli.cluster import ClusterPart
from cli.main import app
from roadrunner.client import open_publisher
from services.blob.opening import open_blobs
from services.ops.supervisor import DataFolder, Supervisor
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh
from services.state.manifest import all_of
from tests.services.batches import follows
from tests.services.children import until
from tests.services.test_layouts import Readers, Writer
from tests.services.test_supervisor import SMALL, await_ready, followed

HOSTS = {"a": "127.0.0.2", "b": "127.0.0.3", "c": "127.0.0.4"}
WITHIN_S = 180.0


class Hosts:
    """The hosts that run. file: which the commands change; hosts follow it, or each a copy, which is brought to it."""

    def __init__(self, folder: Path, names: str, shards: int, first_port: int, copies: bool) -> None:
        self.folder, self.file, self.copies = folder, folder / "cluster.toml", copies
        self.running: dict[str, Supervisor] = {}
        self.said: list[str] = []
        self._ending: dict[str, ExitStack] = {}
        described = "".join(
            f'[hosts.{name}]\naddress = "{HOSTS[name]}"\nzone = "zone-{name}"\ndata = "{folder / name}"\n'
            for name in names
        )
        self.file.write_text(
            f"[cluster]\nport = {first_port}\n{described}[learning]\nfirst = false\n"
            f'[mesh]\nblobs = "file://{folder / "blobs"}"\npartitions = 8\nmin_free_mb = 1\n'
            "[roadrunner]\ncache_mb = 1\nmemtable_mb = 1\n"
            f"[apiary]\nshards = {shards}\ncache_mb = 1\nmemtable_mb = 1\nsnapshot_every_s = 0.5\n"
        )

    def start(self, *names: str) -> None:
        """Start these hosts' parts; all of them are ready when this returns."""
        self.bring(*names)
        for name in names:
            self._ending[name] = ExitStack()
            self.running[name] = self._ending[name].enter_context(self._part(name))
        for name in names:
            await_ready(self.mesh(name))

    @contextmanager
    def _part(self, name: str) -> Iterator[Supervisor]:
        data = DataFolder(self.folder / name)
        part = ClusterPart(self.copy(name) if self.copies else self.file, name)
        supervisor, stop = Supervisor(part.plan, self.said.append), threading.Event()

        def watch() -> None:
            while not stop.wait(0.05):
                supervisor.watch()
                part.look(supervisor)

        thread = threading.Thread(target=watch)
        supervisor.start()
        thread.start()
        try:
            yield supervisor
        finally:
            stop.set()
            thread.join()
            supervisor.stop()
            data.release()

    def copy(self, name: str) -> Path:
        return self.folder / f"{name}.toml"

    def bring(self, *names: str) -> None:
        """Bring the file as it is now to these hosts."""
        for name in names:
            draft = self.copy(name).with_suffix(".draft")
            draft.write_bytes(self.file.read_bytes())
            draft.rename(self.copy(name))

    def stop(self, name: str) -> None:
        del self.running[name]
        self._ending.pop(name).close()

    def end(self) -> None:
        for name in list(self.running):
            self.stop(name)

    def mesh(self, name: str) -> Mesh:
        """As a host knows it now."""
        return meshes.load(meshes.mesh_file(self.folder / name))

    def asked(self, name: str) -> set[int]:
        return {p.shards for p in self.mesh(name).processes if p.service == "apiary" and p.asked}

    def folders(self, name: str) -> set[str]:
        return {path.name for path in (self.folder / name / "apiary").iterdir()}

    def layout(self, *words: object) -> tuple[int, str]:
        result = CliRunner().invoke(
            app, ["layout", *map(str, words), "--cluster", str(self.file)], env={"COLUMNS": "300"}
        )
        return result.exit_code, " ".join(result.output.split())

    def did(self, *words: object) -> str:
        code, said = self.layout(*words)
        assert code == 0, said
        return said

    def refused(self, *words: object) -> str:
        """What a refusal says; it changes nothing."""
        before = self.file.read_bytes()
        code, said = self.layout(*words)
        assert code in (1, 2), said
        assert self.file.read_bytes() == before
        return said


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hosts]]:
    """Makes hosts of a mesh of two services, at ports that are free now."""
    with socket.create_server((HOSTS["c"], 0)):
        pass  # or this machine has no such addresses
    for module in (cluster, cluster_layout):
        monkeypatch.setattr(module, "SCHEMA", SMALL)
    made: list[Hosts] = []

    def make(names: str, shards: int, copies: bool = False) -> Hosts:
        made.append(Hosts(tmp_path, names, shards, free_ports(), copies))
        made[-1].start(*names)
        return made[-1]

    yield make
    for one in made:
        one.end()


def free_ports() -> int:
    """The first of two hundred ports that are free on every host, below those that the system gives to connections."""
    for first in range(22_000, 32_000, 200):
        with ExitStack() as stack:
            try:
                for address in HOSTS.values():
                    for port in (
                        *range(first, first + 5),
                        *range(first + 100, first + 110),
                        *range(first + 150, first + 160),
                    ):
                        stack.enter_context(socket.create_server((address, port)))
            except OSError:
                continue
            return first
    raise AssertionError("no ports are free")


def test_layouts_of_two_hosts_change_under_load_without_a_failed_request(
    hosts: Callable[..., Hosts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 -> 3 -> 5 shards, each filled from snapshots of the one before, while readers of both hosts and a writer go on. Each host
    has a copy of the file, and host b gets it after host a.
    """
    monkeypatch.setattr(cluster_layout, "TAKEN_S", 1.0)
    on = hosts("ab", 2, copies=True)
    with (
        Readers(on.mesh("a")) as near,
        Readers(on.mesh("b")) as far,
        Writer(on.folder / "a", near) as writer,
    ):
        far.written = near.written
        for before, after in ((2, 3), (3, 5)):
            since = writer.batches
            until(lambda since=since: writer.batches > since + 3, WITHIN_S)  # type: ignore[misc]
            until(lambda n=before: taken(on, n), WITHIN_S)  # type: ignore[misc]
            added(on, before, after)
            switched(on, before, after, near, far)
            retired(on, after)
        questions(near, far)
    assert near.wrong == far.wrong == []
    count, token = near.written[1]
    for name in "ab":
        assert len(followed(on.mesh(name), 1, token)) == min(1_000, count), "tokens of before hold"


def added(on: Hosts, before: int, after: int) -> None:
    said = on.did("add", "apiary", "--shards", after)
    assert said.count("does it have this file?") == 2
    on.bring("a")
    assert f"has {after} shards beside its {before} already" in on.refused("add", "apiary", "--shards", 4)
    assert f"has {after} shards beside already" in on.did("add", "apiary", "--shards", after)
    assert f"the layout of {after} shards is not ready: " in on.refused("switch", "apiary"), "host b has not the file"
    on.bring("b")


def switched(on: Hosts, before: int, after: int, near: Readers, far: Readers) -> None:
    on.did("switch", "apiary", "--shards", after, "--wait", WITHIN_S)
    on.bring("a")
    until(lambda: on.asked("a") == {after}, WITHIN_S)
    assert f"{after} shards answer already" in on.did("switch", "apiary", "--shards", after)
    questions(near, far)
    assert on.asked("b") == {before}, "they differ as long as their files do"
    assert f"host b asks {before} shards; nothing was changed" in on.refused("retire", "apiary")
    on.bring("b")
    until(lambda: on.asked("b") == {after}, WITHIN_S)
    questions(near, far)


def retired(on: Hosts, after: int) -> None:
    with ThreadPoolExecutor(1) as pool:
        retiring = pool.submit(on.did, "retire", "apiary", "--wait", WITHIN_S)
        until(lambda: retiring.done() or "[layouts" not in on.file.read_text(), WITHIN_S)
        on.bring("a", "b")
        assert f"apiary: {after} shards; those of" in retiring.result()
    for name, replica in (("a", ""), ("b", ".replica1")):
        left = {f"{i}of{after}{replica}" for i in range(after)}
        until(lambda left=left, of=name: on.folders(of) == left, WITHIN_S)  # type: ignore[misc]
        logs = [log.read_text() for log in (on.folder / name / "logs").glob(f"apiary-*of{after}*.log")]
        assert len(logs) == after
        # Of the layout before; or, of what the other host's process has written by then, its own.
        from_log = [log for log in logs if "made of apiary/" not in log and "filled from snapshot" not in log]
        assert not from_log, "from snapshots, not from the log"


def questions(*readers: Readers) -> None:
    """Some more of each."""
    asked = [one.asked["questions"] for one in readers]
    until(
        lambda: all(one.asked["questions"] > before + 200 for one, before in zip(readers, asked, strict=True)), WITHIN_S
    )


def taken(on: Hosts, shards: int) -> bool:
    found = [bool(of.ids()) for of in all_of(open_blobs(on.mesh("a")), "apiary") if of.shards == shards]
    return len(found) == shards and all(found)


def test_a_host_that_is_away_during_a_switch_comes_back_to_the_new_layout(hosts: Callable[..., Hosts]) -> None:
    on = hosts("abc", 1)
    with open_publisher(on.folder / "a") as publisher:
        token = publisher.publish(follows(10), 30).token
    said = on.did("add", "apiary", "--shards", 2)
    assert said.count("of its 2 processes of the 2 shards beside are ready") == 3
    on.did("switch", "apiary", "--shards", 2, "--wait", WITHIN_S)
    on.did("switch", "apiary", "--shards", 1, "--wait", WITHIN_S)  # and back
    until(lambda: [on.asked(name) for name in "abc"] == [{1}] * 3, WITHIN_S)
    with Readers(on.mesh("b")) as readers:
        on.stop("c")
        said = on.refused("switch", "apiary", "--shards", 2)
        assert "the layout of 2 shards is not ready: apiary-0of2.2 on c: " in said
        assert "there is no [hosts.d]; there are a, b, c" in on.refused("switch", "apiary", "--without", "d")
        said = on.did("switch", "apiary", "--shards", 2, "--without", "c", "--wait", WITHIN_S)
        assert "host c gives no answer: once it is there, it does what its file says" in said
        until(lambda: on.asked("a") == on.asked("b") == {2}, WITHIN_S)
        assert "host c gives no answer, so what it asks is not known" in on.refused("retire", "apiary")
        on.start("c")
        assert on.asked("c") == {2}
        on.did("retire", "apiary", "--wait", WITHIN_S)
        questions(readers)
    assert readers.wrong == []
    for name in "abc":
        assert len(followed(on.mesh(name), 1, token)) == 10
        until(lambda of=name: {folder[:4] for folder in on.folders(of)} == {"0of2", "1of2"}, WITHIN_S)  # type: ignore[misc]


def test_a_switch_is_refused_while_a_shard_is_not_ready_and_a_bad_file_changes_nothing(
    hosts: Callable[..., Hosts], capsys: pytest.CaptureFixture[str]
) -> None:
    on = hosts("ab", 1)
    good = on.file.read_text()
    assert "--cluster: allowed is that, or --config and --data" in on.refused(
        "add", "apiary", "--shards", 2, "--data", on.folder
    )
    assert "service = 'roadrunner' has no shards" in on.refused("add", "roadrunner", "--shards", 2)
    on.did("add", "apiary", "--shards", 2)
    state = json.loads(on.did("status", "--json"))
    assert sorted((one["host"], one["shard"], one["shards"], one["asked"]) for one in state) == [
        (host, shard, shards, shards == 1) for host in "ab" for shard, shards in ((0, 1), (0, 2), (1, 2))
    ]
    assert {one["host_asks"] for one in state if one["host_asks"]} == {1}
    until(lambda: any(child.name == "apiary-1of2.1" for child in on.running["b"].children))
    stopped = next(child for child in on.running["b"].children if child.name == "apiary-1of2.1")
    until(lambda: stopped.process is not None)
    assert stopped.process is not None
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        assert "the layout of 2 shards is not ready: apiary-1of2.1 on b: " in on.refused(
            "switch", "apiary", "--shards", 2
        )
        assert "apiary has 2 shards beside those that answer" in on.refused("switch", "apiary", "--shards", 3)
        assert on.asked("a") == on.asked("b") == {1}
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    on.did("retire", "apiary", "--wait", WITHIN_S)
    assert on.file.read_text() == good
    on.file.write_text(good.replace("shards = 1", "shards = 2"))
    heard: list[str] = []

    def refused_by_both() -> bool:
        heard.append(capsys.readouterr().err)
        return "".join(heard).count("[apiary] shards = 2: are not filled yet, and 1 answer") == len(on.running)

    until(refused_by_both, WITHIN_S)
    assert on.asked("a") == on.asked("b") == {1}
    on.file.write_text(good + "[layouts.apiary]\nshards = 99\n")
    said = on.refused("switch", "apiary")
    assert (
        "[layouts.apiary] shards = 99: allowed is another number than 1, which answer, at most one a partition, 8"
        in said
    )
