"""The feeds, each a list that reads top to bottom."""

from collections.abc import Sequence
from dataclasses import dataclass

from aperture.client import ApertureClient
from apiary.client import ApiaryClient
from counters.client import CountersClient
from feedgen.choices import Choices
from feedgen.filters.already_seen import AlreadySeen
from feedgen.filters.duplicate import Duplicate
from feedgen.filters.own_pins import OwnPins
from feedgen.filters.shown import ShownBefore
from feedgen.filters.taken_down import TakenDown
from feedgen.filters.undescribed import Undescribed
from feedgen.hydrators.reasons import Reasons
from feedgen.hydrators.titles import PageTitles
from feedgen.hydrators.visibility import Visibility
from feedgen.last_resort.page import LastResort
from feedgen.last_resort.popular import Popular, PopularList
from feedgen.last_resort.ttl import TtlValue
from feedgen.pipeline import Pipeline
from feedgen.queries.followed import Followed
from feedgen.queries.followed_interests import FollowedInterests
from feedgen.queries.seen import SeenPins
from feedgen.queries.signals import Signals
from feedgen.queries.walk import Walk
from feedgen.scorers.light import LightScore
from feedgen.scorers.pin_attributes import PinAttributes
from feedgen.scorers.ranked import Ranked
from feedgen.served import Served
from feedgen.slate import Slate
from feedgen.sources.followed_boards import FollowedBoardPins
from feedgen.sources.fresh_pins import Fresh, FreshPins
from feedgen.sources.interest_pins import InterestPins
from feedgen.sources.popular_pins import PopularPins
from feedgen.sources.retrieval import Retrieval
from feedgen.sources.walked_boards import WalkedBoards
from feedgen.sources.walked_pins import WalkedPins
from feedgen.stages import CandidateSource, Filter, Hydrator, PostFilter, QueryStage
from feedgen.titles import Titles
from pixie.client import PixieClient
from polaris.client import PolarisClient
from realpin.client import RealpinClient
from roadrunner.client import RoadrunnerClient
from rockstore.client import RockstoreClient
from scorpion.client import ScorpionClient
from services.core.errors import InvalidArgument
from services.core.events import Surface
from services.rpc.mesh import Mesh
from smartfeed.client import SmartfeedClient

LEAST = 25  # candidates of a source of home, however small its rate


@dataclass(frozen=True, slots=True)
class Clients:
    """The services that feeds ask."""

    apiary: ApiaryClient
    polaris: PolarisClient
    aperture: ApertureClient
    realpin: RealpinClient
    counters: CountersClient
    pixie: PixieClient
    scorpion: ScorpionClient
    rockstore: RockstoreClient
    smartfeed: SmartfeedClient
    roadrunner: RoadrunnerClient

    @staticmethod
    def of(mesh: Mesh) -> "Clients":
        """The clients of a mesh. Make them on the event loop that uses them."""
        return Clients(
            ApiaryClient(mesh),
            PolarisClient(mesh),
            ApertureClient(mesh),
            RealpinClient(mesh),
            CountersClient(mesh),
            PixieClient(mesh),
            ScorpionClient(mesh),
            RockstoreClient(mesh),
            SmartfeedClient(mesh),
            RoadrunnerClient(mesh),
        )


def feeds(ask: Clients, choose: Choices) -> dict[str, Pipeline]:
    """The pipelines by feed name."""
    parts = Parts(ask, choose)
    return {"following": following(parts), "interest": interest(parts), "picked": picked(parts), "home": home(parts)}


def following(parts: "Parts") -> Pipeline:
    """Pins of the boards that a user follows, directly and through users."""
    sources = [parts.followed_boards()]
    return Pipeline(
        surface=Surface.FOLLOWING,
        queries=parts.user(follows_required=True),
        walks=[],
        sources=sources,
        fillers=[],
        filters=parts.filters(),
        scorers=[LightScore(), parts.ranked()],
        checks=parts.checks(),
        slate=Slate(parts.choose.per_board, parts.choose.per_owner),
        hydrators=parts.hydrators(sources),
        post_filters=parts.checks(),
        reserve=[parts.visibility()],
        last_resort=parts.last_resort(),
        afterwards=[parts.served()],
    )


def interest(parts: "Parts") -> Pipeline:
    """Pins of the interests that a user follows, and of those that their actions show."""
    sources, fillers = [parts.interest_pins()], parts.fillers()
    return Pipeline(
        surface=Surface.INTEREST,
        queries=[*parts.user(), parts.followed_interests()],
        walks=[],
        sources=sources,
        fillers=fillers,
        filters=parts.filters(),
        scorers=[LightScore(below_best=True), parts.ranked()],
        checks=parts.checks(),
        slate=parts.slate([1.0]),
        hydrators=parts.hydrators([*sources, *fillers]),
        post_filters=parts.checks(),
        reserve=[parts.visibility()],
        last_resort=parts.last_resort(),
        afterwards=[parts.served()],
    )


def picked(parts: "Parts") -> Pipeline:
    """Pins near what a user engaged with, and of boards near it."""
    share = parts.choose.walk_pins_share
    sources: list[CandidateSource] = [parts.walked_pins(), parts.walked_boards()]
    fillers = parts.fillers()
    return Pipeline(
        surface=Surface.PICKED,
        queries=parts.user(),
        walks=parts.walks(sources),
        sources=sources,
        fillers=fillers,
        filters=parts.filters(),
        scorers=[LightScore(below_best=True), parts.ranked(), parts.pin_attributes()],
        checks=parts.checks(),
        slate=parts.slate([share, 1 - share]),
        hydrators=parts.hydrators([*sources, *fillers]),
        post_filters=parts.checks(),
        reserve=[parts.visibility()],
        last_resort=parts.last_resort(),
        afterwards=[parts.served()],
    )


def home(parts: "Parts") -> Pipeline:
    """All of these, and popular and new pins, blended by rates."""
    sources, rates = parts.blend()
    return Pipeline(
        surface=Surface.HOME,
        queries=[*parts.user(), parts.followed_interests()],
        walks=parts.walks(sources),
        sources=sources,
        fillers=[],
        filters=parts.filters(),
        scorers=[LightScore(below_best=True), parts.ranked(), parts.pin_attributes()],
        checks=parts.checks(),
        slate=parts.slate(rates),
        hydrators=parts.hydrators(sources),
        post_filters=parts.checks(),
        reserve=[parts.visibility()],
        last_resort=parts.last_resort(),
        afterwards=[parts.served()],
    )


class Parts:
    """The stages that feeds are made of, over these clients, as the operator chose them. k: candidates of a source."""

    def __init__(self, ask: Clients, choose: Choices) -> None:
        self.ask, self.choose, self.timeout = ask, choose, choose.timeout
        self._ttl_ms = choose.popular_keep_s * 1000
        self._popular = PopularList(
            ask.counters, ask.rockstore, choose.popular, TtlValue[Popular](self._ttl_ms), self.timeout
        )
        self._titles = Titles(ask.rockstore, self.timeout)
        self._served = Served(ask.roadrunner, choose.timeout)

    def user(self, follows_required: bool = False) -> Sequence[QueryStage]:
        """The queries about the user for every feed: the model gets all of their answers, whatever the feed."""
        choose, ask = self.choose, self.ask
        return [
            Signals(ask.realpin, choose.walk_pins, choose.affinities, self.timeout),
            Followed(ask.apiary, choose.boards, self.timeout, required=follows_required),
            SeenPins(ask.aperture, choose.false_positive_rate, self.timeout),
        ]

    def followed_interests(self) -> FollowedInterests:
        """Which interests the user follows."""
        return FollowedInterests(self.ask.apiary, self.choose.interests, self.timeout)

    def followed_boards(self, k: int = 0) -> FollowedBoardPins:
        """From the boards that the user follows."""
        return FollowedBoardPins(self._retrieval(k, spread=False))

    def interest_pins(self, k: int = 0) -> InterestPins:
        """From the user's interests."""
        return InterestPins(self._retrieval(k), self.choose.interests, self.choose.inferred_weight)

    def walked_boards(self, k: int = 0) -> WalkedBoards:
        """From boards near the user's recent pins: for a few candidates a few boards will do."""
        choose = self.choose
        return WalkedBoards(self._retrieval(k), min(choose.walk_boards, k or choose.candidates), choose.walk_sharpness)

    def walked_pins(self, k: int = 0) -> WalkedPins:
        """Near the user's recent pins."""
        return WalkedPins(k or self.choose.candidates)

    def walks(self, sources: Sequence[CandidateSource]) -> list[QueryStage]:
        """The walks that these sources need: none, or one for all of them."""
        boards = max((source.most for source in sources if isinstance(source, WalkedBoards)), default=0)
        pins = max((source.k for source in sources if isinstance(source, WalkedPins)), default=0)
        if not boards and not pins:
            return []
        choose = self.choose
        steps, discount = choose.walk_steps, choose.walk_discount
        return [Walk(self.ask.pixie, max(boards, 1), max(pins, 1), steps, discount, self.timeout)]

    def popular_pins(self, k: int = 0) -> PopularPins:
        """Pins that many users save."""
        return PopularPins(self._popular, k or self.choose.popular, self.choose.own_pins)

    def fresh_pins(self, k: int = 0) -> FreshPins:
        """New pins of the interests that many users save from."""
        retrieval, most = self._retrieval(k or self.choose.popular), self.choose.popular_interests
        return FreshPins(self.ask.counters, retrieval, most, TtlValue[Fresh](self._ttl_ms), self.timeout)

    def fillers(self) -> list[CandidateSource]:
        """For a feed whose own sources bring too little."""
        return [self.popular_pins(), self.fresh_pins()]

    def blend(self) -> tuple[list[CandidateSource], list[float]]:
        """The sources of home and their rates, those that have one; of the candidates each brings its part."""
        choose = self.choose
        makers = (
            (self.followed_boards, choose.rate_following),
            (self.walked_pins, choose.rate_picked * choose.walk_pins_share),
            (self.walked_boards, choose.rate_picked * (1 - choose.walk_pins_share)),
            (self.interest_pins, choose.rate_interest),
            (self.popular_pins, choose.rate_popular),
            (self.fresh_pins, choose.rate_fresh),
        )
        total = sum(rate for _, rate in makers)
        if not total:
            raise InvalidArgument("[feedgen] every rate of home is 0: at least one must be above 0")
        sources: list[CandidateSource] = [
            make(max(LEAST, round(choose.candidates * rate / total))) for make, rate in makers if rate
        ]
        return sources, [rate for _, rate in makers if rate]

    def ranked(self) -> Ranked:
        """By the promoted model."""
        return Ranked(self.ask.scorpion, self.timeout)

    def pin_attributes(self) -> PinAttributes:
        """Which interest pins are of, and which may not be shown."""
        return PinAttributes(self._titles)

    def filters(self) -> Sequence[Filter]:
        """Filters that need no scores."""
        return [Duplicate(), ShownBefore(), AlreadySeen()]

    def checks(self) -> Sequence[PostFilter]:
        """Filters by the findings of scorers about a pin, and later of hydrators."""
        return [TakenDown(), Undescribed(), *([] if self.choose.own_pins else [OwnPins()])]

    def slate(self, rates: Sequence[float]) -> Slate:
        """With all limits."""
        return Slate(self.choose.per_board, self.choose.per_owner, self.choose.per_interest, rates)

    def hydrators(self, sources: Sequence[CandidateSource]) -> Sequence[Hydrator]:
        """Hydrators of the texts of a page. sources: all of the feed, fillers last."""
        return [PageTitles(self._titles), Reasons(sources)]

    def visibility(self) -> Visibility:
        """Hydrators that say which pins of the reserve may be shown."""
        return Visibility(self._titles)

    def last_resort(self) -> LastResort:
        """When no page can be made."""
        return LastResort(self.ask.smartfeed, self._popular, self._titles, self.timeout, self.choose.own_pins)

    def served(self) -> Served:
        """Logs the served page."""
        return self._served

    def _retrieval(self, k: int, spread: bool = True) -> Retrieval:
        choose = self.choose
        return Retrieval(self.ask.polaris, k or choose.candidates, choose.max_age_ms, self.timeout, spread)
