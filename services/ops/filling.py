"""Fills the folder of a shard from snapshots before it is opened, as its process starts; it need not be there.

The log is asked first which one it is and what it holds, so that a snapshot that does not fit is never opened. Where there are
no snapshots nothing is asked.
"""

import logging
import time
from pathlib import Path

from services.blob.opening import open_blobs
from services.core.errors import DeadlineExceeded, MeshError, NotReady, Unavailable
from services.log.reading import open_reader
from services.rpc.mesh import Mesh
from services.state.manifest import all_of
from services.state.resharding import reshard
from services.state.restore import Past, Wanted, restore, tried

logger = logging.getLogger(__name__)
ASK_S, LOG_WITHIN_S, RETRY_S = 2.0, 120.0, 0.5


def fill(mesh: Mesh, wanted: Wanted, folder: Path) -> None:
    """Fill the folder, if there is a snapshot that fits. Raises Exhausted when the disk is full, and Unavailable when
    what is needed can't be asked.
    """
    what = f"{wanted.service}/{wanted.shard}of{wanted.shards}"
    try:
        blobs = open_blobs(mesh)
        if not all_of(blobs, wanted.service):
            return
    except NotReady:
        raise
    except MeshError as error:
        logger.error("%s: whether there are snapshots can't be asked: %s", what, error)
        return
    past = past_of(mesh)
    tried(lambda: restore(wanted, folder, blobs, past) or reshard(wanted, folder, blobs, past), what, past)


def past_of(mesh: Mesh, within_s: float = LOG_WITHIN_S) -> Past:
    """Which log the mesh has, and what it holds. Waits for a log that is starting too. Raises Unavailable when it is away."""
    log, end = open_reader(mesh), time.monotonic() + within_s
    try:
        while True:
            try:
                return Past(log.history(ASK_S), log.ends(ASK_S))
            except (Unavailable, DeadlineExceeded) as error:
                if time.monotonic() > end:
                    raise Unavailable(f"the log is needed to choose a snapshot by, and is away: {error}") from None
            time.sleep(RETRY_S)
    finally:
        log.close()
