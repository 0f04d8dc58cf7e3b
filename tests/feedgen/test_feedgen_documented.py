"""The table of docs/feed.md has the stages of every feed, in their order, and says who requires them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from feedgen.choices import Choices
from feedgen.feeds import Clients, feeds
from feedgen.names import SURFACES
from feedgen.pipeline import Pipeline

PAGE = Path(__file__).parents[2] / "docs/feed.md"
NOT_ASKED = Clients(*cast(Any, [None] * len(Clients.__slots__)))  # the lists are made without a mesh
PHASES: dict[str, str] = {
    "query": "queries",
    "query, then": "walks",
    "source": "sources",
    "filler": "fillers",
    "filter": "filters",
    "scorer": "scorers",
    "check": "checks",
    "hydrator": "hydrators",
    "post-filter": "post_filters",
    "reserve": "reserve",
}


def rows(phase: str) -> list[tuple[str, set[str], set[str]]]:
    """(stage, its feeds, those that require it), as the page states them."""
    found = []
    for names, of, required in re.findall(
        rf"^\| {phase} \| ((?:`\w+`(?:, )?)+) \| ([^|]*)\|([^|]*)\|", PAGE.read_text(), re.MULTILINE
    ):
        found += [(name, _feeds(of), _feeds(required)) for name in re.findall(r"`(\w+)`", names)]
    return found


def _feeds(cell: str) -> set[str]:
    return set(SURFACES) if cell.strip() == "all" else {name.strip() for name in cell.split(",") if name.strip()}


def _stages(pipeline: Pipeline, phase: str) -> Sequence[Any]:
    return cast(Sequence[Any], getattr(pipeline, PHASES[phase]))


@pytest.mark.parametrize("phase", PHASES)
def test_the_stages_of_a_phase_are_those_of_the_feeds(phase: str) -> None:
    stated, pipelines = rows(phase), feeds(NOT_ASKED, Choices())
    assert stated
    for feed, pipeline in pipelines.items():
        stages = _stages(pipeline, phase)
        assert sorted(name for name, of, _ in stated if feed in of) == sorted(stage.name for stage in stages), feed
        if phase not in {"query", "source", "filler"}:  # these are asked in parallel
            assert [name for name, of, _ in stated if feed in of] == [stage.name for stage in stages], feed
        assert {name for name, _, required in stated if feed in required} == {s.name for s in stages if s.required}, (
            feed
        )
