"""The section [pixie] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import ThreadedSettings


class Settings(ThreadedSettings, kw_only=True):
    """[pixie]"""

    restart: Annotated[float, Meta(gt=0, le=1, description="probability of going back to the query pin")] = 0.5
    stop_nodes: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="early stopping: end a query pin's walk once so many nodes ...")
    ] = 2_000
    stop_visits: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="... were visited so often; high values never stop early")
    ] = 4
    max_steps: Annotated[
        int, Meta(ge=1, le=100_000_000, description="most steps of a request; a core walks millions a second")
    ] = 10_000_000
    verify: Annotated[
        bool, Meta(description="compare the snapshot's checksums before it serves after a start; off: while it serves")
    ] = True
