"""The small files of a data folder: what happens when one is damaged, and what is read of it then."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cli import load
from cli.ledger import Ledger
from cli.schema import SCHEMA
from feedgen.cursor import Cursors, secret_of
from feedgen.shown import Shown
from loaders.dataset import EventDataset, Section
from pixie import build as graphs
from pixie import kernel
from pixie.build import Edges
from pixie.pushing import _remember
from pixie.store import PixieStore, Question
from roadrunner import begun
from scorpion import registry
from scorpion.models import Models
from services.core import external, settings
from services.core.columns import ids
from services.core.errors import MeshError
from services.core.events import Surface
from services.ops import children, learning, phase
from services.ops.children import Exit, Fate
from services.ops.learning import Learning
from services.ops.supervisor import DataFolder
from services.rpc import mesh
from services.rpc.mesh import Address
from tests.damage.cells import BEFORE, NOTHING, RIGHT, THEN, WRONG, Cell, Outcome, happens
from tests.damage.files import damages
from tests.loaders.test_load import Ingest, saves
from tests.scorpion.making import written

IDENTITY = bytes(range(16))
Judge = Callable[[Path], Outcome]


@dataclass(frozen=True)
class Small:
    """Files of one owner, and what comes of a data folder in which one of them is damaged."""

    owner: str
    files: tuple[str, ...]
    judge: Judge


def build(root: Path) -> list[Small]:
    """Fills `older` and `now` in a folder."""
    makers = (_format, _ids, _log, _secret, _run, _learning, _models, _graphs, _loads)
    for name in ("older", "now"):
        (root / name / "run").mkdir(parents=True)
    return [small for make in makers for small in make(root / "older", root / "now")]


def cells(root: Path, small: Small, positions: int) -> Iterator[Cell]:
    """Every damage to every file. One that never changes is swapped with a copy of itself."""
    for name in small.files:
        path, older = root / "now" / name, root / "older" / name
        for damage in damages(path, [older] if older.exists() else [], positions):
            case = root / "case"
            shutil.rmtree(case, ignore_errors=True)
            shutil.copytree(root / "now", case)
            damage.do(case / name)
            yield Cell(small.owner, name, damage.column, damage.detail, happens(partial(small.judge, case)))


def _is(found: Any, right: Any, nothing: Any = None) -> Outcome:
    if found == right:
        return Outcome(RIGHT)
    return Outcome(NOTHING) if nothing is not None and found == nothing else Outcome(WRONG, f"{found}, not {right}")


def _format(older: Path, now: Path) -> Iterator[Small]:
    for data in (older, now):
        DataFolder(data).release()
        (data / "roadrunner").mkdir()

    def judge(data: Path) -> Outcome:
        DataFolder(data).release()
        return Outcome(RIGHT)

    yield Small("data folder", ("FORMAT",), judge)


def _ids(older: Path, now: Path) -> Iterator[Small]:
    def judge(data: Path) -> Outcome:
        external.check_setting(data, "text")
        return Outcome(RIGHT)

    for data in (older, now):
        (data / "IDS").write_text("text\n")
    yield Small("data folder", ("IDS",), judge)


def _log(older: Path, now: Path) -> Iterator[Small]:
    def judge(data: Path) -> Outcome:
        (data / "roadrunner" / "CURRENT").touch()
        begun.check_there(data, data / "roadrunner")
        begun.check_same(data, data / "roadrunner", IDENTITY)
        return Outcome(RIGHT)

    for data in (older, now):
        begun.check_same(data, data / "roadrunner", IDENTITY)
    yield Small("data folder", (begun.NOTE,), judge)


def _secret(older: Path, now: Path) -> Iterator[Small]:
    secret_of(older)
    shown = Shown.of(ids([1, 2, 3]))
    text = Cursors(secret_of(now)).make(7, Surface.HOME, shown)

    def judge(data: Path) -> Outcome:
        found = Cursors(secret_of(data)).read(text, 7, Surface.HOME)
        return _is(found.count, shown.count)

    yield Small("feedgen", ("cursor.secret",), judge)


def _run(older: Path, now: Path) -> Iterator[Small]:
    fates = {"web-0": Fate(3, [Exit(1, "exited with 1", "why")])}
    for data, words, fate in ((older, "a world is made", {"web-0": Fate(1)}), (now, "a world is loaded", fates)):
        made = mesh.resolve(
            settings.load(None, SCHEMA), [Address(service="web", shard=0, shards=1, address=f"h:{len(words)}")]
        )
        mesh.save(made, mesh.mesh_file(data))
        children.save(fate, children.children_file(data))
        with phase.phase(data, words):
            kept = phase.phase_file(data).read_bytes()
        phase.phase_file(data).write_bytes(kept)
    right, old = (mesh.load(mesh.mesh_file(data)) for data in (now, older))

    def of_mesh(data: Path) -> Outcome:
        found = mesh.load(mesh.mesh_file(data))
        return Outcome(THEN) if found == old else _is(found, right)  # it is written anew at each start

    def of_children(data: Path) -> Outcome:
        found = children.load(children.children_file(data))
        return Outcome(THEN) if found == {"web-0": Fate(1)} else _is(found, fates, {})

    def of_phase(data: Path) -> Outcome:
        found = phase.present(data)
        return Outcome(THEN) if found == "a world is made" else _is(found, "a world is loaded", "")

    yield Small("supervisor", ("run/mesh.json",), of_mesh)
    yield Small("supervisor", ("run/children.json",), of_children)
    yield Small("supervisor", ("run/phase",), of_phase)


def _learning(older: Path, now: Path) -> Iterator[Small]:
    states = [Learning(state="served", model=f"ranker@{n}", events=n * 1000, kept=["ranker@1"]) for n in (1, 2)]
    for data, state in zip((older, now), states, strict=True):
        learning.save(state, learning.learning_file(data))

    def judge(data: Path) -> Outcome:
        found = learning.load(learning.learning_file(data))
        return Outcome(THEN) if found == states[0] else _is(found, states[1], Learning())

    yield Small("training", ("training/learning.json",), judge)


def _models(older: Path, now: Path) -> Iterator[Small]:
    for seed in (1, 2):
        written(older.parent / "made" / str(seed), seed, trees=3)
    registry.push(older.parent / "made" / "1", older)
    registry.promote(older, "ranker@1")
    shutil.copytree(older / "models", now / "models")
    registry.push(older.parent / "made" / "2", now)
    registry.promote(now, "ranker@2")
    shutil.copytree(older / "models" / "ranker" / "1", older / "models" / "ranker" / "2")  # an older copy of each file
    rows = np.random.default_rng(1).normal(size=(9, 10)).astype(np.float32)

    def served(data: Path) -> tuple[str, list[float], bool]:
        models = Models(data, lambda: {}, lambda _: None)
        models.refresh()
        found = models.get("")
        return str(found.ref), found.model.score(rows).tolist(), bool(models.state.problems)

    right, first = served(now), served(older)

    def judge(data: Path) -> Outcome:
        found = served(data)
        if found[:2] == first[:2]:
            return Outcome(BEFORE if found[2] else THEN)
        return _is(found, right)

    names = sorted(path.name for path in (now / "models" / "ranker" / "2").iterdir())
    files = ("models/promoted.json", *(f"models/ranker/2/{name}" for name in names))
    yield Small("scorpion", files, judge)


def _graphs(older: Path, now: Path) -> Iterator[Small]:
    chance, versions = np.random.default_rng(3), []
    for seconds in (1, 2):
        edges = Edges(*(ids(chance.integers(1, most, 400)) for most in (60, 25)))
        versions.append(graphs.build(now / "graphs", edges, built_ms=1_760_000_000_000 + 1000 * seconds, durable=False))
    shutil.copytree(now / "graphs", older / "graphs")
    _remember(older / "graphs", versions[:1])
    _remember(now / "graphs", versions[::-1])
    for path in (older / "graphs" / versions[0]).iterdir():  # an older copy of each file
        shutil.copyfile(path, older / "graphs" / versions[1] / path.name)

    def near(data: Path) -> tuple[Any, bool]:
        store = PixieStore(data / "graphs", lambda: 0)
        store.load_current()
        options = kernel.options(boards=True, pins=True)
        found = store.recommend(Question(ids(range(1, 61)), np.ones(60, np.float32), options, 25, 4000, 0.5, 7))
        return (found.version, found.ids.tolist(), found.scores.tolist()), bool(store.problem)

    (right, _), (first, _) = near(now), near(older)

    def judge(data: Path) -> Outcome:
        found, problem = near(data)
        return Outcome(BEFORE if problem else THEN) if found == first else _is(found, right)

    names = sorted(path.name for path in (now / "graphs" / versions[1]).iterdir())
    yield Small("pixie", ("graphs/current", *(f"graphs/{versions[1]}/{name}" for name in names)), judge)


def _loads(older: Path, now: Path) -> Iterator[Small]:
    """A set of which two inputs were loaded whole, and a third, which has all of their rows, stopped midway."""
    first, second = saves(40), saves(120)
    last = EventDataset(
        "small", "cafe", [Section("saves", 20, lambda a, b: saves(120).sections[0].rows(100 + a, 100 + b))], []
    )
    second.fingerprint = "beef"
    _load(now, first, None)
    shutil.copytree(now / "loads", older / "loads")
    _load(now, last, None)
    _load(now, second, 20)

    def missing(data: Path) -> list[int]:
        return [int(position) for position in Ledger(data, second).begin()[0]]

    shutil.copytree(now, older.parent / "looked at")  # a ledger may write
    right = missing(older.parent / "looked at")

    def judge(data: Path) -> Outcome:
        return _is(missing(data), right)

    names = sorted(path.name for path in (now / "loads").iterdir() if not path.name.endswith(".lock"))
    yield Small("loads", tuple(f"loads/{name}" for name in names), judge)


def _load(data: Path, dataset: Any, calls: int | None) -> None:
    """Publish it, or so many batches of it."""
    ingest = Ingest(plan={} if calls is None else {calls: MeshError("no")})
    with suppress(MeshError):
        load.pump(dataset, ingest, Ledger(data, dataset), 2, lambda said: None)
