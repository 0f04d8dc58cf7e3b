"""Holds the pattern: every service has the same modules, and nothing is left undescribed."""

import ast
import re
import subprocess
import sys
from collections.abc import Container, Iterator
from pathlib import Path

import pytest

from cli.reference import settings_reference
from cli.schema import SCHEMA, SERVICE_SETTINGS, SERVICES
from services.core import settings
from services.core.settings import ShardSettings
from tests import floors

ROOT = Path(__file__).resolve().parent.parent
STATEFUL = [name for name in SERVICES if issubclass(SERVICE_SETTINGS[name], ShardSettings)] + ["roadrunner"]
MODULES = ("__main__.py", "settings.py", "wiring.py", "layout.py", "store.py", "service.py", "client.py", "README.md")
MAX_FILE, MAX_FUNCTION, MAX_ENTRY_POINT = 400, 60, 30
RAW = ("flush", "compact_range", "property_int_value", "ingest_external_file")
OURS = (*SERVICES, "services", "features", "loaders", "learning", "cli", "tests", "bench")


def sources(*folders: str) -> Iterator[Path]:
    """Python files that people write."""
    for folder in folders:
        yield from (
            p for p in sorted((ROOT / folder).rglob("*.py")) if "_pb2" not in p.name and "__pycache__" not in p.parts
        )


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in it, and of the modules that they are taken from."""
    names = {name for _, name in floors.imports(path.read_text())}
    return names | {name.rpartition(".")[0] for name in names} - {""}


def top(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("service", STATEFUL)
def test_a_stateful_service_has_every_module(service: str) -> None:
    assert not [m for m in MODULES if not (ROOT / service / m).exists()]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_an_entry_point_of_one_page_and_a_readme(service: str) -> None:
    assert (ROOT / service / "README.md").exists()
    assert len((ROOT / service / "__main__.py").read_text().splitlines()) <= MAX_ENTRY_POINT
    assert f"{service}.wiring.build" in imports(ROOT / service / "__main__.py"), (
        "it is built as its tests and replays are"
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_knows_the_others_by_their_clients_alone(service: str) -> None:
    wrong = []
    for path in sources(service):
        for name in imports(path):
            other, _, rest = name.partition(".")
            if other in SERVICES and other != service and rest.split(".")[0] not in ("", "client"):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_the_kit_knows_no_service() -> None:
    wrong = [
        str(p.relative_to(ROOT))
        for p in sources("services")
        if top(imports(p)) & {*SERVICES, "loaders", "learning", "features", "cli", "tests"}
    ]
    assert not wrong


@pytest.mark.parametrize("module", ["store.py", "layout.py", "kernel.py"])
def test_the_modules_of_the_state_know_no_network(module: str) -> None:
    forbidden = {"grpc", "asyncio", "starlette", "uvicorn", "socket"}
    for service in SERVICES:
        path = ROOT / service / module
        if path.exists():
            assert not top(imports(path)) & forbidden, path
            assert not {n for n in imports(path) if n.startswith("protos") and service != "roadrunner"}, path


def test_a_kernel_is_arithmetic() -> None:
    allowed = {"numpy", "numba", "services", "typing", "math", "collections", "dataclasses"}
    for path in sources(*SERVICES):
        if path.name == "kernel.py":
            assert top(imports(path)) <= allowed | {path.parent.name}, path


def test_bytes_live_in_layouts() -> None:
    """Keys and values of a database are packed nowhere else; the kit packs its offsets and tokens, feedgen its cursor."""
    elsewhere = {"services/state/shard.py", "services/state/offsets.py", "services/core/tokens.py", "feedgen/cursor.py"}
    packing = {str(p.relative_to(ROOT)) for p in sources(*SERVICES, "services") if "struct" in imports(p)}
    assert {p for p in packing if not p.endswith("layout.py")} <= elsewhere


def test_a_database_is_read_in_one_checked_place() -> None:
    """rocksdict's scans end at damage without a word: services/state/family.py asks, so only databases that it reads are opened.

    `raw`, which leads around it, is flushed, compacted, measured or given files.
    """
    opening, around = set(), set()
    for path in sources(*OURS):
        name = str(path.relative_to(ROOT))
        if imports(path) & {"rocksdict.Rdict", "rocksdict.AccessType", "rocksdict.Checkpoint", "rocksdict.Snapshot"}:
            opening.add(name)
        around |= {f"{name}: raw.{of}" for of in re.findall(r"\.raw\.(\w+)", path.read_text()) if of not in RAW}
    assert {name for name in opening if not name.startswith("tests/assumptions/")} == {"services/state/database.py"}
    assert around == {"services/state/family.py: raw.get", "services/state/family.py: raw.iter"}
    scans = re.findall(
        r"_db\.(iter|items|keys|values|columns|entities|snapshot)\b", (ROOT / "services/state/database.py").read_text()
    )
    assert not scans


def test_a_name_is_given_durably() -> None:
    """A rename lasts once its folder is synced: services/core/durable.py does both. The library's copy can be made again."""
    found = re.compile(r"os\.(rename|replace)\(|\b(draft|path|folder)\.(rename|replace)\(")
    ours = [p for p in sources(*SERVICES, "services") if found.search(p.read_text())]
    assert {str(p.relative_to(ROOT)) for p in ours} <= {"services/core/durable.py", "services/ops/openmp.py"}
    syncs = [p for p in sources(*OURS) if "fsync(" in p.read_text() and "tests" not in p.parts]
    assert {str(p.relative_to(ROOT)) for p in syncs} == {"services/core/durable.py"}


OWNED = {"models": "scorpion", "graphs": "pixie", "datasets": "rockstore"}  # folders of blobs, and whose they are
STATE = {name: name for name in SERVICES}  # folders of a service's own state in the data folder


def spelled(text: str, owned: Container[str] = OWNED) -> set[str]:
    """The owned folders that a module joins to a path, or begins a key or a pattern of paths with."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.left, node.right]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            parts = node.args if name in ("joinpath", "join", "Path", "below", "folder", "keys", "names") else []
        elif isinstance(node, ast.Constant | ast.JoinedStr):
            first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
            start, slash, _ = str(getattr(first, "value", "")).partition("/")
            found |= {start} if slash and start in owned and " " not in str(getattr(first, "value", "")) else set()
        found |= {str(part.value) for part in parts if isinstance(part, ast.Constant)}
    return {name for name in found if name in owned}


def test_no_other_code_knows_where_a_services_blobs_lie() -> None:
    """Others ask the owner, or read the store by keys that the owner names: on another machine there is no such folder."""
    wrong = [
        f"{path.relative_to(ROOT)} spells {folder}/"
        for path in sources(*SERVICES, "services", "features", "loaders", "learning", "cli", "bench")
        for folder in sorted(spelled(path.read_text()))
        if path.relative_to(ROOT).parts[0] != OWNED[folder]
    ]
    assert not wrong


def test_no_service_opens_the_folder_of_another() -> None:
    """The state of a service is its process's own: others ask it, or follow the log. The command and the benchmark look; and
    the kit sees whether a log was begun.
    """
    found = {
        f"{path.relative_to(ROOT)} spells {folder}/"
        for path in sources(*SERVICES, "services", "features", "loaders", "learning")
        for folder in sorted(spelled(path.read_text(), STATE))
        if path.relative_to(ROOT).parts[0] != folder
    }
    assert found == {f"services/{path} spells roadrunner/" for path in ("core/external.py", "ops/supervisor.py")}
    assert spelled('state = data / "polaris" / "0of1"', STATE) == {"polaris"}


@pytest.mark.parametrize(
    ("line", "held"),
    [
        ('p = data / "models" / name', False),
        ('p = Path(data, "graphs")', False),
        ('p = os.path.join(data, "datasets")', False),
        ('p = f"models/{name}/1/manifest.json"', False),
        ('p = data.glob("models/*/1")', False),
        ('b = blobs.below("graphs")', False),
        ('route = "/models/{name}/{version}/report"', True),
        ('answer = {"models": []}', True),
        ("p = data / keys.MODELS", True),
    ],
)
def test_where_a_folder_of_blobs_is_spelled_is_seen(line: str, held: bool) -> None:
    assert (spelled(line) == set()) == held


def test_no_file_and_no_function_is_two_things() -> None:
    long = []
    for path in sources(*OURS):
        text = path.read_text()
        if len(text.splitlines()) > MAX_FILE:
            long.append(f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno
                if lines > MAX_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert not long


def test_no_module_is_named_after_the_standard_library() -> None:
    named = [
        str(p.relative_to(ROOT)) for p in sources(*OURS) if p.stem in sys.stdlib_module_names and p.stem != "__main__"
    ]
    assert not [path for path in named if path.count("/") == 1 and not path.startswith(("tests/", "bench/"))]


def test_every_setting_is_described_and_the_reference_is_true() -> None:
    for section, struct in SCHEMA.items():
        for name, _, _, description in settings.describe(struct):
            assert description, f"[{section}] {name} has no description"
    assert (ROOT / "docs" / "settings.md").read_text() == settings_reference(), (
        "docs/settings.md is out of date: python -m cli.reference > docs/settings.md"
    )


def rpcs() -> list[tuple[str, str]]:
    """(service, rpc) of every .proto."""
    protos = sorted((ROOT / "protos").glob("*.proto"))
    return [(path.stem, rpc) for path in protos for rpc in re.findall(r"^\s*rpc (\w+)", path.read_text(), re.M)]


def test_every_rpc_is_described_in_its_readme() -> None:
    assert len(rpcs()) > 10
    for service, rpc in rpcs():
        readme = (ROOT / ("services" if service in ("calls", "status") else service) / "README.md").read_text()
        assert rpc in readme, f"{service}/README.md does not name {rpc}"


def test_clients_call_methods_that_there_are() -> None:
    """A client names a method as text: `ReplicaSet.call(shard, "Followed", request, timeout)`."""
    known = set(rpcs())
    for service in SERVICES:
        path = ROOT / service / "client.py"
        named = (
            re.findall(r'_replicas\.(?:call|all|every)\(\s*(?:[^"]*?,\s*)?"(\w+)"', path.read_text())
            if path.exists()
            else []
        )
        assert not [name for name in named if (service, name) not in known], path
        assert named or not path.exists(), path


#: Of services/rpc, whatever opens a way to one process; all but the kit name a service, a shard and a method.
WAYS = {f"services.rpc.{module}" for module in ("channel", "replica", "batching", "unix_client", "unix_socket")}


def ways_to_processes(text: str) -> set[str]:
    """A module's names of the single processes behind a service: channels, generated stubs, their places in a list."""
    names = {name for _, name in floors.imports(text)}
    known = {name for name in names if name.startswith(tuple(WAYS)) and name != "services.rpc.batching.batched_calls"}
    known |= {name for name in names if re.search(r"^grpc\.(aio|\w*channel)|Stub$", name)}
    return known | set(re.findall(r"\b\w+Stub\b|stubs?\[|insecure_channel|\.of\([^()]*\)\[", text))


def test_only_the_kit_knows_the_processes_of_a_service() -> None:
    """A second replica, or a process that moves, is then the concern of `ReplicaSet` alone."""
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in sources(*SERVICES, "features", "loaders", "learning")
        if (found := ways_to_processes(path.read_text()))
    }
    assert not wrong


@pytest.mark.parametrize("service", SERVICES)
def test_a_client_knows_no_grpc(service: str) -> None:
    path = ROOT / service / "client.py"
    if path.exists():
        assert not {name for name in imports(path) if name.split(".")[0] == "grpc" or "_pb2_grpc" in name}


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("from services.rpc.channel import open_sync", False),
        ("from services.rpc.replica import RemoteReplica", False),
        ("import grpc\nchannel = grpc.insecure_channel(at)", False),
        ("from grpc.aio import insecure_channel", False),
        ("stub = rpc.PolarisStub(channel)", False),
        ("from protos.polaris_pb2_grpc import PolarisStub", False),
        ("self._stubs[0]", False),
        ("mesh.of(NAME)[0].address", False),
        ("from services.rpc.batching import batched_calls", True),
        ("import grpc\ncode = grpc.StatusCode.OK", True),
        ("self._replicas.call(ONLY, 'Publish', request, timeout)", True),
    ],
)
def test_a_way_to_a_single_process_is_seen(text: str, held: bool) -> None:
    assert (ways_to_processes(text) == set()) == held


def test_generated_code_is_not_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not [line for line in tracked.splitlines() if "_pb2" in line or line.startswith(".venv")]


PINNED = r"#.*|[a-z0-9-]+==[\w.+!]+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?"


def test_the_lock_files_name_versions_and_no_address() -> None:
    for name in sorted(path.name for path in ROOT.glob("requirements*.lock")):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(PINNED, line), f"{name}: {line}"


def test_no_two_test_files_have_one_name() -> None:
    """pytest takes the second for the first, and collects neither."""
    names = [path.name for path in sources("tests") if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))
