"""The writer of the embedded log, in the process that keeps it."""

from collections.abc import Sequence

from roadrunner.committer import Committer
from services.core.errors import DeadlineExceeded
from services.log.protocol import Draft, check_drafts


class EmbeddedWriter:
    """A `Writer` of the embedded log (services/log/protocol.py): it appends records between publishes, as they are.

    The log numbers its records itself, so all its writers are one.
    """

    def __init__(self, committer: Committer, partitions: int) -> None:
        self._committer, self._partitions = committer, partitions

    def append(self, drafts: Sequence[Draft], timeout: float) -> list[int]:
        """Append records, all or none; their offsets, once they are synced. Raises InvalidArgument for a topic or partition
        that is not there, Exhausted, Unavailable, and DeadlineExceeded when they may still be appended.
        """
        check_drafts(drafts, self._partitions)
        if not drafts:
            return []
        future = self._committer.submit_drafts(drafts)
        try:
            return future.result(timeout)
        except TimeoutError:
            raise DeadlineExceeded("not on disk within the deadline; it may still be appended") from None
