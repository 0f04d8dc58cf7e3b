"""Numbers that a document states and the code decides: pages, patterns and values, as a table."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aperture import freezer
from aperture import service as aperture
from aperture.layout import ROW_BYTES, SEGMENT_BYTES
from aperture.store import MAX_CELLS
from apiary import service as apiary
from apiary.layout import ENTRY_BYTES
from bench.plain import rules
from cli import plan
from cli.archive import OLD_MS
from cli.check import check
from cli.findings import FILES, NEEDED_MB
from cli.model import train as train_command
from cli.plan_lines import BUSY, CACHED, FULL
from cli.up import READY_WITHIN_S
from counters import layout as buckets
from counters import service as counters
from counters import table as counters_table
from counters.leaders import MANY
from counters.store import LEADERS
from features.catalogue import CATALOGUE
from feedgen.choices import Choices
from feedgen.cursor import MAX_SHOWN
from feedgen.feeds import LEAST
from learning.evaluation import lastfm as listening
from learning.evaluation import metrics, pinterest
from learning.training import enough, replay, served, train
from learning.training.samples import MORE_MOMENTS, POSITIVE, Wanted
from loaders import lastfm, quality, ratings, undated
from loaders.convert import EXACT
from loaders.world import MAX_OWN_INTERESTS
from pixie import kernel as walk
from pixie import service as pixie
from prober.prober import LOST_S
from realpin import layout as realpin_layout
from realpin import service as realpin
from realpin.interests import SHARE
from realpin.signals import WINDOWS_MS
from roadrunner.aggregator import TOGETHER_S
from roadrunner.committer import GROUP_EVENTS
from roadrunner.service import MAX_EVENTS as MAX_OF_A_BATCH
from roadrunner.settings import Settings as Roadrunner
from services.core import events, tokens
from services.core.clock import DAY_MS
from services.core.external import MAX_EXTERNAL
from services.core.metrics import KEPT as KEPT_CALLS
from services.core.settings import MeshSettings
from services.ops.supervisor import FIRST_BACKOFF_S, MAX_BACKOFF_S, START_HANG_S
from services.state.follower import READY_LAG_EVENTS
from services.state.scrub import REST
from smartfeed.service import REMOVED_SENT
from smartfeed.store import REMOVED_KEPT, SHOWN_KEPT
from web.connections import Limits
from web.questions import MAX_EVENTS, MAX_LIMIT, MAX_WRITER, FeedQuery
from web.settings import Settings as Web
from web.wire import U64

ROOT = Path(__file__).resolve().parent.parent
WORDS = {"two": 2.0, "three": 3.0, "nine": 9.0, "fifth": 1 / 5, "tenth": 1 / 10, "three quarters": 3 / 4}
MINUTE_S, MINUTE_MS = 60, 60_000


@dataclass(frozen=True, slots=True)
class Fact:
    """A number on a page.

    pattern: a regular expression with one group, the number, over the page's text in one line; every place that matches it
    is compared. value: the number that the code has.
    """

    page: str
    pattern: str
    value: float

    def stated(self) -> list[str]:
        """The number as the page states it, once for each match."""
        return re.findall(self.pattern, text_of(self.page))


@cache
def text_of(page: str) -> str:
    """The page in one line, so that a pattern may match across line ends."""
    return re.sub(r"\s+", " ", (ROOT / page).read_text())


def number(text: str) -> float:
    """`20,000`, `2^64 - 2^20`, `0.2` or `three` as a number. Raises ValueError for anything else."""
    if text in WORDS:
        return WORDS[text]
    total = 0.0
    for term in text.replace(",", "").replace("- ", "-").split():
        base, _, power = term.lstrip("-").partition("^")
        total += float(base) ** int(power or 1) * (-1 if term.startswith("-") else 1)
    return total


def default(function: Callable[..., Any], name: str) -> float:
    """The default of a parameter."""
    return float(inspect.signature(function).parameters[name].default)


def facts(page: str, *rows: tuple[str, float]) -> list[Fact]:
    """The facts of one page."""
    return [Fact(page, pattern, value) for pattern, value in rows]


N = r"(\d[\d,.]*\d|\d)"  # digits, in groups of three or with a fraction
POWERS = r"(2\^\d+(?: - 2\^\d+)?(?: - \d)?)"
RESERVED, PARTITIONS = float(events.RESERVED_FROM), MeshSettings().partitions
WANTED = Wanted()
CHOICES = Choices()

README = facts(
    "README.md",
    (rf"feeds, counts; {N} partitions each", PARTITIONS),
    (rf"Only `web` has a fixed port, {N}\.", Web().http_port),
    (rf"a small world takes about {N} MB", NEEDED_MB),
)
ARCHITECTURE = facts(
    "docs/architecture.md",
    (rf"mod partitions`, {N} by default", PARTITIONS),
    (rf"owns partitions `{N} i / n`", PARTITIONS),
    (rf"to `{N} \(i \+ 1\) / n`", PARTITIONS),
    (rf"up to about {N} events, appends them", GROUP_EVENTS),
    (rf"of every record it made, {N} bytes each", tokens.ENTRY.size),
    (rf"starts it again after {N} s, later", FIRST_BACKOFF_S),
    (rf"each time it dies young \(at most {N} s\)", MAX_BACKOFF_S),
    (rf"uses no processor time for {N} seconds", START_HANG_S),
    (rf"Until it is within {N} events of the end", READY_LAG_EVENTS),
    (rf"under reserved ids \(from {POWERS}\)", RESERVED),
)
OPERATIONS = facts(
    "docs/operations.md",
    (rf"once it has come within {N} events of the log's end", READY_LAG_EVENTS),
    (rf"of the last minute, or of the last {N} calls", KEPT_CALLS),
    (rf"uses no processor time for {N} seconds", START_HANG_S),
    (rf"`lost` were not within {N} s", LOST_S),
    (rf"gives up after {N} minutes", READY_WITHIN_S / MINUTE_S),
    (rf"allow {N} open files", FILES),
    (rf"# {N} ids, others each time", default(check, "sample")),
    (r"rests (\w+) times as long as it works", REST),
    (rf"its headers are over {N} KB", Limits().head / 1024),
    (rf"client_max_body_size {N}m", Web().max_body_mb),
)
EVENTS = facts(
    "docs/events.md",
    (rf"to {N} minutes from now", Roadrunner().max_ahead_s / MINUTE_S),
    (rf"UTF-8, at most {N} bytes", events.MAX_TEXT),
    (rf"of a pin, at most {N} \|", events.MAX_INTERESTS),
    (rf"of a dataset a row; at most {N} \|", events.MAX_FEATURES),
    (rf"that its page was made in; at most {N} \|", events.MAX_ARMS),
    (rf"at most {N} candidates \|", events.MAX_LOST),
    (r"candidates that lost, and (\w+) numbers of each", events.LOST_BY),
    (rf"Ids from {POWERS} on are the mesh's own", RESERVED),
    (rf"of a batch at most {N} takedowns", events.MAX_EVERYWHERE),
    (rf"takedowns, {N} switches of datasets", events.MAX_SWITCHES),
    (rf"and {N} interests of pins", events.MAX_JOINS),
    (rf"any text of 1 to {N} bytes", MAX_EXTERNAL),
    (rf"external id, 1 to {N} bytes", MAX_EXTERNAL),
    (rf"after a save or hide: the last {N},", REMOVED_KEPT),
    (rf"or one event; 1 to {N};", MAX_EVENTS),
    (rf"any name of up to {N} characters", MAX_WRITER),
    (rf"up to {N} events a batch", MAX_OF_A_BATCH),
)
CAPACITY = facts(
    "docs/capacity.md",
    (rf"\| {N} and [\d,]+ unless stated: kept", default(plan.plan, "follows_per_user")),
    (rf"\| [\d,]+ and {N} unless stated: kept", default(plan.plan, "events_per_user")),
    (rf"GB and cores, {N} and", default(plan.plan, "memory_per_machine")),
    (rf"GB and cores, \d+ and {N} unless", default(plan.plan, "cores_per_machine")),
    (r"a (\w+) of the pins in scorpion's cache", CACHED),
    (rf"CPU a feed, at {N} % busy", BUSY * 100),
    (rf"at {N} % of a machine", FULL * 100),
    (rf"up to `\[mesh\] partitions` \({N}\)", PARTITIONS),
    (r"and a (\w+) of the pins are in memory", CACHED),
)
HOME_BOARDS = rules.shares(CHOICES.candidates)[rules.WALKED_BOARDS]
FEED = facts(
    "docs/feed.md",
    (rf"shown more than {N} pins", MAX_SHOWN),
    (rf"so that \*picked\* may have {N}", 2 * CHOICES.candidates),
    (rf"by their rates, at least {N} each", LEAST),
    (rf"its share of the candidates, {N} by default", HOME_BOARDS),
    (rf"`rate_picked` is split {N} : 1", CHOICES.walk_pins_share / (1 - CHOICES.walk_pins_share)),
    (rf"`rate_following` {N},", CHOICES.rate_following),
    (rf"`rate_picked` {N},", CHOICES.rate_picked),
    (rf"`rate_interest` {N},", CHOICES.rate_interest),
    (rf"`rate_popular` {N} and", CHOICES.rate_popular),
    (rf"`rate_fresh` {N}\.", CHOICES.rate_fresh),
    (rf'"features": {N},', len(CATALOGUE)),
)
LEAST_OF_HOME = [
    *facts("docs/settings.md", (rf"by their rates, at least {N} each", LEAST)),
    *facts("feedgen/README.md", (rf"by their rates, at least {N} each", LEAST)),
]
FRONTEND = facts(
    "docs/frontend.md",
    (rf"is the end, after about {N} pins", MAX_SHOWN),
    (rf"State an `id` in each event, 1 to {POWERS}", RESERVED - 1),
    (rf"`limit` is 1 to {N}", MAX_LIMIT),
    (rf"{N} unless stated", FeedQuery(user=U64(1)).limit),
)
LEARNING = facts("docs/machine-learning.md", (rf"After {N} pages with an engagement", served.ENOUGH))
OWN_DATA = facts(
    "docs/own-data.md",
    (rf"text of up to {N} bytes", MAX_EXTERNAL),
    (rf"says so when {N} are too few", PARTITIONS),
    (rf"otherwise keep {N}\.", PARTITIONS),
    (rf"partitions = {N}", PARTITIONS),
)
LOADERS = facts(
    "loaders/README.md",
    (rf"are its {N} most used tags, each", lastfm.INTERESTS_OF_A_PIN),
    (rf"the user's {N} most used tags", lastfm.INTERESTS_OF_A_USER),
    (rf"over the {N} days before 2025-01-01", undated.SPAN_MS / DAY_MS),
    (rf"a whole number from 1 to {POWERS}, as", RESERVED - 1),
    (rf"a float up to {POWERS} \(pandas", EXACT),
    (rf"any text of 1 to {N} bytes", MAX_EXTERNAL),
    (rf"at most {N} bytes", events.MAX_TEXT),
    (rf"up to {N} interests that a user saved", ratings.FOLLOWED),
    (rf"that a user saved {N} or more pins of", ratings.USED),
    (rf"a user follows up to {N} that they saved most", ratings.FOLLOWED),
    (rf"spread over {N} days by a hash", ratings.SPREAD_MS / DAY_MS),
    (r"that is (three quarters) of the way", ratings.SAVED),
    (r"Over a (\w+) of a file is refused", ratings.MOST_SKIPPED),
    (rf"\(sum \+ {N} \* mean\)", quality.RATINGS),
    (rf"\(savers \+ {N} \* rate\)", quality.VIEWS),
    (rf"newest date is over {N} days old", OLD_MS / DAY_MS),
    (rf"People have 2 to {N} interests", MAX_OWN_INTERESTS),
)
TRAINING = facts(
    "learning/training/README.md",
    (rf"within the horizon \({N} days\)", WANTED.horizon_days),
    (rf"`--samples` \| {N};", default(train_command, "samples")),
    (rf"`--moments` \| {N} \|", default(train_command, "moments")),
    (rf"`--horizon` \| {N} \|", default(train_command, "horizon")),
    (rf"`--seed` \| {N} \|", default(train_command, "seed")),
    (rf"saves the pin \(weight {N}\)", POSITIVE[events.Action.SAVE]),
    (rf"or clicks it \({N}\)", POSITIVE[events.Action.CLICK]),
    (rf"keeps {N} negatives of a request", WANTED.negatives),
    (rf"when it has grown by {N} %", replay.GROWN * 100 - 100),
    (rf"{N} % of the requests train", WANTED.shares[0] * 100),
    (rf"{N} % stop the training", WANTED.shares[1] * 100),
    (rf"the last {N} % are reported on", 100 - sum(WANTED.shares) * 100),
    (rf"up to {N} times as many", MORE_MOMENTS),
    (rf"holds {N} pages with an engagement", served.ENOUGH),
    (rf"fewer than {N} saves or clicks", enough.LEAST_DEEDS),
    (rf"saves or clicks, by {N} users", enough.LEAST_USERS),
    (rf"users, within {N} days", enough.LEAST_DAYS),
    (rf"fewer than {N} requests with a positive", train.LEAST_REQUESTS),
    (rf"or {N} positive candidates", train.LEAST_POSITIVES),
)
EVALUATION = facts(
    "learning/evaluation/README.md",
    (rf"over requests \({N} resamples\)", metrics.RESAMPLES),
    (rf"the last {N} % of saves", listening.HELD * 100),
    (rf"page of {N};", listening.PAGE),
    (rf"held out, {N} negatives", pinterest.NEGATIVES),
)
PIXIE = facts(
    "pixie/README.md",
    (rf"[Uu]p to {N} walkers of a query pin", walk.WALKERS),
    (rf"\| up to {N}, one for each", walk.WALKERS),
    (rf"one for each {N} steps", walk.PART),
    (rf"ends within {N} steps", walk.SLICE),
    (rf"`Recommend` \| the k \(1 to {N}\)", pixie.MAX_K),
    (rf"which of the 1 to {N} query pins", pixie.MAX_PINS),
)
COUNTERS = facts(
    "counters/README.md",
    (rf"Hours are kept for {N} days", buckets.KEPT[2] / 24),
    (rf"for 7 days, days for {N},", buckets.KEPT[1]),
    (rf"whole hours up to {N} days", buckets.KEPT[2] / 24),
    (rf"whole days above 7, up to {N} ", buckets.KEPT[1]),
    (rf"A bucket holds {POWERS} at most", buckets.MOST),
    (rf"the {N} best of all time", LEADERS),
    (rf"when a request asks or {N} wait", MANY),
    (rf"at most {N} % of them taken", counters_table._FULL * 100),
    (rf"{N} bytes each", buckets.INCREMENT_BYTES),
    (rf"for up to {N} objects", counters.MAX_OBJECTS),
    (rf"objects, {N} actions and", counters.MAX_COLUMNS),
    (rf"and {N} counts a call", counters.MAX_COUNTS),
    (rf"the `k` \(1 to {N}\)", LEADERS),
    (rf"sums the actions that come within {N} ms", TOGETHER_S * 1000),
)
APERTURE = facts(
    "aperture/README.md",
    (rf"An event is a row of {N} bytes", ROW_BYTES),
    (rf"A frozen value over {N} KiB", SEGMENT_BYTES / 1024),
    (rf"A step is at most {N} days", freezer.STEP_DAYS),
    (rf"users and about {N} KiB", freezer.STEP_BYTES / 1024),
    (rf"the `limit` \(1 to {N}\)", aperture.MAX_LIMIT),
    (rf"of the rate asked \({N} to", aperture.MIN_RATE),
    (rf"of the rate asked \([\d.]+ to {N}\)", aperture.MAX_RATE),
    (rf"within each of up to {N} windows", aperture.MAX_WINDOWS),
    (rf"over {N} counts: ask for fewer", MAX_CELLS),
)
OTHERS = [
    *facts(
        "apiary/README.md",
        (rf"for good: {N} bytes for each thing", ENTRY_BYTES),
        (rf"entries of {N} bytes", ENTRY_BYTES),
        (rf"at most `limit` \(1 to {N}\)", apiary.MAX_LIMIT),
        (rf"up to {N} owners", apiary.MAX_IDS),
        (rf"up to {N} targets", apiary.MAX_IDS),
    ),
    *facts(
        "realpin/README.md",
        (rf"rows of {N} bytes", realpin_layout.ROW_BYTES),
        (rf"at most `pins` engaged pins \(0 to {N}\)", realpin.MAX_PINS),
        (rf"`interests` \(0 to {N}\)", realpin.MAX_INTERESTS),
        (rf"in the last {N} minutes, hour and day", WINDOWS_MS[0] / MINUTE_MS),
        (r"did not answer in (three quarters) of the time left", SHARE),
    ),
    *facts(
        "smartfeed/README.md",
        (rf"those beyond {N} \|", SHOWN_KEPT),
        (rf"among the last {N} they removed", REMOVED_KEPT),
        (rf"once its user has removed {N} others", REMOVED_KEPT),
        (rf"up to {N} pins u8", REMOVED_KEPT),
        (rf"and the {N} pins that the user last removed", REMOVED_SENT),
    ),
]
FACTS = [
    *README,
    *ARCHITECTURE,
    *OPERATIONS,
    *EVENTS,
    *CAPACITY,
    *FEED,
    *LEAST_OF_HOME,
    *FRONTEND,
    *LEARNING,
    *OWN_DATA,
    *LOADERS,
    *TRAINING,
    *EVALUATION,
    *PIXIE,
    *COUNTERS,
    *APERTURE,
    *OTHERS,
]
