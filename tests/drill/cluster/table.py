"""What each fault cost: availability, degraded pages, latency, recovery, and for how long nothing could be written."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from tests.drill.cluster.client import Page, Written

Span = tuple[float, float]  # on the monotonic clock


@dataclass
class Round:
    """One fault, as it was measured. Latencies are in milliseconds, of what was due in the fault or, healthy, before it and all
    faults before. noticed_p99: of what was due in the fault once callers had the time to notice it.

    recovery_s: from its beginning until the last answer that was not a full page, or was the fallback page; 0: there was none;
    between_bytes: that calls between hosts took for each page while all was well;
    whole_s: from its end until every process was ready and had applied the log; writes_away_s: the longest time in which no
    publish was acknowledged; fell_back: the share of pages that were fallback pages; degraded: that lacked any part.
    """

    fault: str
    pages: int
    availability: float
    fell_back: float
    degraded: float
    healthy_p50: float
    healthy_p99: float
    p50: float
    p99: float
    noticed_p99: float
    recovery_s: float
    whole_s: float
    writes_away_s: float
    extra_calls: float
    load: float
    between_bytes: float
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether every bound held."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """As it stands in the results."""
        return {
            name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(self).items()
        } | {"ok": self.ok}


def within(pages: Sequence[Page], span: Span) -> list[Page]:
    """The pages that were due in a span."""
    return [page for page in pages if span[0] <= page.due < span[1]]


def percentiles(pages: Sequence[Page]) -> tuple[float, float]:
    """P50 and P99 of the time that they took, in milliseconds; 0 of none."""
    if not pages:
        return 0.0, 0.0
    p50, p99 = np.percentile([1000 * page.took_s for page in pages], (50, 99))
    return float(p50), float(p99)


def share(pages: Sequence[Page], of: Sequence[bool]) -> float:
    """How many of the pages are so, from 0 to 1."""
    return sum(of) / len(pages) if pages else 0.0


def recovery_s(pages: Sequence[Page], span: Span) -> float:
    """Seconds from the beginning of a span until the last bad answer to what was due in it; 0 when all were good."""
    bad = [page.ended for page in within(pages, span) if not page.good or page.is_fallback]
    return max(bad) - span[0] if bad else 0.0


def writes_away_s(written: Sequence[Written], span: Span) -> float:
    """The longest time within a span in which no publish was acknowledged."""
    at = sorted({span[0], *(w.ended for w in written if span[0] <= w.ended < span[1]), span[1]})
    return float(max(np.diff(at), default=0.0))


def measured(
    pages: Sequence[Page], written: Sequence[Written], healthy: Sequence[Span], during: Span, noticed: Span
) -> dict[str, Any]:
    """The figures of a round: during is from the beginning of the fault until the mesh is whole again."""
    found, before = within(pages, during), [page for span in healthy for page in within(pages, span)]
    p50, p99 = percentiles(found)
    healthy_p50, healthy_p99 = percentiles(before)
    return {
        "pages": len(found),
        "availability": share(found, [page.good for page in found]),
        "fell_back": share(found, [page.is_fallback for page in found]),
        "degraded": share(found, [bool(page.degraded) for page in found]),
        "healthy_p50": healthy_p50,
        "healthy_p99": healthy_p99,
        "p50": p50,
        "p99": p99,
        "noticed_p99": percentiles(within(pages, noticed))[1],
        "recovery_s": recovery_s(pages, during),
        "writes_away_s": writes_away_s(written, during),
    }


COLUMNS = (
    ("Fault", lambda r: r.fault),
    ("Pages", lambda r: f"{r.pages}"),
    ("Answered, full", lambda r: f"{100 * r.availability:.2f} %"),
    ("Fallback", lambda r: f"{100 * r.fell_back:.2f} %"),
    ("Degraded", lambda r: f"{100 * r.degraded:.2f} %"),
    ("P50 before, during (ms)", lambda r: f"{r.healthy_p50:.0f}, {r.p50:.0f}"),
    ("P99 before, during, noticed (ms)", lambda r: f"{r.healthy_p99:.0f}, {r.p99:.0f}, {r.noticed_p99:.0f}"),
    ("Extra calls", lambda r: f"{100 * r.extra_calls:.1f} %"),
    ("Last bad page after (s)", lambda r: f"{r.recovery_s:.1f}"),
    ("Whole after its end (s)", lambda r: f"{r.whole_s:.1f}"),
    ("No write for (s)", lambda r: f"{r.writes_away_s:.1f}"),
    ("Load", lambda r: f"{r.load:.0f}"),
    ("Bounds", lambda r: "held" if r.ok else "MISSED"),
)


def shown(rounds: Sequence[Round]) -> Table:
    """For a terminal."""
    table = Table(*(name for name, _ in COLUMNS))
    for one in rounds:
        table.add_row(*(text(one) for _, text in COLUMNS))
    return table


def markdown(rounds: Sequence[Round]) -> str:
    """For a document."""
    lines = ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(text(one) for _, text in COLUMNS) + " |" for one in rounds]
    return "\n".join(lines)
