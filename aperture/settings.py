"""The section [aperture] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[aperture]"""

    recent_keys: Annotated[
        int, Meta(ge=1, le=100_000, description="recent keys of a user and day that are frozen before the day ends")
    ] = 64
    keep_days: Annotated[int, Meta(ge=0, le=36_500, description="days that history is kept; 0: for ever")] = 0
