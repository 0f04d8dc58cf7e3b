"""The feeds, each a list that reads top to bottom."""

from dataclasses import dataclass

from aperture.client import ApertureClient
from apiary.client import ApiaryClient
from feedgen.fallback import LastGood
from feedgen.filters.already_seen import AlreadySeen
from feedgen.filters.duplicate import Duplicate
from feedgen.filters.shown import Shown
from feedgen.pipeline import Pipeline
from feedgen.queries.followed import Followed
from feedgen.queries.seen import SeenPins
from feedgen.scorers.light import MODEL, LightScore
from feedgen.served import Served
from feedgen.slate import Slate
from feedgen.sources.followed_boards import FollowedBoards
from polaris.client import PolarisClient
from roadrunner.client import RoadrunnerClient
from services.events import Surface
from smartfeed.client import SmartfeedClient


@dataclass(frozen=True, slots=True)
class Clients:
    """The services that feeds ask."""

    apiary: ApiaryClient
    polaris: PolarisClient
    aperture: ApertureClient
    smartfeed: SmartfeedClient
    roadrunner: RoadrunnerClient


@dataclass(frozen=True, slots=True)
class Choices:
    """What an operator may choose of the feeds; from feedgen's settings."""

    boards: int
    candidates: int
    max_age_ms: int
    per_board: int
    per_owner: int
    false_positive_rate: float
    timeout: float


def feeds(ask: Clients, choose: Choices) -> dict[str, Pipeline]:
    """The pipelines by feed name."""
    return {"following": following(ask, choose)}


def following(ask: Clients, choose: Choices) -> Pipeline:
    """Pins of the boards that a user follows, directly and through users."""
    return Pipeline(
        surface=Surface.FOLLOWING,
        queries=[
            Followed(ask.apiary, choose.boards, choose.timeout),
            SeenPins(ask.aperture, choose.false_positive_rate, choose.timeout),
        ],
        sources=[FollowedBoards(ask.polaris, choose.candidates, choose.max_age_ms, choose.timeout)],
        filters=[Duplicate(), Shown(), AlreadySeen()],
        scorers=[LightScore()],
        slate=Slate(choose.per_board, choose.per_owner),
        fallback=LastGood(ask.smartfeed, choose.timeout),
        afterwards=[Served(ask.roadrunner, choose.timeout)],
        model=MODEL,
    )
