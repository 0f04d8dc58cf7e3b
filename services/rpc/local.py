"""A mesh in one process, without a network: clients call the servicers themselves.

For replays of the log, where every service must stand at one moment of the past. Requests and replies are those of the
wire, so the code that asks and the code that answers are the very ones that serve.
"""

from typing import Any

from services.rpc.membership import Address, Membership, MemoryMembership
from services.rpc.mesh import Mesh

HERE = "here"  # the address of a servicer of this process


class LocalMesh(Mesh, kw_only=True):
    """servicers: by service, one shard each, which owns every partition."""

    servicers: dict[str, Any]

    @property
    def membership(self) -> Membership:
        """The servicers that there are by now."""
        return MemoryMembership(Address(service=service, shard=0, shards=1, address=HERE) for service in self.servicers)
