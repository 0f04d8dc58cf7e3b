"""The section [roadrunner] of mesh.toml."""

from typing import Annotated, ClassVar

from msgspec import Meta

from services.core.settings import ServiceSettings


class Settings(ServiceSettings, kw_only=True):
    """[roadrunner]"""

    replicated: ClassVar[bool] = False

    cache_mb: Annotated[int, Meta(ge=1, le=1_000_000, description="RocksDB block cache")] = 32
    memtable_mb: Annotated[int, Meta(ge=1, le=10_000, description="RocksDB write buffer of a column family")] = 32
    max_ahead_s: Annotated[int, Meta(ge=0, le=86_400, description="how far in the future an event's date may be")] = 600
    retention_mb: Annotated[int, Meta(ge=0, description="records kept at most; 0: without limit")] = 0
    retention_hours: Annotated[int, Meta(ge=0, description="age of records kept at most; 0: without limit")] = 0
    segment_mb: Annotated[
        int, Meta(ge=1, le=1024, description="records of a partition that retention drops as one")
    ] = 8
