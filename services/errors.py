"""Errors a person can act on: each is one gRPC status, and its message names what was wrong and what is allowed."""

import grpc


class MeshError(Exception):
    """Base of the errors that cross the wire as a status instead of as UNKNOWN."""

    status = grpc.StatusCode.INTERNAL


class InvalidArgument(MeshError):
    """The request names something that is not allowed, whatever the state of the mesh."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(MeshError):
    """What was asked for does not exist."""

    status = grpc.StatusCode.NOT_FOUND


class NotReady(MeshError):
    """The process can't answer this yet: not caught up, no model."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class OutOfRange(MeshError):
    """The position asked for is no longer, or not yet, in the log."""

    status = grpc.StatusCode.OUT_OF_RANGE


class Exhausted(MeshError):
    """Shed: too much load, or no room on the disk. Try again later."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(MeshError):
    """A process that is needed for the answer can't be reached."""

    status = grpc.StatusCode.UNAVAILABLE


class Unimplemented(MeshError):
    """Asked for what this version does not have."""

    status = grpc.StatusCode.UNIMPLEMENTED


class DeadlineExceeded(MeshError):
    """The caller's time ran out."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED


BY_STATUS = {kind.status: kind for kind in MeshError.__subclasses__()}
