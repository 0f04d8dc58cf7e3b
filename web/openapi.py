"""The OpenAPI 3.1 description, generated from the operations and the structs they read and answer."""

from typing import Any

import msgspec
from grpc import StatusCode
from msgspec import Struct

from web.answers import Failure
from web.errors import HTTP
from web.guard import SAFE_METHODS
from web.operations import Operation
from web.problems import MEDIA, RETRY_AFTER_S, status_of
from web.problems import described as failure
from web.wire import After

REFERENCE = "#/components/schemas/{name}"
ANYWHERE = (400, 406, 408, 421, 431)  # of any request, whatever it asks
MEANING = {
    400: "What was stated is not allowed; the message names it and says what is",
    403: "A page of another site may not write here, unless a setting allows its origin",
    404: "There is no such thing",
    406: "`Accept-Encoding` refuses both gzip and identity",
    408: "Head or body did not arrive in time",
    409: "Another changed it meanwhile: look again",
    413: "The body is over the limit",
    415: "The media type or the coding of the body is not one that is read here",
    421: "`Host` is not a name of this server; a setting adds names",
    431: "The request line and headers are over 64 KB",
    429: "Shed: too much is under way, or a disk is full; retry after a moment",
    500: "Failed on the server",
    503: "A process that is needed is away, or not caught up, or too many bytes of bodies are under way; retry after a moment",
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
        "servers": [{"url": ".", "description": "beside this description, whatever prefix a proxy adds"}],
        "paths": paths,
        "components": {"schemas": {name: _without_defaults(schema) for name, schema in schemas.items()}},
    }


def _without_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Generators of clients take a field that has a default for one that is always there, also in what is sent."""
    fields = schema.get("properties", {})
    kept = {name: {k: v for k, v in field.items() if k != "default"} for name, field in fields.items()}
    return {**schema, "properties": kept} if fields else schema


def _operation(op: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": op.name,
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
            schema["default"] = str(field.default) if isinstance(field.default, After) else field.default
        described = {"description": schema.pop("description")} if "description" in schema else {}
        parameters.append(
            {"name": field.name, "in": "query", "required": field.required, "schema": schema, **described}
        )
    return parameters


def _json(kind: type[Struct], example: Any = None, as_media: str = "application/json") -> dict[str, Any]:
    media: dict[str, Any] = {"schema": {"$ref": REFERENCE.format(name=kind.__name__)}}
    return {as_media: media if example is None else {**media, "example": example}}


def _success(op: Operation) -> dict[str, Any]:
    if op.answer is None:
        return {"description": op.summary, "content": {op.media: {"schema": {"type": "string"}}}}
    return {"description": (op.answer.__doc__ or "").strip(), "content": _json(op.answer, op.example)}


def _failures(op: Operation) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    own = ANYWHERE if op.method in SAFE_METHODS else (*ANYWHERE, 403)
    own = (*own, 413, 415) if op.body is not None else own
    names: dict[int, list[str]] = {http: [status_of(http).name] for http in own}
    for status in op.errors:
        names.setdefault(HTTP[status], []).append(status.name)
    names.setdefault(500, ["INTERNAL"])
    for http, statuses in sorted(names.items()):
        example = msgspec.to_builtins(failure(http, MEANING[http], getattr(StatusCode, statuses[0])))
        answers[str(http)] = {"description": MEANING[http], "content": _json(Failure, example, MEDIA)}
        if http in RETRY_AFTER_S:
            answers[str(http)]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    if op.path == "/healthz":
        answers["503"] = {**_success(op), "description": "Some process is not ready; the same report"}
    return answers
