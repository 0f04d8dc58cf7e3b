"""The chosen pins of a page, and their ranking."""

from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.losers import Losers
from services.core.columns import F32


@dataclass(frozen=True, slots=True)
class Ranking:
    """The model that ranked the candidates.

    model: `name@version`, "light" for the light score, empty when nothing did; fingerprint: of the model, 0 when there
    is none; features: the names of the columns of the candidates' `features` (float32[n, f]); hits, misses: rows that
    scorpion's cache held, or did not; lost: services that scorpion could not ask, so that defaults stood in.
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
    """The candidates of a page in its order, hydrated, and the score of each (float32[n]).

    fallback: the stage that gave it when it could not be made, empty when it was; probability: with which each pin was
    placed where it is; candidates: how many there were to choose from; losers: of some pages, candidates that were not chosen.
    """

    rows: Candidates
    scores: F32
    ranking: Ranking = LIGHT
    fallback: str = ""
    false_positives: int = 0  # pins that the filter of seen pins rejected wrongly, when that was counted
    probability: float = 1.0  # nothing is placed by chance
    candidates: int = 0
    losers: Losers | None = None

    @property
    def fell_back(self) -> bool:
        """Whether the page could not be made."""
        return bool(self.fallback)
