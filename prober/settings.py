"""The section [prober] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import MeshSettings, ServiceSettings


class Settings(ServiceSettings, kw_only=True):
    """[prober]"""

    every_s: Annotated[float, Meta(ge=0, le=3600, description="seconds between probes; 0: none")] = 10.0

    @classmethod
    def single(cls, common: MeshSettings) -> str:
        """Its probes have numbers that go up."""
        return "its probes are one sequence"
