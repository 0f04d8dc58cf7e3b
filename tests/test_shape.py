"""Holds the pattern: every service has the same rooms, imports go one way, and nothing is left undescribed."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import settings
from services.command.reference import settings_reference
from services.settings import SERVICES, ShardSettings

ROOT = Path(__file__).resolve().parent.parent
STATEFUL = [name for name in SERVICES if issubclass(settings.door_settings(name), ShardSettings)] + ["roadrunner"]
ROOMS = ("__main__.py", "layout.py", "store.py", "service.py", "client.py", "README.md")
MAX_FILE, MAX_FUNCTION, MAX_DOOR = 400, 60, 90
OURS = (*SERVICES, "services", "features", "datasets", "training", "evaluation", "tests", "bench")


def sources(*folders: str) -> Iterator[Path]:
    """Python files that people write."""
    for folder in folders:
        yield from (
            p for p in sorted((ROOT / folder).rglob("*.py")) if "_pb2" not in p.name and "__pycache__" not in p.parts
        )


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def top(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("service", STATEFUL)
def test_a_stateful_service_has_every_room(service: str) -> None:
    missing = [room for room in ROOMS if not (ROOT / service / room).exists()]
    assert not missing


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_a_door_of_one_page_and_a_readme(service: str) -> None:
    assert (ROOT / service / "README.md").exists()
    assert len((ROOT / service / "__main__.py").read_text().splitlines()) <= MAX_DOOR


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
        str(p.relative_to(ROOT)) for p in sources("services") if top(imports(p)) & {*SERVICES, "datasets", "tests"}
    ]
    assert not wrong


@pytest.mark.parametrize("room", ["store.py", "layout.py", "kernel.py"])
def test_the_rooms_of_the_state_know_no_network(room: str) -> None:
    forbidden = {"grpc", "asyncio", "starlette", "uvicorn", "socket"}
    for service in SERVICES:
        path = ROOT / service / room
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
    elsewhere = {"services/shard.py", "services/tokens.py", "feedgen/cursor.py"}
    packing = {str(p.relative_to(ROOT)) for p in sources(*SERVICES, "services") if "struct" in imports(p)}
    assert {p for p in packing if not p.endswith("layout.py")} <= elsewhere


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
    for section, struct in settings.schema().items():
        for name, _, _, description in settings.describe(struct):
            assert description, f"[{section}] {name} has no description"
    assert (ROOT / "docs" / "settings.md").read_text() == settings_reference(), (
        "docs/settings.md is out of date: python -m services.command.reference > docs/settings.md"
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


def test_generated_code_is_not_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not [line for line in tracked.splitlines() if "_pb2" in line or line.startswith(".venv")]


def test_the_lock_files_name_versions_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(r"#.*|[a-z0-9-]+==[\w.+!]+", line), f"{name}: {line}"
