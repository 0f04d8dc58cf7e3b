"""The section [apiary] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[apiary]"""

    direct_weight: Annotated[float, Meta(gt=0, le=100, description="weight of a board that is followed directly")] = 1.0
    through_weight: Annotated[float, Meta(gt=0, le=100, description="weight of a board of a followed user")] = 0.7
    boards_per_user: Annotated[int, Meta(ge=1, le=10_000, description="newest boards taken of a followed user")] = 100
