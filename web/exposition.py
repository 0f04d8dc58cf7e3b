"""Prometheus' text format of many processes as one: each family once, with all of its samples.

Every part comes from the same library in the same form (HELP, TYPE, samples), so lines are sorted into families and
never parsed: a scrape of 20 processes costs the edge a millisecond.
"""

from collections.abc import Iterable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Families:
    """Families in the order in which they first came, each with its head and its samples."""

    def __init__(self) -> None:
        self._heads: dict[str, list[str]] = {}
        self._samples: dict[str, list[str]] = {}

    def add(self, text: str) -> None:
        """All of one process."""
        family, fresh = "", False
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                fresh = family not in self._heads
                self._samples.setdefault(family, [])
                self._heads.setdefault(family, [])
            if not line.startswith("#"):
                if line and family:
                    self._samples[family].append(line)
            elif fresh:
                self._heads[family].append(line)

    def text(self) -> str:
        """Everything, family by family."""
        lines = (line for family, head in self._heads.items() for line in (*head, *self._samples[family]))
        return "".join(f"{line}\n" for line in lines)


def up(processes: Iterable[tuple[str, int, int, bool]]) -> str:
    """feedmesh_up of each (service, shard, replica, whether it answered); the first replica has no label."""
    head = "# HELP feedmesh_up Whether the process answered\n# TYPE feedmesh_up gauge\n"
    lines = []
    for service, shard, replica, answered in processes:
        first = f'replica="{replica}",' if replica else ""
        lines.append(f'feedmesh_up{{{first}service="{service}",shard="{shard}"}} {float(answered)}\n')
    return head + "".join(lines)
