"""From the body of POST /v1/events to one batch: all events of a request, or a refusal that names the first bad one.

The columns that an event needs are the log's rule (services/core/events.py), and roadrunner holds every writer to it; here
are only the edge's own rules: names instead of numbers, actions that outsiders may not write, and columns that are filled in.
"""

import json
import random
import re
from collections.abc import Mapping

import mmh3
import msgspec
import numpy as np
from msgspec import Raw

from services.core.clock import date_text
from services.core.columns import I64, Array
from services.core.errors import InvalidArgument
from services.core.events import NEEDS, NEVER_STATED, RESERVED_FROM, SECONDS, STATES_LINK, STATES_TITLE, Batch, events
from services.core.texts import LINK_RULE, TEXT_RULE, first_bad_link, first_bad_text
from services.core.words import complaint, shown
from web.questions import ACTIONS, MAX_EVENTS, MAX_WRITER, SURFACES, Event, EventList
from web.wire import Reading, first_twice, read

ID_COLUMNS = ("user", "pin", "board", "target", "id")
FORMS = 'the body is not allowed: JSON {"events": [...]}, a list of events, or one event with its action'
_top = msgspec.json.Decoder(dict[str, Raw])


class Decoders:
    """Of events, by how their ids are read."""

    def __init__(self, reading: Reading = read) -> None:
        self.bare = msgspec.json.Decoder(Event, dec_hook=reading)
        self.list = msgspec.json.Decoder(list[Event], dec_hook=reading)
        self.envelope = msgspec.json.Decoder(EventList, dec_hook=reading)


_numbers = Decoders()


def parse(body: bytes, decoders: Decoders = _numbers) -> list[Event]:
    """The events of {"events": [...]}, of a bare list or of a bare event. Raises InvalidArgument."""
    try:
        return _parsed(body, decoders)
    except UnicodeDecodeError:
        raise InvalidArgument(f"the body is not UTF-8{_where(body)}") from None
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"the body ({len(body)} bytes) is not JSON: {error}") from None
    except RecursionError:
        raise InvalidArgument("the body is not allowed: nested too deeply") from None


def _parsed(body: bytes, decoders: Decoders) -> list[Event]:
    root = ""
    try:
        match body.lstrip()[:1]:
            case b"[":
                root = "events"
                return _once(_counted(decoders.list.decode(body)), body)
            case b"{":
                stated = _top.decode(body)
                if "events" in stated:
                    return _once(decoders.envelope.decode(body).events, body)
                if "action" in stated:
                    root = "events[0]"
                    return _once([decoders.bare.decode(body)], body)
    except msgspec.ValidationError as error:
        whole = msgspec.json.decode(body)  # may fail too: the refused value stood before a part that is no JSON
        kind = {"events": list[Event], "events[0]": Event, "": EventList}[root]
        raise InvalidArgument(complaint(error, whole, kind, root)) from None
    raise InvalidArgument(FORMS)


def _counted(given: list[Event]) -> list[Event]:
    if not 1 <= len(given) <= MAX_EVENTS:
        raise InvalidArgument(f"events: {len(given)} are not allowed: 1 to {MAX_EVENTS} a request")
    return given


def _once(given: list[Event], body: bytes) -> list[Event]:
    """The events, where no object states a field twice: which of the two counts is a matter of taste among readers of JSON.

    Objects end in the order of the events, and their enclosing object last. Values that are no events were refused before.
    """
    row = -1

    def pairs(stated: list[tuple[str, object]]) -> None:
        nonlocal row
        row += 1
        if len({name for name, _ in stated}) < len(stated):
            where = f"events[{row}]." if row < len(given) else ""
            raise InvalidArgument(f"{where}{first_twice(name for name, _ in stated)} is stated twice; once is allowed")

    json.loads(body, object_pairs_hook=pairs, parse_int=float)
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
        columns["id"][row] = random.randrange(1, RESERVED_FROM)
    at_ms = np.array([now_ms if e.at_ms is None else e.at_ms for e in given], np.int64)
    _refuse_seconds(at_ms)
    titles, links = [e.title or "" for e in given], [e.link or "" for e in given]
    _refuse_text("title", titles, first_bad_text(titles), TEXT_RULE)
    _refuse_text("link", links, first_bad_link(links), LINK_RULE)
    actions = np.array([_number(ACTIONS, e.action, "action", row) for row, e in enumerate(given)], np.uint8)
    for name, needed in NEEDS.items():
        _refuse_missing(name, needed[actions] & (columns[name] == 0), given)
    return events(
        len(given),
        **columns,
        writer=[_writer(e.writer, row) for row, e in enumerate(given)],
        action=actions,
        surface=[_number(SURFACES, e.surface, "surface", row) for row, e in enumerate(given)],
        at_ms=at_ms,
        quality=[_quality(e, row) for row, e in enumerate(given)],
        stated=[(e.title == "") * STATES_TITLE | (e.link == "") * STATES_LINK for e in given],
        title=titles,
        link=links,
        interests=[e.interests or [] for e in given],
    )


def _writer(stated: str | int | None, row: int) -> int:
    """A writer's name or number as the log has it, 0 for none; 7 and "7" are the same writer."""
    if stated is None:
        return 0
    if not 1 <= len(name := str(stated)) <= MAX_WRITER:
        raise InvalidArgument(
            f"events[{row}].writer = {shown(stated)} is not allowed: a name of 1 to {MAX_WRITER} characters, or a number"
        )
    return int(mmh3.hash64(name.encode(), signed=False)[0]) or 1


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


def _refuse_missing(field: str, missing: Array, given: list[Event]) -> None:
    """Checks the ids that an action needs; a stated id is never 0."""
    if missing.any():
        row = int(missing.argmax())
        raise InvalidArgument(f"events[{row}].{field} is missing: {given[row].action} needs one")


def _refuse_text(field: str, values: list[str], row: int | None, allowed: str) -> None:
    if row is not None:
        raise InvalidArgument(f"events[{row}].{field} = {shown(values[row])} is not allowed: {allowed}")


def _refuse_seconds(at_ms: I64) -> None:
    bad = (at_ms >= SECONDS[0]) & (at_ms < SECONDS[1])
    if bad.any():
        row = int(bad.argmax())
        found, meant = int(at_ms[row]), date_text(int(at_ms[row]) * 1000)
        raise InvalidArgument(
            f"events[{row}].at_ms = {found} is not allowed: it is {date_text(found)} in milliseconds; for {meant} it is "
            f"{found * 1000}"
        )


def as_stated(error: InvalidArgument) -> InvalidArgument:
    """A refusal of the log, whose columns are batch.user[3], as the request has it: events[3].user."""
    return InvalidArgument(re.sub(r"\bbatch\.(\w+)\[(\d+)\]", r"events[\2].\1", str(error)))
