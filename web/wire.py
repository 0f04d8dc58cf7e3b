"""JSON as the edge speaks it: ids as decimal strings, requests validated by struct, refusals that name the field.

Knows no route. An id is accepted as a string of digits or as an integer, and always answered as a string, because
JavaScript's numbers end at 2**53.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from services.core.errors import InvalidArgument
from services.core.events import RESERVED_FROM
from services.core.words import SHOWN, complaint, shown

T = TypeVar("T", bound=Struct)
Reading = Callable[[type, object], Any]
LAST_ID = RESERVED_FROM - 1
RESERVED = f"ids from {RESERVED_FROM} on are the mesh's own"
ID_RULE = f"an id is 1 to {LAST_ID}, as a string of digits without a leading 0 or as an integer"
DIGITS, DIGITS_OR_0 = "^[1-9][0-9]{0,19}$", "^(0|[1-9][0-9]{0,19})$"
_DIGITS = re.compile(DIGITS, re.ASCII)


class U64(int):
    """An unsigned 64-bit number as a request states it."""


class After(U64):
    """An id to go on after; 0 is before all of them."""


def _schema(pattern: str, least: int) -> dict[str, Any]:
    return {
        "anyOf": [{"type": "string", "pattern": pattern}, {"type": "integer", "minimum": least, "maximum": LAST_ID}]
    }


Id = Annotated[U64, Meta(extra_json_schema=_schema(DIGITS, 1))]
AfterId = Annotated[After, Meta(extra_json_schema=_schema(DIGITS_OR_0, 0))]


def _id(value: object) -> U64:
    # bool is an int, and int() reads signs, underscores and other scripts' digits: none of these is an id.
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 0 < value < 1 << 64:
        raise ValueError(ID_RULE)
    if value > LAST_ID:
        raise ValueError(f"{RESERVED}; {ID_RULE}")
    return U64(value)


def read(kind: type, value: object) -> U64:
    """The decode hook of msgspec: makes an id of what JSON or a query states. Raises ValueError with the rule."""
    if kind is U64:
        return _id(value)
    if kind is not After:
        raise NotImplementedError(f"{kind} has no reading")
    return After(0 if value == "0" else _id(value))  # of queries, which are text


def object_id(text: str, name: str) -> int:
    """The id in a path. Raises InvalidArgument naming it."""
    try:
        return int(_id(text))
    except ValueError as error:
        raise InvalidArgument(f"{name} = {shown(text)} is not allowed: {error}") from None


def asked(request: Request, kind: type[T], reading: Reading = read) -> T:
    """The query of a request as `kind`; reading: of its ids. Raises InvalidArgument naming the parameter."""
    stated = parameters(request.scope["query_string"])
    raw = dict(stated)
    if len(stated) != len(raw):
        raise InvalidArgument(f"{first_twice(name for name, _ in stated)} is stated twice; once is allowed")
    try:
        return msgspec.convert(raw, kind, strict=False, dec_hook=reading)
    except msgspec.ValidationError as error:
        raise InvalidArgument(complaint(error, raw, kind)) from None


def parameters(query: bytes) -> list[tuple[str, str]]:
    """Names and values. A query without escapes, as most are, is cut here: the library takes several times as long.

    Raises InvalidArgument for bytes that are not UTF-8.
    """
    try:
        text = query.decode()
        if "%" in text or "+" in text:
            return parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidArgument("the query is not UTF-8, percent-encoded") from None
    cut = (part.partition("=") for part in text.split("&") if part)
    return [(name, value) for name, _, value in cut]


def first_twice(names: Iterable[str]) -> str:
    """The first name that was there before, cut short."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name[: 2 * SHOWN]
        seen.add(name)
    return ""


_encoder = msgspec.json.Encoder()


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(_encoder.encode(value), status, headers, "application/json")
