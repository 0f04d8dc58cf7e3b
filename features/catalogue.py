"""The features that a model may have: each by name, its source, and its default.

One list for serving and for training. A column of a dataset in rockstore is a feature too, named `dataset.column`.
"""

from dataclasses import dataclass
from enum import StrEnum

from features import crosses, pins, requests, users
from services.core.errors import InvalidArgument

NAN = float("nan")


class FeatureSource(StrEnum):
    """The service that states a feature."""

    USER = "user"  # of the user, the same for every row of a request: feedgen, from realpin and apiary
    REQUEST = "request"  # of a candidate in this request: feedgen, from its sources
    PIN = "pin"  # of a pin, the same in every request: scorpion, from rockstore and counters
    CROSS = "cross"  # of a user and a pin together: scorpion, from the user's affinities and the pin's interests


@dataclass(frozen=True, slots=True)
class Feature:
    """default: the value where the feature is not known; NaN is missing, as LightGBM has it."""

    name: str
    source: FeatureSource
    default: float = NAN
    categorical: bool = False


def _of(source: FeatureSource, names: tuple[str, ...], categorical: frozenset[str] = frozenset()) -> dict[str, Feature]:
    return {name: Feature(name, source, NAN, name in categorical) for name in names}


CATALOGUE: dict[str, Feature] = {
    **_of(FeatureSource.USER, users.NAMES),
    **_of(FeatureSource.REQUEST, requests.NAMES, requests.CATEGORICAL),
    **_of(FeatureSource.PIN, pins.NAMES),
    **_of(FeatureSource.CROSS, crosses.NAMES),
}


def feature(name: str) -> Feature:
    """The feature of this name; `dataset.column` is one of a pin. Raises InvalidArgument for a name that no service states."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    dataset, _, column = name.partition(".")
    if dataset and column:
        return Feature(name, FeatureSource.PIN)
    raise InvalidArgument(
        f"feature {name!r} is not known: known are {', '.join(CATALOGUE)}, and dataset.column of rockstore's datasets"
    )
