"""The values that a struct's field allows, and the error of a stated value, in words for the caller.

msgspec says "Expected `int`, got `str` - at `$.events[3].limit`": its types and its path. Here the field is named as it was
written, with what was given and what is allowed.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct, inspect

SHOWN = 80  # characters of a refused value


def shown(value: object) -> str:
    """A value as JSON, cut short."""
    text = msgspec.json.encode(value, enc_hook=str).decode(errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def complaint(error: Exception, raw: object, of: Any, root: str = "", whole: str = "the body") -> str:
    """The refusal of a ValidationError of msgspec: field, value and the values allowed.

    `of`: the type; `root`: where in a larger one it stands; `whole`: the error where no field is.
    """
    said, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`")
    field = f"{root}{path}".lstrip(".")
    found, info, note = _at(raw, of, path)
    if named := re.fullmatch(r"Object (missing required|contains unknown) field `(.*)`", said, re.DOTALL):
        field = f"{field}.{named[2]}".lstrip(".")[: SHOWN * 2]
        if named[1].startswith("missing"):
            return f"{field} is missing: {allowed(_field(info, named[2]))}{_described(info, named[2])}"
        return f"{field} is not known here; known are {', '.join(_fields(info))}"
    own = error.__cause__ is not None  # the text of a decoding hook of this project
    return f"{field or whole} = {shown(found)} is not allowed: {said if own else allowed(info)}{note}"


def unlike(error: Exception, data: bytes, of: Any) -> str:
    """The refusal of msgspec or a UnicodeDecodeError, of the bytes of a JSON file that holds an `of`."""
    if not isinstance(error, msgspec.ValidationError):
        return str(error)
    try:
        return complaint(error, msgspec.json.decode(data), of, whole="the file")
    except (msgspec.DecodeError, UnicodeDecodeError) as later:  # the refused value stood before a part that is no JSON
        return str(later)


def allowed(info: Any) -> str:
    """The values that a type of msgspec.inspect takes."""
    if isinstance(info, inspect.Metadata):
        names = (info.extra_json_schema or {}).get("enum")
        return f"one of {', '.join(names)}" if names else allowed(info.type)
    if isinstance(info, inspect.UnionType):
        kinds = " or ".join(allowed(one) for one in info.types if not isinstance(one, inspect.NoneType))
        return f"{kinds}, or null" if info.includes_none else kinds
    said = next((words for kind, words in _ALLOWED.items() if isinstance(info, kind)), None)
    return said(info) if said else "another kind of value"


def _bounds(info: Any) -> str:
    if info.ge is not None and info.le is not None:
        return f", {info.ge} to {info.le}"
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    bounds = ((word, getattr(info, name)) for name, word in words.items())
    return "".join(f", {word} {bound}" for word, bound in bounds if bound is not None)


def _lengths(info: Any, of: str) -> str:
    least, most = info.min_length, info.max_length
    if least and most is not None:
        return f" of {least} to {most} {of}" if of == "characters" else f", {least} to {most} {of}"
    if most is not None:
        return f" of at most {most} {of}" if of == "characters" else f", at most {most} {of}"
    if least:
        return f" of {least} {of} or more" if of == "characters" else f", {least} {of} or more"
    return ""


_ALLOWED: dict[Any, Callable[[Any], str]] = {
    inspect.BoolType: lambda info: "true or false",
    inspect.LiteralType: lambda info: "one of " + ", ".join(str(value) for value in info.values),
    inspect.IntType: lambda info: "a whole number" + _bounds(info),
    inspect.FloatType: lambda info: "a number" + _bounds(info),
    inspect.StrType: lambda info: "text" + _lengths(info, "characters"),
    inspect.ListType: lambda info: "a list" + _lengths(info, "of them"),
    inspect.VarTupleType: lambda info: "a list" + _lengths(info, "of them"),
    inspect.StructType: lambda info: "an object of " + ", ".join(_fields(info)),
    inspect.CustomType: lambda info: "an id",
}


def _at(raw: Any, of: Any, path: str) -> tuple[Any, Any, str]:
    """(what stands at msgspec's path, such as .events[3].user; its type; its description in brackets)."""
    info, note, lost = inspect.type_info(of), "", False
    for name, row in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", path):
        info = _bare(info)
        if row:
            info = getattr(info, "item_type", inspect.AnyType())
        else:
            note = _described(info, name)
            info = _field(info, name)
        if not lost:
            try:
                raw = raw[int(row)] if row else raw[name]
            except (KeyError, IndexError, TypeError, ValueError):
                lost = True  # as far as it can be followed
    return raw, info, note


def _bare(info: Any) -> Any:
    """A type without its metadata; of one that may be null, the other type."""
    while isinstance(info, inspect.Metadata | inspect.UnionType):
        if isinstance(info, inspect.Metadata):
            info = info.type
        else:
            info = next(one for one in info.types if not isinstance(one, inspect.NoneType))
    return info


def _field(info: Any, name: str) -> Any:
    return next((f.type for f in getattr(_bare(info), "fields", ()) if f.encode_name == name), inspect.AnyType())


def _fields(info: Any) -> list[str]:
    return [field.encode_name for field in getattr(_bare(info), "fields", ())]


def _described(info: Any, name: str) -> str:
    struct: type[Struct] | None = getattr(_bare(info), "cls", None)
    field = next((f for f in msgspec.structs.fields(struct) if f.encode_name == name), None) if struct else None
    if field is None:
        return ""
    schema = msgspec.json.schema(field.type)
    return f" ({schema['description']})" if "description" in schema else ""
