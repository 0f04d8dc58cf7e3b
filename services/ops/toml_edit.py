"""Changes whole numbers in a TOML file in place: comments, and all that is not concerned, stay byte by byte."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from services.core.errors import InvalidArgument

Change = Mapping[str, int] | None  # settings of a section; None: the section is removed


def changed(text: str, changes: Mapping[str, Change], origin: str) -> str:
    """The text with these sections changed. A section that is not there is put at the end.

    Raises InvalidArgument for a file in which they stand in another form than `[section]` and `name = value` lines.
    """
    found, expected = text, tomllib.loads(text)
    for name, change in changes.items():
        found = _without(found, name) if change is None else _with(found, name, change)
        _expect(expected, name.split("."), change)
    try:
        if tomllib.loads(found) == expected:
            return found
    except tomllib.TOMLDecodeError:
        pass
    raise InvalidArgument(f"{origin}: can't be changed here, so change it by hand: {said(changes)}")


def said(changes: Mapping[str, Change]) -> str:
    """The changes in words."""
    return "; ".join(
        f"[{name}] is removed" if change is None else f"[{name}] {', '.join(f'{k} = {v}' for k, v in change.items())}"
        for name, change in changes.items()
    )


def _expect(raw: dict[str, Any], names: list[str], change: Change) -> None:
    first, *rest = names
    if rest:
        _expect(raw.setdefault(first, {}), rest, change)
        if not raw[first]:
            del raw[first]
    elif change is None:
        raw.pop(first, None)
    else:
        raw[first] = raw.get(first, {}) | dict(change)


def _bounds(lines: list[str], name: str) -> tuple[int, int] | None:
    """The line of a section's head, and the one behind its last setting."""
    head = re.compile(rf"\s*\[\s*{re.escape(name)}\s*\]\s*(#.*)?\r?\Z")
    start = next((at for at, line in enumerate(lines) if head.match(line)), None)
    if start is None:
        return None
    end = start + 1
    for at in range(start + 1, len(lines)):
        line = lines[at].strip()
        if line.startswith("["):
            break
        if line and not line.startswith("#"):
            end = at + 1
    return start, end


def _with(text: str, name: str, settings: Mapping[str, int]) -> str:
    lines = text.split("\n")
    bounds = _bounds(lines, name)
    if bounds is None:
        added = [f"[{name}]", *(f"{key} = {value}" for key, value in settings.items())]
        return "\n".join([*([text.rstrip("\n"), ""] if text.strip() else []), *added, ""])
    start, end = bounds
    for key, value in settings.items():
        form = re.compile(rf"(\s*{re.escape(key)}\s*=\s*)[\d_]+")
        at = next((at for at in range(start + 1, end) if form.match(lines[at])), None)
        if at is None:
            lines.insert(end, f"{key} = {value}")
            end += 1
        else:
            lines[at] = form.sub(rf"\g<1>{value}", lines[at], count=1)
    return "\n".join(lines)


def _without(text: str, name: str) -> str:
    lines = text.split("\n")
    bounds = _bounds(lines, name)
    if bounds is None:
        return text
    start, end = bounds
    if start and not lines[start - 1].strip():
        start -= 1
    return "\n".join(lines[:start] + lines[end:])
