"""A service is built alike in production and in a replay: the runtime differs, and nothing else."""

import asyncio
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import numpy as np
import pytest

import feedgen.settings
import feedgen.wiring
import prober.settings
import prober.wiring
import roadrunner.settings
import roadrunner.wiring
import web.settings
import web.wiring
from cli.schema import SCHEMA, SERVICES
from learning.training.views import BUILT, Absent, Moment, Views
from services.core import settings
from services.core.metrics import Metrics
from services.log.memory import MemoryLog
from services.ops.process import Process
from services.ops.wiring import AsyncParts, Parts, Runtime
from services.rpc import mesh as meshes
from services.rpc.local import LocalMesh
from services.rpc.mesh import Address, Mesh

NOW = 1_750_000_000_000
#: The parts of a runtime, by the name of the attribute that holds it.
OF_THE_RUNTIME = (
    "looked",
    "shard",
    "mesh",
    "clock",
    "metrics",
    "log",
    "blobs",
    "folder",
    "secret",
    "space",
    "retained",  # when the committer last looked, on the monotonic clock
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
        "roadrunner": {"max_ahead_s": 77, "max_requests": 55, "memtable_mb": 3, "cache_mb": 3},
        "feedgen": {
            "candidates": 555,
            "per_board": 4,
            "rate_fresh": 0.25,
            "own_pins": True,
            "pages_at_once": 3,
            "losers": 9,
        },
        "prober": {"every_s": 3.5},
        "web": {"path_prefix": "/feeds", "max_body_mb": 3, "read_timeout_s": 7.5, "max_connections": 77},
    }
    return settings.validated(given, "here", SCHEMA)


def held(of: Any, path: str = "", depth: int = 7, changed: Collection[str] = CHANGED) -> Iterator[tuple[str, object]]:
    """Every plain value that an object of ours holds, however deep, but for the parts of the runtime."""
    if isinstance(of, PLAIN) or of is None:
        yield path, of
    elif isinstance(of, tuple | list) and depth:
        for i, item in enumerate(of[:20]):
            yield from held(item, f"{path}[{i}]", depth - 1, changed)
    elif isinstance(of, Mapping) and depth:
        for key, item in sorted(of.items(), key=str):
            yield from held(item, f"{path}[{key}]", depth - 1, changed)
    elif isinstance(of, MethodType) and depth:
        yield from held(of.__self__, f"{path}()", depth - 1, changed)
    elif depth and type(of).__module__.split(".")[0] in SCHEMA and not isinstance(of, ModuleType | type):
        names = [*getattr(of, "__dict__", ()), *(n for t in type(of).__mro__ for n in getattr(t, "__slots__", ()))]
        for name in sorted(set(names)):
            bare = name.strip("_")
            if not any(word in bare for word in OF_THE_RUNTIME) and bare not in changed and hasattr(of, name):
                yield from held(getattr(of, name), f"{path}.{bare}", depth - 1, changed)


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
    names = ("roadrunner", "smartfeed", "feedgen", "prober", "web", *BUILT)
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


#: Services that serve from asyncio: how each is built, its section, and values of `another` that must be among those compared.
ON_ASYNCIO: dict[str, tuple[Callable[[Any, Runtime], Any], Any, set[float | str]]] = {
    "roadrunner": (roadrunner.wiring.build, roadrunner.settings.Settings, {77_000}),
    "feedgen": (feedgen.wiring.build, feedgen.settings.Settings, {555, 4, 0.25, 3, 9}),
    "prober": (prober.wiring.build, prober.settings.Settings, {3.5}),
    "web": (web.wiring.build, web.settings.Settings, {7.5, 3 << 20, 77, "/feeds"}),
}


def test_every_service_is_built_by_its_wiring() -> None:
    assert {*BUILT, *ON_ASYNCIO, "smartfeed"} == set(SERVICES)


def built_of(service: str, settings: Any, runtime: Runtime) -> dict[str, object]:
    """The values of a service that serves from asyncio, which is closed again."""

    async def build() -> dict[str, object]:
        parts = ON_ASYNCIO[service][0](settings, runtime)
        if not isinstance(parts, AsyncParts):
            found = dict(held((parts.operations, parts.app, parts.limits, parts.http), "edge", changed=()))
            await parts.close()
            return found
        own = {name: len(getattr(parts, name)) for name in ("start", "drain", "close")}
        found = own | {"scrubber": parts.scrubber is None} | dict(held(parts.servicer, "servicer", changed=()))
        for step in (*parts.start, *parts.drain, *parts.close):
            step()
        return found

    return asyncio.run(build())


@pytest.mark.parametrize("service", ON_ASYNCIO)
def test_a_service_on_asyncio_is_built_alike_on_another_runtime(service: str, tmp_path: Path) -> None:
    _, struct, expected = ON_ASYNCIO[service]
    mesh = of_nobody(tmp_path)
    process = Process(service, 0, 1, "127.0.0.1:1", mesh, Metrics(service, 0))
    data = tmp_path / "replay"
    data.mkdir()
    of_data = {**mesh.settings, "mesh": {**mesh.settings["mesh"], "data": str(data)}}
    servicers = {name: Absent() for name in SERVICES}
    local = LocalMesh(settings=of_data, processes=mesh.processes, servicers=servicers)
    moment = Moment(service, local, lambda: NOW, MemoryLog(5), Metrics(service, 0))
    settings = process.settings(struct)
    in_production = built_of(service, settings, process)
    in_a_replay = built_of(service, settings, moment)
    assert in_a_replay == in_production
    assert expected <= {value for value in in_production.values() if isinstance(value, int | float | str)}
