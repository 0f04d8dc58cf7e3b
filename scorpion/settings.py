"""The section [scorpion] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import ShardedSettings


class Settings(ShardedSettings, kw_only=True):
    """[scorpion]"""

    threads: Annotated[int, Meta(ge=1, le=256, description="threads that serve requests")] = 12
    cache_mb: Annotated[
        int,
        Meta(
            ge=1, le=1_000_000, description="cache of pins' features of a shard; 220 bytes a pin, 64 more by 16 columns"
        ),
    ] = 64
    counts_ttl_s: Annotated[
        float, Meta(ge=0, le=86_400, description="seconds that counts of a cached pin are good; 0: asked every time")
    ] = 60.0
