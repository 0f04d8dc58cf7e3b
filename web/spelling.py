"""The external ids of a feed's page, and of its X-ray, where ids are text."""

from collections.abc import Iterator
from typing import Any

import msgspec

from protos import feedgen_pb2 as pb
from rockstore.client import BOARD, INTEREST, PIN, USER
from services.core.external import MAX_EXTERNAL, RULE
from web.ids import Ids
from web.wire import DIGITS, DIGITS_OR_0

LOST = "ids"  # named in `degraded`: items whose id is not known are left out
_FIELDS = {"pin": PIN, "seed": PIN, "board": BOARD, "interest": INTEREST, "user": USER}


async def spell(reply: pb.FeedReply, ids: Ids) -> None:
    """Give every item its external ids: those that feedgen hydrated, and the rest from memory or rockstore.

    An item whose own id is not known is left out: its reader could do nothing with it.
    """
    items = reply.items
    ids.learn(PIN, [item.pin for item in items], [item.pin_id for item in items])
    ids.learn(BOARD, [item.board for item in items], [item.board_id for item in items])
    ids.learn(USER, [item.owner for item in items], [item.owner_id for item in items])
    pins, boards, owners = await ids.spelled(
        (PIN, [item.pin for item in items]),
        (BOARD, [item.board for item in items]),
        (USER, [item.owner for item in items]),
    )
    for item, pin, board, owner in zip(items, pins, boards, owners, strict=True):
        item.pin_id, item.board_id, item.owner_id = pin or "", board or "", owner or ""
    lost = [i for i, pin in enumerate(pins) if pin is None]
    for i in reversed(lost):
        del items[i]
    if lost:
        reply.degraded.append(LOST)
    if reply.xray:
        reply.xray = await _spelled_xray(reply.xray, ids)


async def _spelled_xray(xray: bytes, ids: Ids) -> bytes:
    """The same X-ray with external ids; where none is known it has "#" and the number."""
    decoded = msgspec.json.decode(xray)
    places = list(_ids_in(decoded))
    wanted = sorted(
        {(kind, int(node[field])) for node, field, kind in places} | {(PIN, int(pin)) for pin in decoded["pins"]}
    )
    spelled = await ids.spelled(*((kind, [number]) for kind, number in wanted))
    texts = {of: text or f"#{of[1]}" for of, [text] in zip(wanted, spelled, strict=True)}
    for node, field, kind in places:
        node[field] = texts[kind, int(node[field])]
    decoded["pins"] = {texts[PIN, int(pin)]: ray for pin, ray in decoded["pins"].items()}
    return msgspec.json.encode(decoded)


def _ids_in(decoded: Any) -> Iterator[tuple[dict[str, Any], str, int]]:
    """(object, its field, the kind) of every id in an X-ray: strings of digits, of which "0" is none."""
    if isinstance(decoded, list):
        for part in decoded:
            yield from _ids_in(part)
    elif isinstance(decoded, dict):
        for field, value in decoded.items():
            if field in _FIELDS and isinstance(value, str) and value.isdigit() and value != "0":
                yield decoded, field, _FIELDS[field]
            elif isinstance(value, dict | list):
                yield from _ids_in(value)


_NUMERIC = (DIGITS, DIGITS_OR_0)
_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_EXTERNAL}
_NUMBERS_SAID = "Ids are unsigned 64-bit: answered as strings of digits, taken as strings or integers."


def with_text_ids(described: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a deployment whose ids are text."""
    changed: dict[str, Any] = _with_text(described)
    info = changed["info"]
    said = f"{RULE[0].upper()}{RULE[1:]}. Ids are answered as they were stated; an integer is taken as its digits."
    info["description"] = info["description"].replace(_NUMBERS_SAID, said)
    return changed


def _with_text(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_text(part) for part in node]
    if not isinstance(node, dict):
        return node
    if "anyOf" in node and any(isinstance(of, dict) and of.get("pattern") in _NUMERIC for of in node["anyOf"]):
        node = {key: value for key, value in node.items() if key != "default" or value is None}
        others = [of for of in node["anyOf"] if of.get("pattern") not in _NUMERIC and of.get("type") != "integer"]
        return {**node, "anyOf": [_TEXT, {"type": "integer"}, *others]}
    if node.get("pattern") in _NUMERIC:
        rest = {key: value for key, value in node.items() if key not in ("pattern", "description")}
        return {**rest, **_TEXT, "description": "an id, as it was stated"}
    return {key: _with_text(value) for key, value in node.items()}
