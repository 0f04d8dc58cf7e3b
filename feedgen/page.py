"""What was chosen, and what ranked it."""

from dataclasses import dataclass

from feedgen.candidates import Candidates
from services.columns import F32


@dataclass(frozen=True, slots=True)
class Ranking:
    """What ranked the candidates.

    model: `name@version`, "light" for the light score, empty when nothing did; fingerprint: of the model, 0 when there
    is none; features: the names of the columns of the candidates' `features` (float32[n, f]); hits, misses: rows that
    scorpion's cache held, or did not; lost: what scorpion could not ask, so that defaults stood in.
    """

    model: str = ""
    fingerprint: int = 0
    features: tuple[str, ...] = ()
    hits: int = 0
    misses: int = 0
    lost: tuple[str, ...] = ()


LIGHT, NOTHING = Ranking("light"), Ranking()


@dataclass(frozen=True, slots=True)
class Page:
    """The candidates of a page in its order, and the score of each (float32[n])."""

    rows: Candidates
    scores: F32
    ranking: Ranking = LIGHT
    fell_back: bool = False
    false_positives: int = 0  # pins that the filter of what was seen rejected wrongly, when that was counted
