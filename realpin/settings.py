"""The section [realpin] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import ShardSettings

Days = Annotated[float, Meta(ge=0.001, le=36_500)]
Weight = Annotated[float, Meta(ge=0, le=1000)]


class Settings(ShardSettings, kw_only=True):
    """[realpin]"""

    impression_weight: Annotated[
        float, Meta(ge=-1000, le=1000, description="weight of an impression; 0: counted only, not kept as an action")
    ] = 0.0
    closeup_weight: Annotated[Weight, Meta(description="weight of a closeup")] = 1.0
    click_weight: Annotated[Weight, Meta(description="weight of a click")] = 2.0
    save_weight: Annotated[Weight, Meta(description="weight of a save")] = 4.0
    hide_weight: Annotated[
        float, Meta(ge=-1000, le=0, description="weight of a hide, against the interests of the pin")
    ] = -8.0
    impression_half_life_days: Annotated[Days, Meta(description="days in which an impression fades to half")] = 1.0
    closeup_half_life_days: Annotated[Days, Meta(description="days in which a closeup fades to half")] = 3.0
    click_half_life_days: Annotated[Days, Meta(description="days in which a click fades to half")] = 7.0
    save_half_life_days: Annotated[Days, Meta(description="days in which a save fades to half")] = 30.0
    hide_half_life_days: Annotated[Days, Meta(description="days in which a hide fades to half")] = 90.0
    actions_kept: Annotated[
        int, Meta(ge=1, le=10_000, description="newest actions kept of a user; of hides as many besides")
    ] = 500
    pins_looked_at: Annotated[
        int, Meta(ge=1, le=1000, description="pins of greatest weight whose interests count in a request")
    ] = 200
    pins_mb: Annotated[
        int, Meta(ge=1, le=1_000_000, description="memory for rockstore's answers about pins; about 220 bytes a pin")
    ] = 32
