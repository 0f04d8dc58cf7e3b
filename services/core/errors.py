"""Errors a person can act on: each is one gRPC status, and its message names what was wrong and what is allowed.

Any other exception is a fault of this project. Its text may name files, addresses and code of the machine, so it goes
to the log under an id, and callers hear the id alone (`described`).
"""

import logging
import re
import uuid

import grpc

logger = logging.getLogger(__name__)
#: Absolute paths of two names and more, but for routes of the edge and what stands in a URL or behind other text.
_PATH = re.compile(r"(?<![\w:/.~-])/(?!v1/|static/)[^\s/'\"()<>,;:]+(?:/[^\s/'\"()<>,;:]+)+/?")


class MeshError(Exception):
    """Base of the errors that cross the wire as a status instead of as UNKNOWN."""

    status = grpc.StatusCode.INTERNAL


class InvalidArgument(MeshError):
    """The request names something that is not allowed, whatever the state of the mesh."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class TooLittle(InvalidArgument):
    """There is not enough data for what was asked; more of it will do. The message says what is missing."""


class NotFound(MeshError):
    """The thing asked for does not exist."""

    status = grpc.StatusCode.NOT_FOUND


class NotReady(MeshError):
    """The process can't answer this yet: not caught up, no model."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class Conflict(MeshError):
    """Another caller changed it meanwhile, or took the name: look again, then try again."""

    status = grpc.StatusCode.ABORTED


class OutOfRange(MeshError):
    """The position asked for is no longer, or not yet, in the log."""

    status = grpc.StatusCode.OUT_OF_RANGE


class Exhausted(MeshError):
    """Shed: too much load, or a full disk. Try again later."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(MeshError):
    """A process that is needed for the answer can't be reached."""

    status = grpc.StatusCode.UNAVAILABLE


class Away(Unavailable):
    """No process answers there, or none any more: the connection failed, or broke."""


class Damaged(MeshError):
    """Stored bytes are not what was written: the message names folder, family and key, and what to do."""

    status = grpc.StatusCode.DATA_LOSS


class Unimplemented(MeshError):
    """Asked for what this version does not have."""

    status = grpc.StatusCode.UNIMPLEMENTED


class DeadlineExceeded(MeshError):
    """The caller's time ran out."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED


BY_STATUS = {kind.status: kind for kind in MeshError.__subclasses__()}


def described(error: Exception, doing: str) -> str:
    """The text of an error for callers; one that is not of the mesh is logged, with its traceback, under an id.

    doing: the work that failed, for the log alone.
    """
    if isinstance(error, MeshError):
        return without_paths(str(error))
    request_id = uuid.uuid4().hex
    logger.error("%s (request %s)", doing, request_id, exc_info=error)
    return f"internal error; the log has it as request {request_id}"


def without_paths(text: str) -> str:
    """A text for callers where one names files of this machine: only the last name of each path stays."""
    return _PATH.sub(lambda found: found[0].rstrip("/").rsplit("/", 1)[1], text)
