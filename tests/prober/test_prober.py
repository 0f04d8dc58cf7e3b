"""The prober's verdicts: shown or lost."""

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat

import pytest

from prober import prober
from prober.prober import Freshness, Prober, Shows
from services.core.errors import Unavailable
from services.core.probes import pin_of


class Over(BaseException):
    """There are no more probes."""


Answers = list[bool | None]  # to each probe in turn; None: it does not answer


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "LOST_S", 0.2)


def probed(views: dict[str, Answers]) -> dict[str, Freshness]:
    """The measured figures after as many probes as there are answers."""
    pins: list[int] = []
    most = max(map(len, views.values()))

    async def publish(turn: int, at_ms: int) -> None:
        if len(pins) == most:
            raise Over
        pins.append(pin_of(turn))

    def shows(answers: Iterator[bool | None]) -> Shows:
        said: dict[int, bool | None] = {}

        async def shown(pin: int, at_ms: int) -> bool:
            assert pin == pins[-1]
            answer = said.setdefault(pin, next(answers) if pin not in said else None)
            if answer is None:
                raise Unavailable("away")
            return answer

        return shown

    running = Prober(0.001, publish, {view: shows(chain(answers, repeat(None))) for view, answers in views.items()})
    with pytest.raises(Over):
        asyncio.run(running.run())
    return running.freshness()


def test_only_a_view_that_has_answered_loses_a_probe() -> None:
    found = probed(
        {
            "starting": [None, None],
            "started": [None, True],
            "stuck": [False, False],
            "killed": [True, None],
        }
    )
    assert {view: (of.samples, of.lost) for view, of in found.items()} == {
        "starting": (0, 0),
        "started": (1, 0),
        "stuck": (0, 2),
        "killed": (1, 1),
    }


def test_an_interval_of_zero_makes_no_probe() -> None:
    async def publish(turn: int, at_ms: int) -> None:
        pytest.fail("it was made")

    asyncio.run(Prober(0, publish, {}).run())
