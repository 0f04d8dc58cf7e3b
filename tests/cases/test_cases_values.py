"""Values of people's files that failed to load, by the number of their case, and others of each kind."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from services.core.events import RESERVED_FROM, Action
from tests.cases.loading import AT, NOW, case, loaded, pins, refused, write


def test_P07_categories_are_text() -> None:
    assert loaded(case("P07")).title.strings() == ["a", "b"]


@pytest.mark.parametrize(
    "title",
    [
        pa.array(["a", None, "ü"]).dictionary_encode(),
        pa.chunked_array([pa.array(["a", None]).dictionary_encode(), pa.array(["ü"]).dictionary_encode()]),
        pa.array(["a", None, "ü"], pa.large_string()),
        pa.array(["a", None, "ü"], pa.string_view()),
        pa.array([b"a", None, "ü".encode()], pa.binary()),
        pa.array([b"a", None, "ü".encode()], pa.large_binary()),
        pa.array(["a", None, "ü"], pa.dictionary(pa.int8(), pa.large_string())),
    ],
    ids=str,
)
def test_P07_text_is_text_however_it_is_encoded(tmp_path: Path, title: Any) -> None:
    assert pins(tmp_path, pin=[1, 2, 3], title=title).title.strings() == ["a", "", "ü"]


def test_P07_actions_and_ids_may_be_categories_too(tmp_path: Path) -> None:
    write(tmp_path, "pins", pin=pa.array([1, 2, 1]).dictionary_encode())
    write(tmp_path, "events", user=[1], action=pa.array([b"click"]), pin=pa.array(["2"]).dictionary_encode(), at=[AT])
    events = loaded(tmp_path)
    assert events.pin.tolist() == [1, 2, 1, 2]
    assert events.action[-1] == Action.CLICK


def test_P08_lists_may_all_be_empty() -> None:
    assert loaded(case("P08")).interests.lengths().tolist() == [0, 0]


def test_P09_lists_may_be_of_fixed_size() -> None:
    events = loaded(case("P09"))
    assert [events.interests.run(i).tolist() for i in range(2)] == [[5, 6], [6, 7]]


LISTS = [[5, 6], None, [7, 8], []]


@pytest.mark.parametrize(
    ("interests", "read"),
    [
        (pa.array(LISTS, pa.large_list(pa.uint16())), LISTS),
        (pa.array(LISTS, pa.list_(pa.float64())), LISTS),
        (pa.array([["5", "6"], None, ["7", "8"], []]), LISTS),
        (pa.array([[Decimal(5), Decimal(6)], None, [Decimal(7), Decimal(8)], []]), LISTS),
        (pa.array([[5, 6], None, [7, 8], None], pa.list_(pa.int8(), 2)), LISTS),
        (pa.array(LISTS, pa.list_(pa.dictionary(pa.int8(), pa.int64()))), LISTS),
        (pa.array([None] * 4), [None] * 4),
        (pa.array([None] * 4, pa.list_(pa.null())), [None] * 4),
        (pa.chunked_array([pa.array(LISTS[:1]), pa.array(LISTS[1:])]), LISTS),
    ],
    ids=lambda value: str(value.type) if hasattr(value, "type") else "",
)
def test_P09_lists_are_lists_however_they_are_encoded(tmp_path: Path, interests: Any, read: list[Any]) -> None:
    events = pins(tmp_path, pin=[1, 2, 3, 4], interests=interests)
    assert [events.interests.run(i).tolist() for i in range(4)] == [each or [] for each in read]


@pytest.mark.parametrize(
    ("interests", "said"),
    [
        ([[1], [2, None]], "row 1 (from 0): null"),
        ([[1], [1.5, 2]], "row 1 (from 0): 1.5"),
        ([[], [3, 0]], "row 1 (from 0): 0"),
        ([["1"], ["x"]], "row 1 (from 0): x"),
        ([[[1]], [[2]]], "list<element: int64> is not allowed"),
        ([{"a": 1}, {"a": 2}], "type struct<a: int64> is not allowed"),
        (["1,2", "3"], "type string is not allowed"),
    ],
)
def test_P09_what_is_no_list_of_ids_is_refused(tmp_path: Path, interests: Any, said: str) -> None:
    refused(write(tmp_path, "pins", pin=[1, 2], interests=interests), "pins.parquet: column interests", said, "ids")


def test_P11_ids_may_be_whole_floats() -> None:
    events = loaded(case("P11"))
    assert events.board[2:].tolist() == [9, 0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([1.0, 1.5]), "row 1 (from 0): 1.5 is not allowed"),
        (pa.array([1.0, float("nan")]), "row 1 (from 0): null is not allowed"),
        (pa.array([1.0, float("inf")]), "row 1 (from 0): inf is not allowed"),
        (pa.array([1.0, -2.0]), "row 1 (from 0): -2.0 is not allowed"),
        (pa.array([1.0, 2.0**53 + 2]), "only up to 2**53"),
        (pa.array([True, False]), "type bool is not allowed"),
        (pa.array([date(2026, 1, 1)] * 2), "type date32[day] is not allowed"),
        (pa.array([b"\x01" * 16] * 2, pa.binary(16)), "is not allowed: ids are"),
        (pa.array(["1", "007"]), "row 1 (from 0): 007 is not allowed"),
        (pa.array(["1", "0x1F"]), "row 1 (from 0): 0x1F is not allowed"),
        (pa.array(["1", " 2"]), "row 1 (from 0):  2 is not allowed"),
        (pa.array(["1", "٢"]), "row 1 (from 0): ٢ is not allowed"),
        (pa.array(["1", str(2**64)]), f"row 1 (from 0): {2**64} is not allowed"),
        (pa.array([b"1", b"\xff"]), "row 1 (from 0)"),
        (pa.array([[1], [2]]), "is not allowed: ids are whole numbers"),
        (pa.array([{"id": 1}, {"id": 2}]), "type struct<id: int64> is not allowed"),
        (pa.array([1, 2], pa.duration("s")), "is not allowed: ids are whole numbers"),
    ],
    ids=str,
)
def test_P11_what_is_no_id_is_refused_by_row(tmp_path: Path, values: Any, said: str) -> None:
    refused(write(tmp_path, "pins", pin=values), "pins.parquet: column pin", said)


@pytest.mark.parametrize(
    "kind",
    [
        pa.int8(),
        pa.uint8(),
        pa.int16(),
        pa.uint32(),
        pa.int64(),
        pa.uint64(),
        pa.float32(),
        pa.float16(),
        pa.decimal128(5, 2),
        pa.decimal256(50, 0),
        pa.decimal32(3, 0),
        pa.decimal64(12, 1),
        pa.string(),
        pa.large_string(),
    ],
    ids=str,
)
def test_P12_whole_numbers_of_any_type_are_ids(tmp_path: Path, kind: Any) -> None:
    values = pa.array([Decimal(1), Decimal(100)], kind) if pa.types.is_decimal(kind) else pa.array([1, 100]).cast(kind)
    assert pins(tmp_path, pin=values, user=pa.array([None, 7]).cast(pa.float64())).pin.tolist() == [1, 100]


def test_P12_ids_may_be_decimals() -> None:
    assert loaded(case("P12")).pin.tolist() == [1]


def test_P12_decimals_hold_the_widest_ids_and_no_fractions(tmp_path: Path) -> None:
    widest = RESERVED_FROM - 1
    assert pins(tmp_path, pin=pa.array([Decimal(widest)], pa.decimal128(38, 2))).pin.tolist() == [widest]
    refused(write(tmp_path, "pins", pin=pa.array([Decimal("1.5")])), "row 0 (from 0): 1.5 is not allowed")
    refused(write(tmp_path, "pins", pin=pa.array([Decimal(10**30)])), f"row 0 (from 0): {10**30} is not allowed")


def test_P13_quality_may_be_a_decimal() -> None:
    assert loaded(case("P13")).quality.tolist() == [0.0]


@pytest.mark.parametrize(
    ("quality", "read"),
    [
        (pa.array([Decimal("0.25"), None]), [0.25, np.nan]),
        (pa.array([0.25, float("nan")], pa.float16()), [0.25, np.nan]),
        (pa.array([1, 0], pa.int8()), [1, 0]),
        (pa.array(["1", "0"]), [1, 0]),
        (pa.array([0.25, None]).dictionary_encode(), [0.25, np.nan]),
        (pa.nulls(2), [np.nan, np.nan]),
    ],
)
def test_P13_quality_is_a_number_of_any_type(tmp_path: Path, quality: Any, read: list[float]) -> None:
    assert np.array_equal(
        pins(tmp_path, pin=[1, 2], quality=quality).quality, np.array(read, np.float32), equal_nan=True
    )


def test_P13_quality_is_checked_before_it_is_rounded(tmp_path: Path) -> None:
    refused(write(tmp_path, "pins", pin=[1], quality=[1.000000001]), "1.000000001 is not allowed")
    refused(write(tmp_path, "pins", pin=[1], quality=[True]), "type bool is not allowed")


def test_P17_reserved_ids_are_refused() -> None:
    refused(case("P17"), f"row 0 (from 0): {2**64 - 1} is not allowed", str(RESERVED_FROM - 1))


def test_P17_in_every_column_of_ids(tmp_path: Path) -> None:
    ids = pa.array([RESERVED_FROM], pa.uint64())
    for name, columns in {
        "pins": {"pin": ids},
        "users": {"user": ids},
        "boards": {"board": [1], "user": ids},
        "follows": {"user": [1], "kind": ["user"], "target": [str(RESERVED_FROM)]},
        "interests": {"interest": pa.array([Decimal(RESERVED_FROM)], pa.decimal128(20)), "name": ["a"]},
    }.items():
        folder = tmp_path / "each" / name
        folder.mkdir(parents=True)
        write(folder, "pins", pin=[1])
        refused(write(folder, name, **columns), f"{name}.parquet", f"{RESERVED_FROM} is not allowed")
    inner = tmp_path / "lists"
    inner.mkdir()
    write(inner, "pins", pin=[1], interests=pa.array([[1, RESERVED_FROM]], pa.list_(pa.uint64())))
    refused(inner, "column interests, row 0", str(RESERVED_FROM))
    assert pins(inner, pin=pa.array([RESERVED_FROM - 1], pa.uint64())).pin.tolist() == [RESERVED_FROM - 1]


def test_P20_dates_before_2000_load() -> None:
    assert loaded(case("P20")).at_ms.tolist() == [int(datetime(1997, 9, 20, tzinfo=UTC).timestamp() * 1000)]


WHEN = datetime(1997, 9, 20, 12, 30)
MS = int(WHEN.replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("at", "read"),
    [
        *((pa.array([WHEN], pa.timestamp(unit)), MS) for unit in ("s", "ms", "us", "ns")),
        (pa.array([WHEN], pa.timestamp("us", "UTC")), MS),
        (pa.array([WHEN], pa.timestamp("ns", "Europe/Berlin")), MS),
        (pa.array([WHEN.date()], pa.date32()), MS - 45_000_000),
        (pa.array([WHEN.date()], pa.date64()), MS - 45_000_000),
        (pa.array([float(MS)]), MS),
        (pa.array([Decimal(MS)]), MS),
        (pa.array([str(MS)]), MS),
        (pa.array(["1997-09-20"]), MS - 45_000_000),
        (pa.array(["1997-09-20 12:30:00"]), MS),
        (pa.array(["1997-09-20T14:30:00.123456789+02:00"]), MS + 123),
        (pa.array([b"1997-09-20T12:30:00Z"]).dictionary_encode(), MS),
        (pa.array([datetime(1970, 1, 1)], pa.timestamp("s")), 1),
        (pa.array([0]), 1),
    ],
    ids=str,
)
def test_P20_dates_of_any_unit_zone_and_type(tmp_path: Path, at: Any, read: int) -> None:
    assert pins(tmp_path, pin=[1], at=at).at_ms.tolist() == [read]


def test_P20_text_may_mix_zones_and_gaps(tmp_path: Path) -> None:
    at = ["1997-09-20 12:30:00", None, "", "1997-09-20T12:30:00+00:00", "1997-09-20T12:30Z"]
    events = pins(tmp_path, pin=[1, 2, 3, 4, 5], at=at)
    assert (events.at_ms == MS).all()


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (pa.array([datetime(1969, 12, 31)]), "1969-12-31 is not allowed: dates are from 1970-01-01 to"),
        (pa.array([-1]), "-1 (1969-12-31 23:59:59 UTC) is not allowed"),
        (pa.array([NOW + 1]), "is not allowed"),
        (pa.array([2**62], pa.timestamp("us")), "is not allowed: dates are from 1970-01-01"),
        (pa.array([-(2**62)], pa.timestamp("us")), "is not allowed: dates are from 1970-01-01"),
        (pa.array([2**31 - 1], pa.date32()), "is not allowed: dates are from 1970-01-01"),
        (pa.array([datetime(9999, 1, 1)]), "9999-01-01 is not allowed"),
        (pa.array([NOW // 1000]), "multiply seconds by 1000"),
        (pa.array([NOW * 1000]), "is not allowed"),
        (pa.array(["20/09/1997"]), "20/09/1997 is not allowed: dates, such as"),
        (pa.array(["1997-13-40"]), "1997-13-40 is not allowed: dates, such as"),
        (pa.array(["now"]), "now is not allowed"),
        (pa.array([1.5e12 + 0.5]), "is not allowed"),
        (pa.array([timedelta(1)]), "type duration[us] is not allowed"),
        (pa.array([WHEN.time()]), "type time64[us] is not allowed"),
        (pa.array([True]), "type bool is not allowed"),
    ],
    ids=str,
)
def test_P20_what_is_no_date_is_refused_with_the_dates_that_are(tmp_path: Path, at: Any, said: str) -> None:
    refused(write(tmp_path, "pins", pin=[1], at=at), "pins.parquet: column at, ", said)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"title": ["ok", "a\x00b"]}, "row 1 (from 0): a\\x00b is not allowed: text without control characters"),
        ({"title": ["ok", "\x1b[31mred"]}, "row 1"),
        ({"title": pa.array([b"ok", b"\xff\xfe"])}, "in UTF-8"),
        ({"title": pa.array([b"ok", b"caf\xe9"]).cast(pa.string(), safe=False)}, "in UTF-8"),
        ({"title": pa.array([b"ok", b"\xed\xa0\x80"]).cast(pa.string(), safe=False)}, "in UTF-8"),
        (
            {"link": [None, "javascript:alert(1)"]},
            "row 1 (from 0): javascript:alert(1) is not allowed: a link that begins",
        ),
        ({"link": ["", "example.org/x"]}, "row 1 (from 0): example.org/x is not allowed"),
        ({"link": ["http://a", "https://a b"]}, "row 1"),
        ({"link": ["http://a", "data:text/html,x"]}, "row 1"),
        ({"link": ["http://a", "https://" + "x" * 2048]}, "links of at most 2048 bytes"),
    ],
)
def test_text_and_links_are_held_to_rules(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    refused(write(tmp_path, "pins", pin=[1, 2], **columns), "pins.parquet: column", said)


def test_run_end_encodings_and_views_are_taken_away() -> None:
    """Parquet has none of these today; Arrow's readers may hand them over."""
    from loaders.convert import lists, plain
    from loaders.place import Place

    assert plain(pc.run_end_encode(pa.array(["a", "a", "b"]))).to_pylist() == ["a", "a", "b"]
    place = Place(Path("x"), "y")
    lengths, values = lists(pa.array([[1], [2, 3], None, [4]], pa.list_view(pa.int64())), place, "lists")
    assert (lengths.tolist(), values.to_pylist()) == ([1, 2, 0, 1], [1, 2, 3, 4])
