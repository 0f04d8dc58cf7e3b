"""A batch off the wire is refused exactly as the kit refuses it, and groups hold what their batches say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import events_pb2 as pb
from roadrunner.intake import Group, check
from services.core.columns import Ragged
from services.core.errors import InvalidArgument
from services.core.events import (
    COLUMNS,
    EARLIEST_MS,
    MAX_EVERYWHERE,
    MAX_FEATURES,
    MAX_INTERESTS,
    MAX_JOINS,
    MAX_SWITCHES,
    MAX_TEXT,
    RAGGED,
    RESERVED_FROM,
    Action,
    Batch,
    events,
    validate,
)
from services.core.external import refuse_names
from tests.services.batches import any_batches, good_batches, rows_of

NOW, AHEAD = 1_750_000_000_000, 60_000
times = st.sampled_from([0, EARLIEST_MS - 1, EARLIEST_MS, NOW, NOW + AHEAD, NOW + AHEAD + 1, -1, 2**62])
ids = st.sampled_from([0, 1, 2, 2**64 - 1])
near_good: dict[str, st.SearchStrategy[Any]] = {
    "action": st.sampled_from([*map(int, Action), 0, 255]),
    "at_ms": st.one_of(st.just(NOW), times),
    "quality": st.sampled_from([float("nan"), 0.0, 1.0, -0.5, 1.5, float("inf")]),
    "interests": st.lists(ids, max_size=2),
    "stated": st.integers(0, 4),
} | dict.fromkeys(("user", "pin", "board", "target", "id"), ids)


def of_kit(message: pb.Batch) -> str:
    """Why the kit refuses it; empty when it does not."""
    try:
        batch = Batch.of(message)
        validate(batch, NOW, AHEAD)
        refuse_names(batch)
    except InvalidArgument as error:
        return str(error)
    return ""


def of_ingest(message: pb.Batch) -> str:
    try:
        check(message, NOW, AHEAD)
    except InvalidArgument as error:
        return str(error)
    return ""


@given(st.one_of(any_batches(4), any_batches(3, **near_good), good_batches(4)))
def test_any_batch_is_judged_as_the_kit_judges_it(batch: Batch) -> None:
    message = batch.to_proto()
    assert of_ingest(message) == of_kit(message)


@given(good_batches(3, at_ms=st.just(NOW)))
def test_good_batches_pass(batch: Batch) -> None:
    assert of_ingest(batch.to_proto()) == ""


FIELDS = [*COLUMNS, *(f"{name}.ends" for name in RAGGED), *(f"{name}.{values}" for name, (_, values) in RAGGED.items())]


@given(good_batches(3), st.sampled_from(FIELDS), st.binary(max_size=24))
def test_any_bytes_in_any_column_are_judged_as_the_kit_judges_them(batch: Batch, field: str, data: bytes) -> None:
    message: Any = batch.to_proto()
    *way, last = field.split(".")
    setattr(getattr(message, way[0]) if way else message, last, data)
    assert of_ingest(message) == of_kit(message)


@given(good_batches(2, at_ms=st.just(NOW)), st.integers(0, 4))
def test_another_number_of_rows_is_judged_as_the_kit_judges_it(batch: Batch, n: int) -> None:
    message = batch.to_proto()
    message.n = n
    assert of_ingest(message) == of_kit(message)


@pytest.mark.parametrize(
    ("name", "most"), [("title", MAX_TEXT), ("interests", MAX_INTERESTS), ("features", MAX_FEATURES)]
)
def test_a_run_is_as_long_as_allowed(name: str, most: int) -> None:
    for length in (most, most + 1):
        dtype = RAGGED[name][0]
        runs = Ragged(np.array([0, length, length], np.uint32), np.ones(length, dtype))
        message = events(3, action=Action.CREATE_PIN, pin=1, at_ms=NOW, id=[1, 2, 3], **{name: runs}).to_proto()
        assert of_ingest(message) == of_kit(message)
        assert bool(of_ingest(message)) == (length > most)


@pytest.mark.parametrize("column", ["user", "pin", "board", "target"])
def test_the_meshs_own_ids_are_refused_but_from_the_probe(column: str) -> None:
    save = {"action": Action.SAVE, "user": 1, "pin": 2, "board": 3, "at_ms": NOW, "id": [1, 2, 3]}
    for first in (RESERVED_FROM - 1, RESERVED_FROM, 2**64 - 1):
        message = events(3, **(save | {column: [7, first, 8]})).to_proto()
        assert of_ingest(message) == of_kit(message)
        assert (f"batch.{column}[1] = {first}" in of_ingest(message)) == (first >= RESERVED_FROM)
        check(message, NOW, AHEAD, own=True)


def test_an_interest_that_is_reserved_is_refused() -> None:
    pins = events(2, action=Action.CREATE_PIN, pin=[1, 2], at_ms=NOW, id=[1, 2], interests=[[5], [6, RESERVED_FROM]])
    assert of_ingest(pins.to_proto()) == of_kit(pins.to_proto())
    assert of_ingest(pins.to_proto()).startswith(f"batch.interests[1]: holds {RESERVED_FROM}")


@pytest.mark.parametrize(
    ("columns", "n", "most"),
    [
        ({"action": Action.TAKEDOWN}, 1, MAX_EVERYWHERE),
        ({"action": Action.SWITCH_DATASET, "target": 1}, 1, MAX_SWITCHES),
        ({"action": Action.CREATE_PIN, "interests": range(1, 65)}, 64, MAX_JOINS),
    ],
)
def test_what_multiplies_is_bounded(columns: dict[str, Any], n: int, most: int) -> None:
    for rows in (most // n, most // n + 1):
        of = columns | ({"interests": [list(columns["interests"])] * rows} if "interests" in columns else {})
        message = events(rows, pin=1, at_ms=NOW, id=range(1, rows + 1), **of).to_proto()
        assert of_ingest(message) == of_kit(message)
        assert bool(of_ingest(message)) == (rows * n > most), of_ingest(message)


@given(st.lists(good_batches(4), min_size=1, max_size=4))
def test_a_group_holds_the_rows_of_its_batches(batches: list[Batch]) -> None:
    group = Group.of([batch.to_proto() for batch in batches])
    whole = Batch.concat(batches)
    stated: dict[str, Any] = dict(group.columns) | dict(group.runs)
    assert rows_of(events(group.rows, **stated)) == rows_of(whole)
    for name in ("user", "target", "id", "writer"):
        assert group.column(name).tolist() == getattr(whole, name).tolist()
    assert group.publish.tolist() == [i for i, batch in enumerate(batches) for _ in range(len(batch))]
