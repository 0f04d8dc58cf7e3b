"""One line of the table: the metrics of a method on a part, with intervals where there are any."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """metrics: by name; intervals: 95 % bounds by name of a metric; note: a line for people; seconds: its duration."""

    part: str
    method: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""
