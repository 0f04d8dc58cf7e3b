"""The section [smartfeed] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[smartfeed]"""

    max_pins: Annotated[int, Meta(ge=1, le=10_000, description="pins that are kept of the pages served of a feed")] = (
        250
    )
