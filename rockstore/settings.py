"""The section [rockstore] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[rockstore]"""

    versions_kept: Annotated[
        int, Meta(ge=2, le=100, description="bulk loads of a dataset that are kept, to switch back to at once")
    ] = 3
    objects_mb: Annotated[
        int, Meta(ge=1, le=1_000_000, description="memory for the objects asked for most; about 500 bytes each")
    ] = 32
