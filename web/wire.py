"""JSON as the edge speaks it: ids as decimal strings, requests validated by struct, refusals that name the field.

Knows no route. An id is accepted as a string of digits or as an integer, and always answered as a string, because
JavaScript's numbers end at 2**53.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from services.errors import InvalidArgument

T = TypeVar("T", bound=Struct)
MAX_ID = 2**64 - 1
SHOWN = 80  # characters of a refused value
ID_RULE = f"an id is 0 to {MAX_ID}, as a string of digits or an integer"


class U64(int):
    """An unsigned 64-bit number as a request states it."""


ID_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": "^[0-9]{1,20}$"}, {"type": "integer", "minimum": 0, "maximum": MAX_ID}]
}
Id = Annotated[U64, Meta(extra_json_schema=ID_SCHEMA)]


def _id(value: object) -> U64:
    # bool is an int, and int() reads signs, underscores and other scripts' digits: none of these is an id.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise ValueError(ID_RULE)
    return U64(value)


def read(kind: type, value: object) -> U64:
    """The decode hook of msgspec: makes an id of what JSON or a query states. Raises ValueError with the rule."""
    if kind is not U64:
        raise NotImplementedError(f"{kind} has no reading")
    return _id(value)


def object_id(text: str, name: str) -> int:
    """The id in a path; 0 is nobody's. Raises InvalidArgument naming it."""
    try:
        found = _id(text)
    except ValueError:
        found = U64(0)
    if not found:
        raise InvalidArgument(f"{name} = {shown(text)} is not allowed: a string of digits, 1 to {MAX_ID}")
    return int(found)


def asked(request: Request, kind: type[T]) -> T:
    """The query of a request as `kind`. Raises InvalidArgument naming the parameter."""
    stated = parameters(request.scope["query_string"].decode("latin-1"))
    raw = dict(stated)
    if len(stated) != len(raw):
        raise InvalidArgument(f"a parameter is stated twice; known are {', '.join(kind.__struct_fields__)}")
    try:
        return msgspec.convert(raw, kind, strict=False, dec_hook=read)
    except msgspec.ValidationError as error:
        raise refusal(error, raw, kind, kind) from None


def parameters(query: str) -> list[tuple[str, str]]:
    """Names and values. What has nothing escaped in it, as most, is cut here: the library takes several times as long."""
    if "%" in query or "+" in query:
        return parse_qsl(query, keep_blank_values=True)
    cut = (part.partition("=") for part in query.split("&") if part)
    return [(name, value) for name, _, value in cut]


def refusal(error: Exception, raw: object, kind: type, top: type | None, root: str = "") -> InvalidArgument:
    """msgspec's complaint as field, value and what is allowed.

    `kind`: the struct of a nested field; `top`: that of the outermost object; `root`: what the outermost is called.
    """
    said, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`")
    field = f"{root}{path}".lstrip(".")
    struct = kind if path or top is None else top
    if named := re.fullmatch(r"Object (missing required|contains unknown) field `(.*)`", said, re.DOTALL):
        field = f"{field}.{named[2]}".lstrip(".")
        known = ", ".join(getattr(struct, "__struct_fields__", ()))
        what = "is missing" if named[1].startswith("missing") else f"is not known here; known are {known}"
        return InvalidArgument(f"{field[: SHOWN * 2]} {what}")
    note = _description(struct, path)
    return InvalidArgument(f"{field or 'the body'} = {shown(_at(raw, path))} is not allowed: {said}{note}")


def _at(raw: Any, path: str) -> Any:
    """What stands at msgspec's path, such as .events[3].user."""
    for name, row in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        try:
            raw = raw[int(row)] if row else raw[name]
        except (KeyError, IndexError, TypeError):
            return raw
    return raw


def _description(struct: type, path: str) -> str:
    names = re.findall(r"\.(\w+)", path)
    field = next((f for f in msgspec.structs.fields(struct) if names and f.name == names[-1]), None)
    if field is None:
        return ""
    schema = msgspec.json.schema(field.type)
    return f" ({schema['description']})" if "description" in schema else ""


def shown(value: object) -> str:
    """A value as JSON, cut short."""
    text = msgspec.json.encode(value).decode(errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


_encoder = msgspec.json.Encoder()


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(_encoder.encode(value), status, headers, "application/json")
