"""Tokens: there and back, several in one, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core import tokens as token
from services.core.errors import InvalidArgument
from services.core.tokens import Reached

topics = st.one_of(st.integers(0, 127), st.just(token.EPOCH))
records = st.dictionaries(st.tuples(topics, st.integers(0, 65535)), st.integers(0, 2**64 - 1), max_size=9)
batches = st.dictionaries(
    st.tuples(st.integers(0, 126), st.integers(0, 65535), st.integers(0, 65535)), st.integers(0, 2**48 - 1), max_size=9
)
offsets = st.builds(lambda of, made: {**of, **made}, records, batches)


@given(offsets)
def test_tokens_come_back_as_bytes_and_as_text(reached: Reached) -> None:
    made = token.encode(reached)
    assert token.decode(made) == reached
    text = token.to_text(made)
    assert token.of_text(text) == made
    assert not set(text) & set("=+/,& ?#"), "stands in a URL as it is"


@given(st.lists(offsets, max_size=4))
def test_several_are_the_furthest_of_each(tokens: list[Reached]) -> None:
    furthest: Reached = {}
    for reached in tokens:
        for at, offset in reached.items():
            furthest[at] = max(offset, furthest.get(at, 0))
    joined = ",".join(token.to_text(token.encode(reached)) for reached in tokens)
    assert token.decode(token.of_text(joined)) == furthest


def test_no_token_asks_for_nothing() -> None:
    assert token.of_text("") == token.encode({}) == b""
    assert token.decode(b"") == {}


@pytest.mark.parametrize("data", [b"x", bytes(10), bytes(12), bytes(11 * 6000)])
def test_bytes_that_are_no_token_are_refused(data: bytes) -> None:
    with pytest.raises(
        InvalidArgument, match=f"token: {len(data)} bytes are no token; pass back what a publish answered"
    ):
        token.decode(data)


@pytest.mark.parametrize("text", ["!!!!", "AAAA", "A", "é", "AAAAAAAAAAAAAA==?", "AAAA AAAAAAAAAAA", "\x00"])
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="token: .*; pass back what a publish answered"):
        token.of_text(text)


@given(st.text(max_size=40))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        token.decode(token.of_text(text))
    except InvalidArgument:
        pass
