"""Errors in the bytes of a JSON file, in words, whatever the bytes are."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.words import unlike


class Note(msgspec.Struct):
    number: int
    text: str = ""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"number": "x"}', 'number = "x" is not allowed: a whole number'),
        (b'{"text": "x"}', "number is missing: a whole number"),
        (b"[1]", "the file = [1] is not allowed: an object of number, text"),
        (b'{"number": "x"', "Input data was truncated"),
        (b'{"number": "x", "te\xf4t": 1}', "can't decode byte 0xf4"),
        (b"\xff", "JSON is malformed"),
    ],
)
def test_it_is_said_by_field_and_what_is_allowed(data: bytes, words: str) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)) as refused:
        msgspec.json.decode(data, type=Note)
    assert words in unlike(refused.value, data, Note)


@given(st.integers(0, 8 * 34 - 1), st.integers(0, 8 * 34 - 1))
def test_flipped_bits_are_always_said(first: int, second: int) -> None:
    data = bytearray(b'{"number": 17, "text": "\xc3\xa4 word  "}'[:34])
    for bit in (first, second):
        data[bit // 8] ^= 1 << bit % 8
    said = "it is fine"
    try:
        msgspec.json.decode(bytes(data), type=Note)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        said = unlike(error, bytes(data), Note)
    assert said
