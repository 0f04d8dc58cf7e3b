"""The description: whole, consistent, and its examples true."""

import re
from pathlib import Path
from typing import Any, cast

import msgspec

from services.ops.status import Status
from web.answers import Failure
from web.events import Events
from web.feeds import Feeds
from web.health import Watch
from web.models import Models
from web.openapi import describe
from web.operations import Operation, operations
from web.pins import PinReader
from web.promotion import Promotions
from web.users import Users
from web.wire import read

NOBODY = cast(Any, None)


def all_operations() -> list[Operation]:
    return operations(
        Feeds(NOBODY, 1),
        Events(NOBODY, lambda: 0, NOBODY, 1),
        Users(NOBODY, NOBODY, 1),
        PinReader(NOBODY, 1),
        Models(NOBODY, Path(), 1),
        Promotions(NOBODY, NOBODY, Path(), 1),
        Watch(NOBODY, cast(Status, None), NOBODY, NOBODY, Path()),
    )


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_operation_and_error_is_described() -> None:
    described = describe(all_operations())
    assert described["openapi"] == "3.1.0"
    for operation in all_operations():
        entry = described["paths"][operation.path][operation.method.lower()]
        in_path = {p["name"] for p in entry["parameters"] if p["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", operation.path))
        assert str(operation.status) in entry["responses"]
        assert {"400", "406", "408", "421", "431"} <= set(entry["responses"]), "of any request"
        if operation.path.startswith("/v1"):
            assert {"400", "429", "500", "503", "504"} <= set(entry["responses"])
    ids = [e["operationId"] for path in described["paths"].values() for e in path.values()]
    assert len(set(ids)) == len(ids)
    assert "413" in described["paths"]["/v1/events"]["post"]["responses"]
    report = described["paths"]["/models/{name}/{version}/report"]["get"]
    assert list(report["responses"]["200"]["content"]) == ["text/html"]


def test_every_reference_leads_somewhere() -> None:
    described = describe(all_operations())
    names = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert references(described) == names
    assert msgspec.json.decode(msgspec.json.encode(described)) == described


def test_examples_are_true() -> None:
    for operation in all_operations():
        if operation.answer is not None:
            example = msgspec.json.encode(operation.example)
            read_back = msgspec.json.decode(example, type=operation.answer)
            assert msgspec.json.decode(msgspec.json.encode(read_back)) == operation.example
        if operation.body is not None:
            msgspec.convert(operation.body_example, operation.body, dec_hook=read)
    for path in describe(all_operations())["paths"].values():
        for entry in path.values():
            for http, answered in entry["responses"].items():
                if int(http) >= 400 and "Failure" in str(answered):
                    msgspec.convert(answered["content"]["application/problem+json"]["example"], Failure)
