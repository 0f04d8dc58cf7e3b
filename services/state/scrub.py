"""Reads a database whole and looks at every value: RocksDB checks the sums of the blocks, a layout checks their content.

A running process does this by itself from time to time, slowly, so that damage is known before a request asks for data that is
lost; `feedmesh check` does it at once. A slice is read by an iterator of its own, so that no old file is held for long.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Protocol

from services.core.errors import Damaged, MeshError
from services.core.metrics import Metrics
from services.core.paced import Paced
from services.state.database import Database
from services.state.stored import CheckValue

logger = logging.getLogger(__name__)
SLICE = 500  # entries read without a pause
REST = 99.0  # so many times as long as a slice took the scrub of a running process rests
HOUR_S, FIRST_S = 3600.0, 600.0
MOST_FINDINGS = 20  # of a family that are reported one by one


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, its place, and its remedy. key: hexadecimal; empty when it is not about one."""

    folder: str
    what: str
    file: str = ""
    family: str = ""
    key: str = ""
    remedy: str = ""


class Reading(Protocol):
    """Looks at the entries of a database, family by family in the order of their keys."""

    def value(self, family: str, key: bytes, value: bytes) -> None:
        """Raise Damaged for an entry that can't have been written."""
        ...

    def end(self) -> list[tuple[str, str]]:
        """(family, what is wrong) with all of them together."""
        ...


class Values:
    """Looks at each value by itself."""

    def __init__(self, check: CheckValue) -> None:
        self.value = check

    def end(self) -> list[tuple[str, str]]:
        """Nothing."""
        return []


@dataclass(slots=True)
class Report:
    """One pass over a database."""

    entries: int = 0
    bytes: int = 0
    seconds: float = 0.0
    ended_s: float = 0.0  # since 1970; 0: it has not
    damaged: dict[str, int] = field(default_factory=dict)  # by family: entries that can't be right, or can't be read
    findings: list[Finding] = field(default_factory=list)


Pace = Callable[[Report], bool]  # called after each slice; False ends the pass


def scrub(database: Database, families: Sequence[str], reading: Reading, remedy: str, pace: Pace) -> Report:
    """Read all families once. Problems are in the report; none is raised."""
    report, began = Report(damaged=dict.fromkeys(families, 0)), time.monotonic()
    folder = str(database.folder)

    def found(family: str, key: bytes, what: str) -> None:
        report.damaged[family] = report.damaged.get(family, 0) + 1
        if report.damaged[family] <= MOST_FINDINGS:
            report.findings.append(Finding(folder, what, family=family, key=key.hex(), remedy=remedy))

    for family in families:
        last = b""
        try:
            for key, value in _entries(database, family, report, pace):
                last = key
                try:
                    reading.value(family, key, value)
                except Damaged as error:
                    found(family, key, str(error))
        except _Ended:
            report.seconds = time.monotonic() - began
            return report
        except MeshError as error:  # a block that can't be read: entries behind it are not seen
            found(family, last, f"can't be read on after this key: {error}" if last else str(error))
    for family, what in reading.end():
        found(family, b"", what)
    report.seconds, report.ended_s = time.monotonic() - began, time.time()
    return report


class _Ended(Exception):
    """The pass was to end."""


def _entries(database: Database, family: str, report: Report, pace: Pace) -> Iterator[tuple[bytes, bytes]]:
    next_key = b""
    while True:
        some = list(islice(database.family(family).items(from_key=next_key), SLICE))
        report.entries += len(some)
        report.bytes += sum(len(key) + len(value) for key, value in some)
        yield from some
        if not pace(report):
            raise _Ended
        if len(some) < SLICE:
            return
        next_key = some[-1][0] + b"\0"


class Scrubber:
    """The thread by which a running process scrubs its own database."""

    def __init__(
        self, database: Database, families: Sequence[str], reading: Callable[[], Reading], remedy: str, every_h: float
    ) -> None:
        """every_h: hours from one pass to the next; 0: none is made."""
        self._database, self._families, self._reading, self._remedy = database, families, reading, remedy
        self._every_s, self._report = every_h * HOUR_S, Report()
        self._passes = 0
        self._slice_began = time.monotonic()
        # A process that has just started has other things to do.
        self._paced = Paced("scrub", self._pass, min(FIRST_S, self._every_s))

    def start(self, metrics: Metrics) -> None:
        """Begin, and report under `metrics`."""
        metrics.gauge("scrubs", lambda: float(self._passes))
        metrics.gauge("scrub_ended_seconds", lambda: self._report.ended_s)
        metrics.gauge("scrub_duration_seconds", lambda: self._report.seconds)
        metrics.gauge("scrub_bytes", lambda: float(self._report.bytes))
        metrics.gauge("scrub_entries", lambda: float(self._report.entries))
        for family in self._families:
            metrics.gauge(f"scrub_damaged_{family}", partial(self._damaged, family))
        if self._every_s:
            self._paced.start()

    def stop(self) -> None:
        """End the pass under way."""
        self._paced.stop()

    def problem(self) -> str:
        """The damage that the last pass found; empty when there was none."""
        findings = self._report.findings
        if not findings:
            return ""
        more = f" (and {len(findings) - 1} more, see `feedmesh check`)" if len(findings) > 1 else ""
        return f"damaged: {findings[0].what}{more}"

    def _damaged(self, family: str) -> float:
        return float(self._report.damaged.get(family, 0))

    def _pass(self) -> float:
        self.once()
        return self._every_s

    def once(self) -> Report:
        """One pass, at this thread's pace."""
        self._slice_began = time.monotonic()
        try:
            report = scrub(self._database, self._families, self._reading(), self._remedy, self._rest)
        except Exception:
            logger.exception("cannot scrub")
            return self._report
        if report.ended_s:
            for finding in report.findings:
                logger.error("damaged: %s, family %s, key %s: %s", *_place(finding), finding.what)
            self._report, self._passes = report, self._passes + 1
            if report.findings and not self._database.damage:  # a view is set aside and rebuilt, as after any damage
                self._database.damaged(report.findings[0].what)
        return report

    def _rest(self, _: Report) -> bool:
        goes_on = self._paced.rest(REST * (time.monotonic() - self._slice_began))
        self._slice_began = time.monotonic()
        return goes_on


def _place(finding: Finding) -> tuple[str, str, str]:
    return finding.folder, finding.family, finding.key or "(none)"
