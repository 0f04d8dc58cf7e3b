"""Whether there is enough history to learn from, said in words before the long work begins."""

from learning.training.events import EventHistory
from learning.training.samples import Deeds, Wanted
from services.core.clock import DAY_MS
from services.core.errors import TooLittle

LEAST_DEEDS = 200
LEAST_USERS = 20
#: A request counts what follows within a day, or within a shorter horizon, and each period must be longer than that.
LEAST_DAYS = 7.0


def check(history: EventHistory, deeds: Deeds, wanted: Wanted) -> None:
    """Raise TooLittle with the present and the needed numbers."""
    names = " or ".join(action.name.lower() for action in wanted.positive)
    within = deeds.at_ms < wanted.until_ms if wanted.until_ms else deeds.at_ms >= 0
    count, users = int(within.sum()), len(set(deeds.user[within].tolist()))
    if not count:
        raise TooLittle(
            f"{history.source}: it has no {names.replace(' or ', ' and no ')}: there is nothing to learn from"
        )
    days = float(deeds.at_ms[within].max() - deeds.at_ms[within].min()) / DAY_MS
    least_days = LEAST_DAYS * min(wanted.horizon_days, 1.0)
    if count >= LEAST_DEEDS and users >= LEAST_USERS and days >= least_days:
        return
    raise TooLittle(
        f"{history.source}: not enough to learn from yet: {count:,} times {names}, by {users:,} users, within "
        f"{days:.1f} days; at least {LEAST_DEEDS:,} times, by {LEAST_USERS} users, within {least_days:.1f} days are needed"
    )
