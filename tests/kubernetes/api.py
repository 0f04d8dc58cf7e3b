"""A real control plane: etcd, kube-apiserver and kube-controller-manager; nodes are played by the test, one call a pod."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

VERSION = "1.36.1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feedmesh" / f"kubernetes-{VERSION}"
TOKEN = "admin-token"
WITHIN_S = 180.0
Object = dict[str, Any]


def missing() -> str:
    """What this machine lacks; empty where nothing is."""
    programs = [CACHE / "kube-apiserver", CACHE / "kube-controller-manager"]
    lacks = [program.name for program in programs if not program.exists()]
    lacks += [] if etcd() else ["etcd"]
    lacks += [name for name in ("kubectl", "openssl") if shutil.which(name) is None]
    return (
        f"NOT TESTED: overlays on a real API server, as there is no {', '.join(lacks)}; make test-kubernetes"
        if lacks
        else ""
    )


def etcd() -> str:
    """The program."""
    own = CACHE / "usr" / "bin" / "etcd"
    return str(own) if own.exists() else shutil.which("etcd") or ""


def until(holds: Callable[[], object], what: Callable[[], object] | str, within_s: float = WITHIN_S) -> None:
    """Wait for a condition."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.1)


@dataclass
class Api:
    """The API server as its admin."""

    url: str
    config: Path

    def __post_init__(self) -> None:
        self._http = httpx.Client(
            base_url=self.url, verify=False, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: str) -> Object:
        answer = self._http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        found: Object = answer.json()
        return found

    def has(self, path: str) -> bool:
        return self._http.get(path).status_code == 200

    def items(self, path: str, **query: str) -> list[Object]:
        found: list[Object] = self.get(path, **query)["items"]
        return found

    def is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return self._http.get("/readyz").status_code == 200
        return False

    def pods(self, namespace: str) -> dict[str, Object]:
        return {one["metadata"]["name"]: one for one in self.items(f"/api/v1/namespaces/{namespace}/pods")}

    def evict(self, namespace: str, pod: str) -> httpx.Response:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        return self._http.post(f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", json=body)

    def place(self, pod: Object) -> None:
        """As the scheduler places it. The deletion of a pod that has a node waits for its kubelet."""
        meta = pod["metadata"]
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": {"name": "node"}}
        self._http.post(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding", json=body)

    def ended(self, pod: Object) -> None:
        """As the kubelet says that nothing of a pod runs any more."""
        meta = pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._http.request("DELETE", path, json=body)

    def report(self, pod: Object, ready: bool) -> None:
        """As the kubelet of its node reports it."""
        meta, now = pod["metadata"], time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        is_so = [
            {"type": kind, "status": str(ready), "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")
        ]
        status = {"phase": "Running", "conditions": is_so, "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}]}
        self._http.patch(
            f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status",
            json={"metadata": {"uid": meta["uid"]}, "status": status},
            headers={"Content-Type": "application/strategic-merge-patch+json"},
        )

    def kubectl(self, *words: object, ok: bool = True) -> "subprocess.CompletedProcess[str]":
        command = ["kubectl", "--kubeconfig", str(self.config), *map(str, words)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert not ok or ran.returncode == 0, ran.stdout + ran.stderr
        return ran


def is_ready(pod: Object) -> bool:
    """Whether its node says so."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


class Nodes:
    """Plays the scheduler and the kubelets: places pods, makes those ready that are not, while it is let, and ends those that
    are to be deleted, a look after it saw them; and notes which were away at once.

    Without a node a pod is gone as soon as it is to be deleted. The disruption controller, which knows pods by name, then takes
    the new one of a stateful set for the old one, and allows nothing for two minutes.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._end, self._lock, self._paused = threading.Event(), threading.Lock(), False
        self.away: list[set[str]] = []  # at each look
        self._ending = set[str]()  # uids, as of the last look
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Nodes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def pause(self) -> None:
        """From now on no pod becomes ready."""
        with self._lock:
            self._paused = True

    def go_on(self) -> None:
        with self._lock:
            self._paused = False

    def _look(self) -> None:
        while not self._end.wait(0.1):
            with self._lock, suppress(httpx.HTTPError, AssertionError):
                self._play()

    def _play(self) -> None:
        pods = self._api.pods(self._namespace)
        ending = {pod["metadata"]["uid"]: pod for pod in pods.values() if "deletionTimestamp" in pod["metadata"]}
        for uid, pod in ending.items():
            if uid in self._ending:
                self._api.ended(pod)
        self._ending = set(ending)
        unready = {name: pod for name, pod in pods.items() if not is_ready(pod) or pod["metadata"]["uid"] in ending}
        self.away.append(set(unready))
        for pod in unready.values() if not self._paused else ():
            if "nodeName" not in pod["spec"]:
                self._api.place(pod)
            elif pod["metadata"]["uid"] not in ending:
                self._api.report(pod, ready=True)


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@contextmanager
def _running(folder: Path, *command: object) -> Iterator["subprocess.Popen[bytes]"]:
    name = Path(str(command[0])).name
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _keys(folder: Path) -> None:
    for words in (("genrsa", "-out", "sa.key", "2048"), ("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')


def _configuration(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
        f"clusters: [{{name: test, cluster: {{server: '{url}', insecure-skip-tls-verify: true}}}}]\n"
        f"users: [{{name: admin, user: {{token: {TOKEN}}}}}]\n"
        "contexts: [{name: test, context: {cluster: test, user: admin}}]\n"
    )
    return path


@contextmanager
def control_plane(folder: Path) -> Iterator[Api]:
    """Started in a folder, on free ports, and killed at the end."""
    _keys(folder)
    client, peer, secure, manager = (_port() for _ in range(4))
    at = f"http://127.0.0.1:{client}"
    store = ["--name", "n1", "--data-dir", folder / "etcd", "--listen-client-urls", at, "--advertise-client-urls", at]
    between = f"http://127.0.0.1:{peer}"
    store += [
        "--listen-peer-urls",
        between,
        "--initial-advertise-peer-urls",
        between,
        "--initial-cluster",
        f"n1={between}",
    ]
    server = [
        f"--etcd-servers={at}",
        f"--secure-port={secure}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
    ]
    server += ["--endpoint-reconciler-type=none", "--cert-dir=certs", "--token-auth-file=tokens.csv"]
    server += ["--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=sa.pub"]
    server += ["--service-account-signing-key-file=sa.key", "--authorization-mode=RBAC"]
    server += ["--service-cluster-ip-range=10.0.0.0/16", "--disable-admission-plugins=ServiceAccount"]
    url = f"https://127.0.0.1:{secure}"
    api = Api(url, _configuration(folder, url))
    control = [f"--kubeconfig={api.config}", "--service-account-private-key-file=sa.key", "--leader-elect=false"]
    control += [
        "--bind-address=127.0.0.1",
        f"--secure-port={manager}",
        "--cert-dir=manager",
        "--controllers=*,-node-lifecycle-controller,-pod-garbage-collector-controller",
    ]
    log = folder / "kube-apiserver.log"
    with ExitStack() as stack:
        stack.callback(api.close)
        stack.enter_context(_running(folder, etcd(), *store))
        serving = stack.enter_context(_running(folder, CACHE / "kube-apiserver", *server))
        until(lambda: api.is_ready() or serving.poll() is not None, lambda: log.read_text()[-3000:])
        assert serving.poll() is None, log.read_text()[-3000:]
        stack.enter_context(
            _running(folder, CACHE / "kube-controller-manager", *control)
        )  # it waits ten seconds for the other
        yield api
