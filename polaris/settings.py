"""The section [polaris] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import ShardSettings


class Settings(ShardSettings, kw_only=True):
    """[polaris]"""

    quality_coefficient: Annotated[
        float, Meta(ge=0, le=1_000, description="light score of a pin of quality 1 over one of quality 0")
    ] = 2.0
    freshness_days: Annotated[
        float, Meta(gt=0, le=36_500, description="days of age that cost a pin 1 of light score")
    ] = 90.0
    default_quality: Annotated[float, Meta(ge=0, le=1, description="quality of a pin whose quality was not stated")] = (
        0.5
    )
    head_postings: Annotated[
        int, Meta(ge=1, le=100_000, description="changes to a list before they are merged into its frozen part")
    ] = 64
    cap: Annotated[int, Meta(ge=1, le=1_000_000, description="best postings kept of a list when it is frozen")] = 4096
    lists_mb: Annotated[
        int,
        Meta(ge=1, le=1 << 20, description="memory for lists merged and ready; those that are asked for again stay"),
    ] = 64
