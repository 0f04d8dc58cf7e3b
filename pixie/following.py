"""Looks every second whether another snapshot was pushed: a replica that was away when it was takes it too."""

import logging

from pixie.keys import CURRENT
from pixie.store import PixieStore
from services.blob.opening import Place, open_blobs
from services.core.errors import MeshError, NotFound
from services.core.paced import Paced

logger = logging.getLogger(__name__)
LOOK_S = 1.0


class Pushed:
    """Of one store. graphs: where the snapshots lie."""

    def __init__(self, graphs: Place, store: PixieStore) -> None:
        """What is pushed now has been opened, or refused, already."""
        self._graphs, self._store = open_blobs(graphs), store
        self._seen = self._mark()
        self._paced = Paced("pushed", self._look, LOOK_S)

    def start(self) -> None:
        """Begin."""
        self._paced.start()

    def stop(self) -> None:
        """End with the look under way."""
        self._paced.stop()

    def _mark(self) -> str:
        try:
            return self._graphs.stat(CURRENT).mark
        except NotFound:
            return ""

    def _look(self) -> float:
        try:
            mark = self._mark()
            if mark != self._seen:
                self._store.follow_current()
                self._seen = mark
        except MeshError as error:
            logger.warning("the snapshot pushed last was not looked at: %s", error)
        except Exception:
            logger.exception("the snapshot pushed last was not looked at")
        return LOOK_S
