"""What the audit asks of each view: does it show this pin, as any reader would see it?"""

from collections.abc import Awaitable, Callable

from apiary.client import ApiaryClient
from roadrunner.audit import USER, Publish, Shows
from roadrunner.client import RoadrunnerClient
from services.events import Batch
from services.mesh import Mesh

TIMEOUT_S = 1.0


def wire_audit(mesh: Mesh) -> tuple[Publish, dict[str, Shows]]:
    """The publisher, and the views of this mesh by name. To be called on the audit's event loop."""
    door = RoadrunnerClient(mesh)

    async def publish(batch: Batch) -> object:
        return await door.publish(batch, TIMEOUT_S)

    return publish, {"apiary": _apiary(mesh)}


def _apiary(mesh: Mesh) -> Callable[[int, int], Awaitable[bool]]:
    client = ApiaryClient(mesh)

    async def shows(pin: int, at_ms: int) -> bool:
        followed = await client.followed(USER, 10, TIMEOUT_S)
        return pin in followed.interests

    return shows
