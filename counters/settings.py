"""The section [counters] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[counters]"""

    recent: Annotated[
        int, Meta(ge=1, le=100_000, description="candidates of Top by the last 7 days, of each kind and action")
    ] = 4_000
    request_threads: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="threads that answer one large request, while they have no other; 0: one for each core; 1: its own alone",
        ),
    ] = 0
