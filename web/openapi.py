"""The OpenAPI 3.1 description, generated from the operations and the structs they read and answer."""

from typing import Any

import msgspec
from msgspec import Struct

from web.answers import Failure
from web.errors import HTTP, RETRY_AFTER_S
from web.operations import Operation
from web.wire import U64

REFERENCE = "#/components/schemas/{name}"
MEANING = {
    400: "What was stated is not allowed; the message names it and says what is",
    404: "There is no such thing",
    413: "The body is over the limit",
    429: "Shed: too much is under way, or a disk is full; retry after a moment",
    500: "Failed on the server",
    503: "A process that is needed is away, or not caught up; retry after a moment",
    504: "Time ran out; a write may still have been accepted, and is safe to repeat with the same ids",
}


def describe(operations: list[Operation]) -> dict[str, Any]:
    """The whole document."""
    kinds = {kind for op in operations for kind in (op.answer, op.body) if kind is not None} | {Failure}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Feedmesh",
            "version": "1",
            "summary": "Personal feeds, on data that is seconds old",
            "description": "Ids are unsigned 64-bit: answered as strings of digits, taken as strings or integers. "
            "Every error has the same body.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(op: Operation) -> dict[str, Any]:
    name = "".join(part.strip("{}").capitalize() for part in op.path.removeprefix("/v1").split("/"))
    described: dict[str, Any] = {
        "operationId": op.method.lower() + name,
        "summary": op.summary,
        "tags": ["api" if op.path.startswith("/v1") else "operation"],
        "parameters": [*_in_path(op), *_in_query(op.query)],
        "responses": {str(op.status): _success(op), **_failures(op)},
    }
    if op.more:
        described["description"] = op.more
    if op.body is not None:
        described["requestBody"] = {"required": True, "content": _json(op.body, op.body_example)}
    return described


def _in_path(op: Operation) -> list[dict[str, Any]]:
    return [{"name": n, "in": "path", "required": True, "schema": schema} for n, schema in op.in_path.items()]


def _in_query(kind: type[Struct]) -> list[dict[str, Any]]:
    parameters = []
    for field in msgspec.structs.fields(kind):
        schema = msgspec.json.schema(field.type)
        if not field.required:
            schema["default"] = str(field.default) if isinstance(field.default, U64) else field.default
        described = {"description": schema.pop("description")} if "description" in schema else {}
        parameters.append(
            {"name": field.name, "in": "query", "required": field.required, "schema": schema, **described}
        )
    return parameters


def _json(kind: type[Struct], example: Any = None) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": {"$ref": REFERENCE.format(name=kind.__name__)}}
    return {"application/json": media if example is None else {**media, "example": example}}


def _success(op: Operation) -> dict[str, Any]:
    if op.answer is None:
        return {"description": op.summary, "content": {op.media: {"schema": {"type": "string"}}}}
    return {"description": (op.answer.__doc__ or "").strip(), "content": _json(op.answer, op.example)}


def _failures(op: Operation) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    names: dict[int, list[str]] = {413: ["INVALID_ARGUMENT"]} if op.body is not None else {}
    for status in op.errors:
        names.setdefault(HTTP[status], []).append(status.name)
    names.setdefault(500, ["INTERNAL"])
    for http, statuses in sorted(names.items()):
        example = {"error": {"status": statuses[0], "message": MEANING[http]}}
        answers[str(http)] = {"description": MEANING[http], "content": _json(Failure, example)}
        if http in RETRY_AFTER_S:
            answers[str(http)]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    if op.path == "/healthz":
        answers["503"] = {**_success(op), "description": "Some process is not ready; the same report"}
    return answers
