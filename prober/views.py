"""The question to each view: does it show this probe, as any reader would see it?"""

import numpy as np

from aperture.client import ApertureClient
from apiary.client import ApiaryClient
from counters.client import CountersClient
from polaris.client import BOARD as ON_BOARD
from polaris.client import PolarisClient
from prober.prober import Shows
from realpin.client import RealpinClient
from rockstore.client import PIN, RockstoreClient
from services.core.columns import ids
from services.core.events import Action, Kind, Surface
from services.core.probes import BOARD, USER, title_of
from services.rpc.mesh import Mesh
from smartfeed.client import SmartfeedClient

TIMEOUT_S = 1.0
TWO_HOURS_MS = 7_200_000  # so that a sample at the end of an hour is counted after it; a pin's next turn is later


def questions(mesh: Mesh) -> dict[str, Shows]:
    """A question to each view of this mesh, by name. To be called on the event loop that asks."""
    known = {
        "apiary": _apiary,
        "polaris": _polaris,
        "aperture": _aperture,
        "rockstore": _rockstore,
        "smartfeed": _smartfeed,
        "realpin": _realpin,
        "counters": _counters,
    }
    present = {process.service for process in mesh.processes}
    return {view: wire(mesh) for view, wire in known.items() if view in present}


def _apiary(mesh: Mesh) -> Shows:
    client = ApiaryClient(mesh)

    async def shows(pin: int, at_ms: int) -> bool:
        return pin in (await client.followed(USER, 10, TIMEOUT_S)).interests

    return shows


def _polaris(mesh: Mesh) -> Shows:
    client = PolarisClient(mesh)

    async def shows(pin: int, at_ms: int) -> bool:
        listed = await client.postings(np.array([ON_BOARD], np.uint8), ids([BOARD]), TIMEOUT_S)
        return bool(((listed.pins == np.uint64(pin)) & (listed.at_ms == at_ms)).any())

    return shows


def _aperture(mesh: Mesh) -> Shows:
    client = ApertureClient(mesh)

    async def shows(pin: int, at_ms: int) -> bool:
        return pin in (await client.history(USER, since_ms=at_ms, limit=10, timeout=TIMEOUT_S)).pins

    return shows


def _rockstore(mesh: Mesh) -> Shows:
    client = RockstoreClient(mesh)

    async def shows(pin: int, at_ms: int) -> bool:
        return (await client.attributes(PIN, ids([pin]), TIMEOUT_S)).titles[0] == title_of(at_ms)

    return shows


def _smartfeed(mesh: Mesh) -> Shows:
    client = SmartfeedClient(mesh)

    async def shows(pin: int, at_ms: int) -> bool:
        last = await client.last_served(USER, Surface.FOLLOWING, TIMEOUT_S)
        return last.at_ms == at_ms

    return shows


def _realpin(mesh: Mesh) -> Shows:
    client = RealpinClient(mesh)

    async def shows(pin: int, at_ms: int) -> bool:
        return (await client.signals(USER, pins=1, interests=0, timeout=TIMEOUT_S)).newest_ms >= at_ms

    return shows


def _counters(mesh: Mesh) -> Shows:
    client = CountersClient(mesh)

    async def shows(pin: int, at_ms: int) -> bool:
        kinds, saves = np.array([Kind.PIN], np.uint8), [Action.SAVE]
        return bool((await client.counts(kinds, ids([pin]), saves, [TWO_HOURS_MS], timeout=TIMEOUT_S)).any())

    return shows
