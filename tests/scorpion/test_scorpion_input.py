"""Requests that scorpion refuses before it calls another service."""

from typing import Any

import numpy as np
import pytest

from protos import scorpion_pb2 as pb
from scorpion.service import Scorpion
from services.core.columns import ids, pack
from services.core.errors import InvalidArgument


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"pins": b"123"}, "pins: 3 bytes are not a whole number of 8-byte items"),
        ({"pins": pack(np.ones(20_001), "<u8")}, "pins: 20001 pins; at most 20000 a call"),
        ({"pins": pack(ids([4, 0]), "<u8")}, r"pins\[1\] = 0: 0 is not an id"),
        ({"user_names": ["user_seen"]}, "user: 0 values, expected 1"),
        ({"user_names": ["mood"], "user": bytes(4)}, r"user_names\[0\] = 'mood' is no feature of a user; allowed are user_i"),
        ({"user_names": ["origin"], "user": bytes(4)}, "'origin' is no feature of a user"),
        ({"user_names": ["user_seen"] * 2, "user": bytes(8)}, "user_names: 2 names, some of them twice"),
        ({"columns": ["user_seen"]}, r"columns\[0\] = 'user_seen' is no feature of a request; allowed are origin"),
        ({"columns": ["origin"], "request": bytes(8), "pins": pack(ids([1]), "<u8")}, "request: 2 values, expected 1"),
        ({"interests": bytes(16), "affinities": bytes(4)}, "affinities: 1 values, expected 2"),
        ({"interests": bytes(80_008)}, "interests: 10001 given; at most 10000"),
        ({"interests": bytes(8), "affinities": pack(np.array([np.nan]), "<f4")}, r"affinities\[0\] = nan: must be a number"),
        ({"now_ms": -1}, "now_ms = -1: Unix milliseconds"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(fields: dict[str, Any], why: str) -> None:
    unused: Any = None  # none is called
    servicer = Scorpion(unused, unused)
    with pytest.raises(InvalidArgument, match=why):
        servicer.Score(pb.ScoreRequest(**fields), None)
