"""Beliefs of the edge's connections about httptools and uvicorn: when they report, which input they refuse, and which not."""

import inspect
from typing import Any

import httptools
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: h2c\r\n"


class Reports:
    """Keeps the reports of the parser."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *values: self.events.append((name.removeprefix("on_"), *values))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The reports under this name."""
        return [event[1:] for event in self.events if event[0] == name]


def parser_of(reports: Reports) -> Any:
    parser = httptools.HttpRequestParser(reports)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
    return parser


def fed(*pieces: bytes) -> Reports:
    reports = Reports()
    parser = parser_of(reports)
    for piece in pieces:
        parser.feed_data(piece)
    return reports


def refused(sent: bytes) -> str:
    with pytest.raises(httptools.HttpParserError) as raised:
        fed(sent)
    return str(raised.value)


def test_uvicorn_is_as_lenient_as_these_tests() -> None:
    assert "set_dangerous_leniencies(lenient_data_after_close=True)" in inspect.getsource(HttpToolsProtocol)


def test_a_header_is_reported_when_it_is_whole_and_not_before() -> None:
    """So a bound on the reported heads bounds nothing: 20 MB of one header are silent."""
    endless = [HEAD + b"X: ", *[b"x" * 4096] * 100]
    assert fed(*endless).of("header") == [(b"Host", b"a")]
    assert fed(*endless, b"\r\nY: 1").of("header") == [(b"Host", b"a"), (b"X", b"x" * 409_600)]


def test_a_name_is_silent_too() -> None:
    assert fed(HEAD, *[b"x" * 4096] * 100).of("header") == [(b"Host", b"a")]


def test_a_url_is_reported_in_pieces_which_uvicorn_joins() -> None:
    assert fed(b"GET /a", b"b", b"c HTTP/1.1\r\n").of("url") == [(b"/a",), (b"b",), (b"c",)]
    assert "self.url += url" in inspect.getsource(HttpToolsProtocol.on_url)


def test_blank_lines_before_a_request_are_taken_without_end() -> None:
    assert fed(b"\r\n" * 100_000).events == []


def test_neither_parser_nor_uvicorn_bounds_the_number_of_headers() -> None:
    assert len(fed(HEAD + b"a: b\r\n" * 100_000 + b"\r\n").of("header")) == 100_001


def test_extensions_of_a_chunk_are_dropped_without_a_bound() -> None:
    reports = fed(CHUNKED + b"3;", *[b"x" * 4096] * 100, b"\r\nabc\r\n0\r\n\r\n")
    assert (reports.of("body"), reports.of("message_complete")) == ([(b"abc",)], [()])


def test_trailers_are_reported_as_headers_after_the_head() -> None:
    """So they would change the headers of a request that has been judged: those of uvicorn's scope are this list."""
    reports = fed(CHUNKED + b"0\r\nHost: b\r\n\r\n")
    names = [event[0] for event in reports.events]
    assert reports.of("header")[-1] == (b"Host", b"b")
    assert names.index("headers_complete") < len(names) - 1 - names[::-1].index("header")


def test_pipelined_requests_are_reported_at_once() -> None:
    one = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert len(fed(one * 1000).of("message_complete")) == 1000, "nothing waits for the first answer"


def test_what_follows_a_close_is_dropped() -> None:
    first = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert fed(first + b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").of("url") == [(b"/1",)]


def test_two_lengths_of_a_body_are_refused() -> None:
    length, chunked = b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"
    assert "with Content-Length" in refused(HEAD + length + chunked + b"\r\nabc")
    assert "with Transfer-Encoding" in refused(HEAD + chunked + length + b"\r\n0\r\n\r\n")
    assert "Duplicate" in refused(HEAD + length + length + b"\r\nabc")
    assert "Invalid `Transfer-Encoding`" in refused(HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n")
    assert "overflow" in refused(CHUNKED + b"ffffffffffffffffff\r\n")


def test_bare_line_feeds_and_folded_lines_are_refused() -> None:
    assert refused(b"GET / HTTP/1.1\nHost: a\n\n")
    assert refused(b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n")


def test_several_hosts_or_none_are_not_refused() -> None:
    """Which is why the edge counts them."""
    assert fed(HEAD + b"Host: b\r\n\r\n").of("headers_complete") == [()]
    assert fed(b"GET / HTTP/1.1\r\n\r\n").of("headers_complete") == [()]


def test_another_coding_before_chunked_is_not_refused_nor_undone() -> None:
    reports = fed(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert reports.of("body") == [(b"abc",)]


def test_the_body_of_a_request_that_asks_for_an_upgrade_is_lost() -> None:
    """Whatever its length says, so that what follows would be taken for another protocol."""
    reports = Reports()
    with pytest.raises(httptools.HttpParserUpgrade):
        parser_of(reports).feed_data(HEAD + UPGRADE + b"Content-Length: 3\r\n\r\nabc")
    assert (reports.of("body"), reports.of("message_complete")) == ([], [()])
