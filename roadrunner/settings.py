"""The section [roadrunner] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import CompactionThreads, MeshSettings, ServiceSettings
from services.log.reading import EMBEDDED


class Settings(ServiceSettings, kw_only=True):
    """[roadrunner]"""

    cache_mb: Annotated[int, Meta(ge=1, le=1_000_000, description="RocksDB block cache")] = 32
    memtable_mb: Annotated[int, Meta(ge=1, le=10_000, description="RocksDB write buffer of a column family")] = 32
    compaction_threads: CompactionThreads = 1
    max_ahead_s: Annotated[int, Meta(ge=0, le=86_400, description="how far in the future an event's date may be")] = 600
    retention_mb: Annotated[int, Meta(ge=0, description="records kept at most; 0: without limit")] = 0
    retention_hours: Annotated[int, Meta(ge=0, description="age of records kept at most; 0: without limit")] = 0
    segment_mb: Annotated[
        int, Meta(ge=1, le=1024, description="records of a partition that retention drops as one")
    ] = 8

    @classmethod
    def single(cls, common: MeshSettings) -> str:
        """The embedded log is a database of its own."""
        if common.log != EMBEDDED:
            return ""
        return (
            "the embedded log is one folder, which one process writes; a log on Kafka, `[mesh] log`, may have several"
        )
