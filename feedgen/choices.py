"""The operator's choices for the feeds: the settings of feedgen."""

from typing import Annotated

from msgspec import Meta

from services.core.clock import DAY_MS
from services.core.settings import ServiceSettings


class Choices(ServiceSettings, kw_only=True):
    """Of all feeds."""

    boards: Annotated[int, Meta(ge=1, le=10_000, description="followed boards looked at for a page, best first")] = 500
    candidates: Annotated[
        int,
        Meta(
            ge=100,
            le=8_000,
            description="candidates that a source may bring; on home its sources share them by their rates, "
            "at least 25 each",
        ),
    ] = 1_000
    max_age_days: Annotated[int, Meta(ge=0, le=36_500, description="age of a save at most; 0: any")] = 0
    per_board: Annotated[int, Meta(ge=0, le=100, description="pins of one board on a page, while others last")] = 2
    per_owner: Annotated[int, Meta(ge=0, le=100, description="pins of one owner on a page, while others last")] = 3
    per_interest: Annotated[
        int, Meta(ge=0, le=100, description="pins of one interest on a page of interest, picked and home; 0: any")
    ] = 10
    interests: Annotated[
        int, Meta(ge=1, le=1_000, description="followed and inferred interests looked at for a page, best first")
    ] = 30
    affinities: Annotated[
        int, Meta(ge=1, le=1_000, description="interests of a user that the model and the feeds get")
    ] = 100
    inferred_weight: Annotated[
        float, Meta(ge=0.01, le=100, description="weight of the strongest inferred interest; a followed one has 1")
    ] = 2.0
    walk_pins: Annotated[
        int, Meta(ge=1, le=1_000, description="recent pins of a user from which the random walks start")
    ] = 200
    walk_steps: Annotated[
        int,
        Meta(ge=100, le=10_000_000, description="steps of the random walks of a page, to boards and to pins at once"),
    ] = 30_000
    walk_discount: Annotated[
        float, Meta(ge=0, le=2, description="how much less a visit counts at a pin that many boards hold; an exponent")
    ] = 0.25
    walk_pins_share: Annotated[
        float,
        Meta(ge=0, le=1, description="of picked, pins that the walks passed; the rest are of boards they reached"),
    ] = 0.75
    walk_boards: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="boards near the recent pins that are looked at for a page, at most; on home at most its share "
            "of the candidates",
        ),
    ] = 300
    walk_sharpness: Annotated[
        float, Meta(ge=0, le=100, description="how much a board's nearness counts against quality and age; an exponent")
    ] = 2.0
    popular: Annotated[
        int, Meta(ge=25, le=1_000, description="popular pins, and as many fresh ones, when there is little else")
    ] = 300
    popular_interests: Annotated[
        int, Meta(ge=1, le=1_000, description="popular interests of which fresh pins are brought")
    ] = 30
    popular_keep_s: Annotated[
        int,
        Meta(ge=0, le=3_600, description="seconds that popular and fresh pins are cached before they are asked for"),
    ] = 10
    rate_following: Annotated[float, Meta(ge=0, le=1, description="of home's pins, from followed boards")] = 0.35
    rate_picked: Annotated[float, Meta(ge=0, le=1, description="of home's pins, from boards near recent pins")] = 0.35
    rate_interest: Annotated[float, Meta(ge=0, le=1, description="of home's pins, from the user's interests")] = 0.2
    rate_popular: Annotated[float, Meta(ge=0, le=1, description="of home's pins, popular with everybody")] = 0.05
    rate_fresh: Annotated[float, Meta(ge=0, le=1, description="of home's pins, new in popular interests")] = 0.05
    false_positive_rate: Annotated[float, Meta(ge=0.0001, le=0.5, description="of the filter of seen pins")] = 0.01
    own_pins: Annotated[bool, Meta(description="whether a user's own pins are recommended to that user")] = False
    losers_pages: Annotated[
        float, Meta(ge=0, le=1, description="of so many pages the log gets a sample of the candidates that lost")
    ] = 0.01
    losers: Annotated[
        int, Meta(ge=1, le=100, description="candidates of such a sample, of each stage that left some out, at most")
    ] = 20
    deadline_ms: Annotated[int, Meta(ge=10, le=60_000, description="time for a page; then the fallback page")] = 1_000

    @property
    def timeout(self) -> float:
        """The deadline in seconds."""
        return self.deadline_ms / 1000

    @property
    def max_age_ms(self) -> int:
        """The greatest age in milliseconds; 0: any."""
        return self.max_age_days * DAY_MS
