"""From the body of POST /v1/events to one batch: all events of a request, or a refusal that names the first bad one.

What an event needs is the log's law (services/events.py), and roadrunner holds every writer to it; here is only what
is the edge's own: names instead of numbers, what outsiders may not write, and what is filled in.
"""

import random
import re
from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec import Raw

from services.columns import U64
from services.errors import InvalidArgument
from services.events import AUDIT_FROM, NEVER_STATED, Batch, events
from web.questions import ACTIONS, MAX_EVENTS, SURFACES, Event, EventList
from web.wire import read, refusal, shown

ID_COLUMNS = ("user", "pin", "board", "target", "id")
FORMS = 'the body is not allowed: JSON {"events": [...]}, a list of events, or one event with its action'
_bare = msgspec.json.Decoder(Event, dec_hook=read)
_list = msgspec.json.Decoder(list[Event], dec_hook=read)
_envelope = msgspec.json.Decoder(EventList, dec_hook=read)
_top = msgspec.json.Decoder(dict[str, Raw])


def parse(body: bytes) -> list[Event]:
    """The events of {"events": [...]}, of a bare list or of a bare event. Raises InvalidArgument."""
    try:
        return _parsed(body)
    except UnicodeDecodeError:
        raise InvalidArgument(f"the body is not UTF-8{_where(body)}") from None
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"the body ({len(body)} bytes) is not JSON: {error}") from None
    except RecursionError:
        raise InvalidArgument("the body is not allowed: nested too deeply") from None


def _parsed(body: bytes) -> list[Event]:
    root = ""
    try:
        match body.lstrip()[:1]:
            case b"[":
                root = "events"
                return _counted(_list.decode(body))
            case b"{":
                stated = _top.decode(body)
                if "events" in stated:
                    return _envelope.decode(body).events
                if "action" in stated:
                    root = "events[0]"
                    return [_bare.decode(body)]
    except msgspec.ValidationError as error:
        whole = msgspec.json.decode(body)  # may fail in its turn: what was refused stood before what is no JSON
        raise refusal(error, whole, Event, None if root else EventList, root) from None
    raise InvalidArgument(FORMS)


def _counted(given: list[Event]) -> list[Event]:
    if not 1 <= len(given) <= MAX_EVENTS:
        raise InvalidArgument(f"events: {len(given)} are not allowed: 1 to {MAX_EVENTS} a request")
    return given


def _where(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f": byte {error.start} is 0x{body[error.start]:02x}"
    return ""


def batch_of(given: list[Event], now_ms: int) -> Batch:
    """The events as columns: names resolved, missing ids random, missing dates now. Raises InvalidArgument."""
    columns = {name: np.array([getattr(e, name) or 0 for e in given], np.uint64) for name in ID_COLUMNS}
    for row in np.flatnonzero(columns["id"] == 0).tolist():
        if given[row].id is not None:
            raise InvalidArgument(
                f"events[{row}].id = 0 is not allowed: the writer's idempotency key, 1 or more; or none"
            )
        columns["id"][row] = random.randrange(1, AUDIT_FROM)
    for name in ID_COLUMNS:
        _refuse_reserved(name, columns[name])
    for row, event in enumerate(given):
        if event.interests:
            _refuse_reserved("interests", np.array(event.interests, np.uint64), row)
    return events(
        len(given),
        **columns,
        action=[_number(ACTIONS, e.action, "action", row) for row, e in enumerate(given)],
        surface=[_number(SURFACES, e.surface, "surface", row) for row, e in enumerate(given)],
        at_ms=[now_ms if e.at_ms is None else e.at_ms for e in given],
        quality=[_quality(e, row) for row, e in enumerate(given)],
        title=[e.title or "" for e in given],
        link=[e.link or "" for e in given],
        interests=[e.interests or [] for e in given],
    )


def _number(names: Mapping[str, int], name: str, field: str, row: int) -> int:
    number = names.get(name)
    if number is None:
        raise InvalidArgument(f"events[{row}].{field} = {shown(name)} is not allowed: one of {', '.join(names)}")
    return int(number)


def _quality(event: Event, row: int) -> float:
    if event.quality is None:
        return float(NEVER_STATED)
    if not 0 <= event.quality <= 1:  # before float32 has rounded it
        raise InvalidArgument(f"events[{row}].quality = {event.quality} is not allowed: 0 to 1, or none")
    return event.quality


def _refuse_reserved(field: str, ids: U64, row: int | None = None) -> None:
    bad = np.flatnonzero(ids >= np.uint64(AUDIT_FROM))
    if len(bad):
        at = int(bad[0]) if row is None else row
        raise InvalidArgument(
            f"events[{at}].{field} = {ids[bad[0]]} is not allowed: ids from {AUDIT_FROM} on are the mesh's own"
        )


def as_stated(error: InvalidArgument) -> InvalidArgument:
    """A refusal of the log, whose columns are batch.user[3], as the request has it: events[3].user."""
    return InvalidArgument(re.sub(r"\bbatch\.(\w+)\[(\d+)\]", r"events[\2].\1", str(error)))
