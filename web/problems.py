"""Errors as RFC 9457 has them. Knows no framework: connections answer some errors before there is a request."""

import re
from http import HTTPStatus

import grpc
import msgspec
from msgspec import UNSET

from web.answers import Failure, Problem

Code = grpc.StatusCode
MEDIA = "application/problem+json"
#: Refusals of HTTP itself, and the status under which it is counted and named. Else INVALID_ARGUMENT or INTERNAL.
OWN = {
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    421: Code.PERMISSION_DENIED,
    429: Code.RESOURCE_EXHAUSTED,
    503: Code.UNAVAILABLE,
    505: Code.UNIMPLEMENTED,
}
RETRY_AFTER_S = {429: 1, 503: 1}
_LOGGED = re.compile(r"\brequest ([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})\b")


def status_of(http: int) -> grpc.StatusCode:
    """The status of an answer that no service gave."""
    return OWN.get(http, Code.INTERNAL if http >= 500 else Code.INVALID_ARGUMENT)


def described(http: int, message: str, status: grpc.StatusCode | None = None) -> Failure:
    """The body of an error. Its `instance` is the request under which the log has more, where the message names one."""
    logged = _LOGGED.search(message)
    return Failure(
        type="about:blank",
        title=HTTPStatus(http).phrase,
        status=http,
        detail=message,
        instance="urn:uuid:" + "-".join(logged.groups()) if logged else UNSET,
        error=Problem((status or status_of(http)).name, message),
    )


def problem(http: int, message: str, status: grpc.StatusCode | None = None) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers, as ASGI has them and without a length, and the body of an error."""
    headers = [(b"content-type", MEDIA.encode()), (b"x-content-type-options", b"nosniff")]
    if http in RETRY_AFTER_S:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S[http]))
    return headers, msgspec.json.encode(described(http, message, status))
