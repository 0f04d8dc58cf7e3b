"""A client generated from /openapi.json compiles, and README's examples with it; and what is answered is as described.

Needs npm, and its packages once: `make test` and `.ci/run` install them from tests/web/client/package-lock.json.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.web.test_web_openapi import all_operations
from web.openapi import describe

CLIENT = Path(__file__).parent / "client"
TOOLS = CLIENT / "node_modules" / ".bin"
NOT_TESTED = (
    "NOT TESTED: the generated client. Install Node.js with npm, and then run: npm ci --prefix tests/web/client"
)
STRICT = ("--noEmit", "--strict", "--exactOptionalPropertyTypes", "--skipLibCheck", "--target", "es2022")


@pytest.mark.skipif(not shutil.which("node") or not (TOOLS / "tsc").exists(), reason=NOT_TESTED)
def test_a_generated_client_compiles(tmp_path: Path) -> None:
    described = tmp_path / "openapi.json"
    described.write_text(json.dumps(describe(all_operations())))
    shutil.copy(CLIENT / "examples.ts", tmp_path)
    run(str(TOOLS / "openapi-typescript"), str(described), "-o", str(tmp_path / "generated.ts"))
    run(
        str(TOOLS / "tsc"),
        *STRICT,
        "--module",
        "esnext",
        "--moduleResolution",
        "bundler",
        str(tmp_path / "examples.ts"),
    )


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_names_no_registry() -> None:
    assert "resolved" not in (CLIENT / "package-lock.json").read_text()


def test_nothing_has_a_default_of_null_and_every_operation_has_a_name() -> None:
    described = describe(all_operations())
    for name, schema in described["components"]["schemas"].items():
        assert not any("default" in field for field in schema.get("properties", {}).values()), name
    event = described["components"]["schemas"]["Event"]
    assert event["required"] == ["action"]
    names = {entry["operationId"] for path in described["paths"].values() for entry in path.values()}
    assert {"getFeed", "postEvents", "listUsers", "getUser", "getPin", "takeDownPin"} <= names
