"""PinFeatureLoader for each test, with an origin and a clock that it holds in its hands."""

import pytest

from scorpion.pin_features import PinFeatureLoader
from services.state.change_feed import ChangeFeed
from tests.scorpion.held import TTL, HeldOrigin, Time, followed


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def origin() -> HeldOrigin:
    return HeldOrigin()


@pytest.fixture
def feed() -> ChangeFeed:
    return followed()


@pytest.fixture
def loader(origin: HeldOrigin, feed: ChangeFeed, clock: Time) -> PinFeatureLoader:
    return PinFeatureLoader(origin, feed, 2 << 20, TTL, clock)
