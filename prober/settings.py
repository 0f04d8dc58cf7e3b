"""The section [prober] of mesh.toml."""

from typing import Annotated, ClassVar

from msgspec import Meta

from services.core.settings import ServiceSettings


class Settings(ServiceSettings, kw_only=True):
    """[prober]"""

    replicated: ClassVar[bool] = False

    every_s: Annotated[float, Meta(ge=0, le=3600, description="seconds between probes; 0: none")] = 10.0
