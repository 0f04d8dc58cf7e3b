"""A service is built alike in production and in a replay: what differs is the runtime, and nothing else."""

import socket
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cli.schema import SCHEMA
from learning.training.views import BUILT, Views
from services.core import settings
from services.core.metrics import Metrics
from services.ops.process import Process
from services.ops.wiring import Parts
from services.rpc import mesh as meshes
from services.rpc.mesh import Address, Mesh

NOW = 1_750_000_000_000
#: What a runtime brings, by the name of the attribute that holds it.
OF_THE_RUNTIME = (
    "looked",
    "shard",
    "mesh",
    "clock",
    "metrics",
    "log",
    "blobs",
    "folder",
    "path",
    "address",
    "channel",
    "thread",
    "lock",
)
PLAIN = (bool, int, float, str, bytes, Enum, np.generic)
#: The one setting that a replay changes: how old counts may be.
CHANGED = {"ttl_ms", "every_s", "period_s", "age_ms"}


def another() -> settings.Sections:
    """Settings of which none that a service reads has its default."""
    given: dict[str, dict[str, Any]] = {
        "mesh": {"partitions": 5},
        "apiary": {"direct_weight": 3.0, "boards_per_user": 7},
        "polaris": {"quality_coefficient": 4.0, "head_postings": 9, "cap": 77, "lists_mb": 3},
        "aperture": {"recent_keys": 11, "keep_days": 3},
        "counters": {"recent": 55},
        "rockstore": {"versions_kept": 5, "objects_mb": 2},
        "realpin": {"impression_weight": 0.5, "actions_kept": 33, "pins_looked_at": 21, "pins_mb": 2},
        "pixie": {"restart": 0.25, "stop_nodes": 99, "max_steps": 1_000},
        "scorpion": {"cache_mb": 2, "threads": 4},
    }
    return settings.validated(given, "here", SCHEMA)


def held(of: Any, path: str = "", depth: int = 5) -> Iterator[tuple[str, object]]:
    """Every plain value that an object of ours holds, however deep, but for what the runtime brought."""
    if isinstance(of, PLAIN) or of is None:
        yield path, of
    elif isinstance(of, tuple | list) and depth:
        for i, item in enumerate(of[:20]):
            yield from held(item, f"{path}[{i}]", depth - 1)
    elif depth and type(of).__module__.split(".")[0] in SCHEMA and not isinstance(of, ModuleType | type):
        names = [*getattr(of, "__dict__", ()), *(n for t in type(of).__mro__ for n in getattr(t, "__slots__", ()))]
        for name in sorted(set(names)):
            bare = name.strip("_")
            if not any(word in bare for word in OF_THE_RUNTIME) and bare not in CHANGED and hasattr(of, name):
                yield from held(getattr(of, name), f"{path}.{bare}", depth - 1)


def values(parts: Parts) -> dict[str, object]:
    store = parts.main.view if parts.main else None
    own = {"families": tuple(parts.families), "step": parts.step is None, "background": len(parts.background)}
    topics = {"topics": tuple(parts.main.topics) if parts.main else (), "caches": len(parts.caches)}
    return own | topics | dict(held(parts.servicer, "servicer")) | dict(held(store, "store"))


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    views = Views(tmp_path_factory.mktemp("replay"), another(), lambda: NOW)
    yield views
    views.close()


def of_nobody(data: Path) -> Mesh:
    """A mesh of one process a service, none of which runs."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    sections = another()
    sections["mesh"].data = str(data)
    names = ("roadrunner", "smartfeed", *BUILT)
    return meshes.resolve(sections, [Address(service=name, shard=0, shards=1, address=address) for name in names])


@pytest.mark.parametrize("service", BUILT)
def test_a_replay_builds_a_service_as_its_process_does(service: str, replay: Views, tmp_path: Path) -> None:
    build, struct = BUILT[service]
    mesh = of_nobody(tmp_path)
    process = Process(service, 0, 1, "127.0.0.1:1", mesh, Metrics(service, 0))
    parts = build(process.settings(struct), process)
    try:
        found, expected = values(replay.parts[service]), values(parts)
        assert found == expected
        assert sum(isinstance(value, int | float) for value in found.values()) >= 2, "something was compared"
    finally:
        for close in parts.close:
            close()


def test_what_settings_say_is_among_what_is_compared(replay: Views) -> None:
    found = values(replay.parts["polaris"])
    assert {77, 9, 3 << 20} <= {value for value in found.values() if isinstance(value, int)}
    assert 4.0 in found.values()
