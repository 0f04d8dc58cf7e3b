"""The texts of errors for callers: they name a remedy, and nothing of this machine's inside."""

import re

import pytest

from services.core.errors import Exhausted, InvalidArgument, described, without_paths


def test_an_error_of_the_mesh_is_told_as_it_is() -> None:
    assert (
        described(InvalidArgument("limit = 0: allowed are 1 to 100"), "a page failed")
        == "limit = 0: allowed are 1 to 100"
    )


def test_any_other_error_is_told_by_an_id_that_the_log_has(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise OSError(2, "No such file", "/srv/feedmesh/data/models/x")
    except OSError as error:
        said = described(error, "a page failed")
    [request_id] = re.findall(r"^internal error; the log has it as request ([0-9a-f]{32})$", said)
    assert f"a page failed (request {request_id})" in caplog.text
    assert "/srv/feedmesh/data/models/x" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/var/lib/feedmesh/data/apiary/0of1: the disk is full", "0of1: the disk is full"),
        ("IO error: '/tmp/x/000012.log' (No space left)", "IO error: '000012.log' (No space left)"),
        ("a, /home/me/a b, c", "a, a b, c"),
        ("GET /v1/feeds/hot: Not Found; /docs has every route", "GET /v1/feeds/hot: Not Found; /docs has every route"),
        ("http://127.0.0.1:8080/a/b is no edge", "http://127.0.0.1:8080/a/b is no edge"),
        ("3/4 of the threads, 1/2/2026", "3/4 of the threads, 1/2/2026"),
        ("two paths: /a/b and /c/d/", "two paths: b and d"),
    ],
)
def test_paths_are_shortened_to_their_last_name(text: str, message: str) -> None:
    assert without_paths(text) == message
    assert described(Exhausted(text), "a write failed") == message
