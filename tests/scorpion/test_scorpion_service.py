"""Scorpion over real calls, with a real rockstore and real counters beneath, on one shard and on two."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from features import catalogue, crosses
from features import pins as pin_features
from features.pins import WINDOWS_MS, creator_marks, first_interests
from protos import scorpion_pb2 as pb
from scorpion import registry
from scorpion.client import Scored, ScorpionClient
from scorpion.settings import Settings
from services.core import context, tokens
from services.core.columns import F32, U64, Ragged, ids, pack
from services.core.errors import InvalidArgument, NotFound, Unavailable
from services.core.events import ENGAGEMENTS, Action, events
from services.rpc.local import LocalMesh
from services.rpc.mesh import Address, Mesh
from services.state.change_feed import ChangeFeed
from tests.kit import asked
from tests.scorpion.making import NAMES, NOW, booster_of, features_of, written
from tests.scorpion.world import CREATED, PARTITIONS, PINS, UNKNOWN, World, counted, running

T = TypeVar("T")
WITH_TASTE = (*NAMES, "taste.x0", "taste.x1", "user_seen")
EVERYONE = np.random.default_rng(3).permutation(np.concatenate([PINS, UNKNOWN]))
INTERESTS, AFFINITIES = ids([3, 5, 100]), np.array([2.0, -1.0, 0.5], np.float32)


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with running(tmp_path, request.param) as made:
        yield made


def serve(world: World, folder: Path, seed: int = 1, names: tuple[str, ...] = NAMES) -> str:
    """Push and promote a model, and have every shard look."""
    written(folder / f"made-{seed}", seed, names)
    ref = registry.push(folder / f"made-{seed}", world.data)
    registry.promote(world.data, str(ref))
    asked(ScorpionClient, world.mesh, lambda client: client.refresh(10))
    return str(ref)


def score(world: World, pins: U64 = EVERYONE, model: str = "", **more: Any) -> Scored:
    given: dict[str, Any] = {"features": True, "now_ms": NOW, "timeout": 10, "request": request(pins), **more}
    user = given.pop("user", {"user_interests": 2.0})
    ask: Callable[[ScorpionClient], Awaitable[Scored]] = lambda client: client.score(  # noqa: E731
        model, user, INTERESTS, AFFINITIES, given.pop("request"), pins, **given
    )
    return asked(ScorpionClient, world.mesh, ask)


def request(pins: U64) -> dict[str, F32]:
    origin = (pins % np.uint64(5)).astype(np.float32)
    return {"origin": origin, "rank_in_source": np.where(pins % 4 == 0, np.nan, 0.3).astype(np.float32)}


def expected_rows(pins: U64, names: tuple[str, ...], user: dict[str, float]) -> F32:
    """The expected input of the model, from the events themselves."""
    counts = np.zeros((len(pins), len(ENGAGEMENTS), len(WINDOWS_MS)), np.float32)
    for record in counted():
        batch = record.batch
        for action, target, at_ms, count in zip(batch.action, batch.target, batch.at_ms, batch.count, strict=True):
            for w, window in enumerate(WINDOWS_MS):
                if window == 0 or at_ms >= since(window):
                    counts[pins == target, ENGAGEMENTS.index(Action(action)), w] += count
    known = pins <= PINS[-1]
    interests = Ragged.of_lists([list(range(1, 1 + pin % 12)) if pin <= 200 else [] for pin in pins.tolist()])
    quality = np.where(known & (pins % 3 > 0), (pins % 7) / 7, np.nan).astype(np.float32)
    at_ms = np.array([CREATED[pin - 1] if pin <= 200 else 0 for pin in pins.tolist()])
    features = pin_features.stored_features(known, quality, at_ms, interests, counts)
    crossed = crosses.columns(INTERESTS, AFFINITIES, first_interests(interests))
    rows = np.full((len(pins), len(names)), np.nan, np.float32)
    for i, name in enumerate(names):
        if name in crossed:
            rows[:, i] = crossed[name]
        elif name in pin_features.NAMES:
            rows[:, i] = pin_features.column(name, features.values, NOW)
        elif name in request(pins):
            rows[:, i] = request(pins)[name]
        elif name.startswith("taste."):
            value = pins.astype(np.float32) / 200 if name == "taste.x0" else -pins.astype(np.float32)
            rows[:, i] = np.where(known & (pins >= 150), value, np.nan)
        elif name in user:
            rows[:, i] = user[name]
    return rows


def since(window: int) -> int:
    """When the first bucket of a window begins: of hours up to 7 days, of days beyond."""
    size = 86_400_000 if window > 7 * 86_400_000 else 3_600_000
    return ((NOW - window) // size + 1) * size


def test_the_entry_point_has_settings() -> None:
    settings = Settings()
    assert (settings.threads, settings.cache_mb, settings.counts_ttl_s) == (12, 64, 60.0)


@pytest.mark.parametrize("names", [NAMES, WITH_TASTE], ids=["pins", "and a dataset"])
def test_scores_are_lightgbms_on_the_same_rows(world: World, tmp_path: Path, names: tuple[str, ...]) -> None:
    ref = serve(world, tmp_path, names=names)
    user = {"user_interests": 2.0}
    booster = booster_of(features_of(names))
    for round_ in range(2):
        found = score(world, user=user)
        assert (found.model, found.lost, found.feature_names) == (ref, [], list(names))
        np.testing.assert_allclose(found.features, expected_rows(EVERYONE, names, user), rtol=2e-3)
        np.testing.assert_array_equal(found.scores, booster.predict(found.features, num_threads=1))
        assert (found.hits, found.misses) == ((0, 202) if round_ == 0 else (202, 0))
    assert found.fingerprint == world.models[0].get("").model.fingerprint


def test_what_the_caller_does_not_state_has_its_default(world: World, tmp_path: Path) -> None:
    serve(world, tmp_path)
    bare = score(world, user={}, request={})
    for name in ("user_interests", "origin", "rank_in_source"):
        assert np.isnan(bare.features[:, bare.feature_names.index(name)]).all()
    np.testing.assert_array_equal(bare.scores, booster_of(features_of(NAMES)).predict(bare.features, num_threads=1))
    quiet = score(world, features=False)
    assert (quiet.features.shape, quiet.feature_names) == ((202, 0), [])
    assert len(quiet.scores) == 202


def test_what_is_known_of_pins_comes_with_their_scores_and_hears_of_takedowns(world: World, tmp_path: Path) -> None:
    serve(world, tmp_path, names=WITH_TASTE)
    assert score(world).attributes is None
    known = score(world, attributes=True).attributes
    assert known is not None
    assert known.first_interests.tolist() == [int(pin <= PINS[-1] and pin % 12 > 0) for pin in EVERYONE]
    assert not known.taken_down.any()
    assert EVERYONE[known.undescribed].tolist() == [pin for pin in EVERYONE.tolist() if pin in UNKNOWN.tolist()]
    assert not known.creators.any()
    world.publish(events(1, action=Action.UPDATE_PIN, pin=[9], user=4_321, at_ms=NOW))
    made = score(world, attributes=True).attributes
    assert made is not None
    assert made.creators.tolist() == np.where(EVERYONE == 9, creator_marks(ids([4_321])), 0).tolist()
    world.publish(events(2, action=Action.TAKEDOWN, pin=[7, 160]))
    for _ in range(2):  # from rockstore, then from the cache
        found = score(world, attributes=True)
        assert found.attributes is not None
        assert set(EVERYONE[found.attributes.taken_down].tolist()) == {7, 160}
        world.clock.ms += 1
    serve(world, tmp_path, seed=2, names=("origin", "user_interests"))
    assert score(world, attributes=True).attributes is None, "this model looks at no pin, so none was looked up"


def test_no_pins_no_scores(world: World, tmp_path: Path) -> None:
    ref = serve(world, tmp_path)
    found = score(world, ids([]))
    assert (found.scores.shape, found.features.shape, found.model) == ((0,), (0, len(NAMES)), ref)


def test_a_model_that_needs_nothing_of_pins_calls_no_service(world: World, tmp_path: Path) -> None:
    serve(world, tmp_path, names=("user_seen", "hour", "origin"))
    found = score(world)
    assert (found.hits, found.misses, len(found.scores)) == (0, 0, 202)


def test_models_by_name(world: World, tmp_path: Path) -> None:
    first, second = serve(world, tmp_path, 1), serve(world, tmp_path, 2)
    assert (first, second) == ("ranker@1", "ranker@2")
    assert [score(world, model=name).model for name in ("", "ranker", "ranker@1", "ranker@2")] == [
        second,
        second,
        first,
        second,
    ]
    assert score(world, model="ranker@1").fingerprint != score(world, model="ranker@2").fingerprint
    with pytest.raises(NotFound, match="model 'ranker@3' is not in the registry; there are ranker@1, ranker@2"):
        score(world, model="ranker@3")


def test_the_registry_is_listed(world: World, tmp_path: Path) -> None:
    serve(world, tmp_path, 1)
    serve(world, tmp_path, 2)
    first, second = asked(ScorpionClient, world.mesh, lambda client: client.models(10))
    assert (str(first.name), first.version, first.promoted) == ("ranker", 1, False)
    assert (second.version, second.promoted, second.loaded, second.problem) == (2, True, True, "")
    assert (second.trees, second.leaves, second.features) == (12, 15, list(NAMES))
    assert second.trained_ms == NOW
    assert second.load_ms > 0
    assert first.fingerprint not in (0, second.fingerprint)


def test_a_model_that_is_refused_leaves_the_one_that_is_served(world: World, tmp_path: Path) -> None:
    ref = serve(world, tmp_path, 1)
    written(tmp_path / "bad", 2, (*NAMES, "taste.x0", "moods.joy"))
    bad = registry.push(tmp_path / "bad", world.data)
    why = "feature moods.joy: rockstore has no dataset 'moods'; it has taste"

    def ask(pushed: registry.Ref) -> str:
        found = asked(ScorpionClient, world.mesh, lambda client: client.refresh(10))
        return next(str(model.problem) for model in found if (model.name, model.version) == pushed)

    with pytest.raises(InvalidArgument, match=f"ranker@2 was not promoted, the running mesh refuses it: {why}"):
        registry.promote(world.data, str(bad), None, ask)
    assert score(world).model == ref
    assert registry.promoted(world.data).promoted == ref
    assert not [model for model in asked(ScorpionClient, world.mesh, lambda c: c.models(10)) if model.problem]


def test_a_promotion_under_load_drops_no_request(world: World, tmp_path: Path) -> None:
    for seed in (1, 2):
        serve(world, tmp_path, seed, NAMES if seed == 1 else WITH_TASTE)
    expected = {f"ranker@{seed}": score(world, model=f"ranker@{seed}").scores for seed in (1, 2)}
    stop, errors, seen = threading.Event(), [], set()

    def hammer() -> None:
        async def ask(client: ScorpionClient) -> None:
            while not stop.is_set():
                found = await client.score(
                    "",
                    {"user_interests": 2.0},
                    INTERESTS,
                    AFFINITIES,
                    request(EVERYONE),
                    EVERYONE,
                    now_ms=NOW,
                    timeout=10,
                )
                np.testing.assert_array_equal(found.scores, expected[found.model])
                seen.add(found.model)

        try:
            asked(ScorpionClient, world.mesh, ask)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(12):
        registry.promote(world.data, f"ranker@{1 + i % 2}")
        asked(ScorpionClient, world.mesh, lambda client: client.refresh(10))
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not errors
    assert seen == {"ranker@1", "ranker@2"}


def test_shards_of_different_models_are_asked_for_one(tmp_path: Path) -> None:
    with running(tmp_path, 2) as world:
        serve(world, tmp_path, 1)
        written(tmp_path / "next", 2)
        registry.push(tmp_path / "next", world.data)
        registry.promote(world.data, "ranker@2")
        world.models[0].refresh()  # the other has not looked yet
        assert [models.get("").ref.version for models in world.models] == [2, 1]
        found = score(world)
        assert found.model == "ranker@2"
        whole = booster_of(features_of(NAMES), 2).predict(found.features, num_threads=1)
        np.testing.assert_array_equal(found.scores, whole)


def test_a_read_with_a_token_sees_the_write(world: World, tmp_path: Path) -> None:
    serve(world, tmp_path)
    at = list(NAMES).index("pin_quality")
    pin = ids([10])
    assert score(world, pin).features[0, at] == np.float32(3 / 7)
    reached = world.publish(events(1, action=Action.UPDATE_PIN, pin=10, quality=1.0, at_ms=NOW))
    with context.serving(10, tokens.encode(reached)):
        assert score(world, pin).features[0, at] == 1
    assert score(world, pin).features[0, at] == 1


def test_a_takedown_drops_the_row(world: World, tmp_path: Path) -> None:
    serve(world, tmp_path)
    before = score(world).misses
    world.publish(events(1, action=Action.TAKEDOWN, pin=10))
    found = score(world)
    assert (before, found.hits, found.misses) == (202, 201, 1)


def test_counts_are_asked_again_after_their_time(world: World, tmp_path: Path) -> None:
    serve(world, tmp_path)
    assert score(world, now_ms=0).hits == 0
    assert score(world, now_ms=0).hits == 202
    world.clock.ms += 60_000
    assert score(world, now_ms=0).hits == 0
    assert sum(loader.expired for loader in world.loaders) == 202
    assert score(world, now_ms=0).hits == 202


@pytest.mark.parametrize("away", ["rockstore", "counters"])
def test_defaults_stand_in_for_a_service_that_is_away(tmp_path: Path, away: str) -> None:
    from scorpion.models import Models
    from scorpion.origin import MeshOrigin
    from scorpion.pin_features import PinFeatureLoader
    from scorpion.service import Scorpion
    from services.rpc.bridge import Bridge

    with running(tmp_path, 1) as world:
        serve(world, tmp_path)
        there = [p for p in world.mesh.processes if p.service != away]
        gone = Address(service=away, shard=0, shards=1, address="127.0.0.1:1")
        bridge = Bridge()
        origin = MeshOrigin(bridge, Mesh(settings=world.mesh.settings, processes=[*there, gone]))
        loader = PinFeatureLoader(origin, ChangeFeed(PARTITIONS), 4 << 20, 60_000)
        models = Models(world.data, origin.known_datasets, loader.widen)
        models.refresh()
        asking = pb.ScoreRequest(pins=pack(EVERYONE, "<u8"), features=True, now_ms=NOW)
        reply = Scorpion(models, loader).Score(asking, None)
        rows = np.frombuffer(reply.features, np.float32).reshape(len(EVERYONE), -1)
        assert list(reply.lost) == [away]
        lost = {"rockstore": ("pin_quality", "pin_age_days"), "counters": ("pin_saves_7d", "pin_save_rate_ever")}
        for name in NAMES:
            if name.startswith("pin_"):
                assert np.isnan(rows[:, list(NAMES).index(name)]).all() == (
                    name in lost[away] or ("impr" in name and away == "counters")
                )
        assert len(reply.scores) == 8 * len(EVERYONE)
        origin.close()
        bridge.close()


def test_it_works_without_a_network(tmp_path: Path) -> None:
    """In a replay all services are in one process, and the time is the replay's."""
    from rockstore.service import Rockstore
    from scorpion.models import Models
    from scorpion.origin import MeshOrigin
    from scorpion.pin_features import PinFeatureLoader
    from scorpion.service import Scorpion
    from services.rpc.bridge import Bridge

    with running(tmp_path, 1) as world:
        serve(world, tmp_path)
        local = LocalMesh(
            settings=world.mesh.settings, processes=[], servicers={"rockstore": Rockstore(world.stores[0])}
        )
        local.servicers["counters"] = _CountersOf(world.mesh)
        bridge = Bridge()
        loader = PinFeatureLoader(MeshOrigin(bridge, local), ChangeFeed(PARTITIONS), 4 << 20, 60_000, world.clock)
        models = Models(world.data, lambda: None, loader.widen)
        models.refresh()
        local.servicers["scorpion"] = Scorpion(models, loader, world.clock)
        found = asked(
            ScorpionClient,
            local,
            lambda client: client.score(
                "", {"user_interests": 2.0}, INTERESTS, AFFINITIES, request(EVERYONE), EVERYONE, now_ms=NOW, timeout=5
            ),
        )
        np.testing.assert_array_equal(found.scores, score(world).scores)
        bridge.close()


class _CountersOf:
    """Counters of a mesh, as if they were here."""

    def __init__(self, mesh: Mesh) -> None:
        import grpc

        from protos.counters_pb2_grpc import CountersStub

        self._stub = CountersStub(grpc.insecure_channel(mesh.of("counters")[0].address))

    def GetCounts(self, request: Any, context: Any) -> Any:
        return self._stub.GetCounts(request)


def test_a_missing_request_column_value_is_allowed(world: World, tmp_path: Path) -> None:
    serve(world, tmp_path)
    column = np.full(len(EVERYONE), np.nan, np.float32)
    assert np.isfinite(score(world, request={"origin": column}).scores).all()


def test_a_shard_that_is_away_is_named() -> None:
    gone = Mesh(
        settings={"mesh": {}}, processes=[Address(service="scorpion", shard=0, shards=1, address="127.0.0.1:1")]
    )
    with pytest.raises(Unavailable, match="scorpion is away"):
        asked(ScorpionClient, gone, lambda client: client.models(2))


def test_what_is_measured(world: World, tmp_path: Path) -> None:
    assert world.servicers[0].gauges()["model_fingerprint"] == 0
    serve(world, tmp_path)
    score(world)
    score(world)
    gauges = [servicer.gauges() for servicer in world.servicers]
    assert sum(g["cache_hits"] for g in gauges) == sum(g["cache_misses"] for g in gauges) == 202
    assert sum(g["cache_rows"] for g in gauges) == 202
    for g, models in zip(gauges, world.models, strict=True):
        assert (g["models_loaded"], g["model_version"]) == (1, 1)
        assert int(g["model_fingerprint"]) == models.get("").model.fingerprint % 2**48
        assert 0 < g["cache_bytes"] < 4 << 20


def test_every_feature_of_the_catalogue_can_be_asked(world: World, tmp_path: Path) -> None:
    names = tuple(catalogue.CATALOGUE)
    serve(world, tmp_path, names=names)
    assert score(world).feature_names == list(names)
