"""The outcome of opening and reading a damaged folder."""

import gc
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from roadrunner import begun
from services.core.errors import Damaged, MeshError
from services.state.shard import set_aside
from tests.damage.files import damages, files_of, one_of_each
from tests.damage.world import (
    EVERY_ID,
    VIEWS,
    Past,
    World,
    answers_of_log,
    checked,
    connect,
    follow,
    open_log,
    open_view,
    past_of,
)

RIGHT, REFUSED, REBUILT, NOTICED = "right", "refused", "rebuilt", "views notice"
#: Of small files: what was served before is, and it is said why; the older copy is taken; it is as if there were none.
BEFORE, THEN, NOTHING = "the one before", "as it was then", "nothing"
WRONG, RAW = "WRONG", "RAW ERROR"
GOOD = (RIGHT, REFUSED, REBUILT, NOTICED, BEFORE, THEN, NOTHING)


@dataclass(frozen=True)
class Outcome:
    """What happened, and the particulars."""

    what: str
    why: str = ""


@dataclass(frozen=True)
class Cell:
    """One damage to one file of one store."""

    store: str
    file: str
    column: str
    detail: str
    outcome: Outcome


def differs(found: dict[str, str], expected: dict[str, str]) -> str:
    """The first answer that is not as it must be; empty when all are."""
    for question in sorted(found.keys() | expected.keys()):
        if found.get(question) != expected.get(question):
            return f"{question}: {str(found.get(question))[:120]}, not {str(expected.get(question))[:120]}"
    return ""


def happens(judge: Callable[[], Outcome]) -> Outcome:
    """What comes of it, an error too."""
    try:
        return judge()
    except MeshError as error:
        return Outcome(REFUSED, str(error))
    except Exception as error:
        return Outcome(RAW, repr(error))


def of_view(world: World, data: Path, service: str, starts: int = 2) -> Outcome:
    """Start a view, let it apply what it lacks of the log, and ask it everything. When that ends with damage, its process
    starts again, once: then the folder is set aside.
    """
    store = None
    try:
        store = open_view(data, service)
        connect(store, service, world.past)
        follow(store, service, world.records)
        found = checked(service).answers(store, EVERY_ID)
    except Damaged as error:
        again = starts > 1
        why = str(error)
    except MeshError as error:
        return Outcome(REFUSED, str(error))
    except Exception as error:
        return Outcome(RAW, repr(error))
    else:
        wrong = differs(found, world.answers[service])
        rebuilt = REBUILT if set_aside(data / service / "0of1") else RIGHT
        return Outcome(WRONG, wrong) if wrong else Outcome(rebuilt)
    finally:
        if store is not None:
            _close(store.shard)
    store = None
    gc.collect()  # what was made of the database holds its folder, and would in a process that ends too
    return of_view(world, data, service, starts - 1) if again else Outcome(REFUSED, why)


def of_log(world: World, data: Path) -> Outcome:
    """Start the log, read all of it, and publish again what it has accepted before. One that has lost something may do so
    if every view notices before it reads on.
    """
    log = None
    try:
        log = open_log(data)
        past = past_of(log)
        found = answers_of_log(log, world.accepted)
    except MeshError as error:
        return Outcome(REFUSED, str(error))
    except Exception as error:
        return Outcome(RAW, repr(error))
    finally:
        if log is not None:
            _close(log)
    wrong = differs(found, world.answers["roadrunner"])
    if wrong and past != world.past:
        concerned = [service for service in VIEWS if _has_lost(world, found, service)]
        unaware = [service for service in concerned if not _notices(world, data, service, past)]
        return Outcome(WRONG, f"not noticed by {', '.join(unaware)}: {wrong}") if unaware else Outcome(NOTICED, wrong)
    return Outcome(WRONG, wrong) if wrong else Outcome(RIGHT)


def _has_lost(world: World, found: dict[str, str], service: str) -> bool:
    """Whether records that the view has applied are gone, or are others."""
    begins = tuple(f"record {int(topic)} " for topic in checked(service).topics)
    held = world.answers["roadrunner"]
    return any(found.get(question) != held[question] for question in held if question.startswith(begins))


def _notices(world: World, data: Path, service: str, past: Past) -> bool:
    """Whether a view that was well refuses to read on in this log."""
    shutil.copytree(world.now / service, data / service)
    store = open_view(data, service)
    try:
        connect(store, service, past)
    except MeshError:
        return True
    finally:
        _close(store.shard)
    return False


def _close(opened: object) -> None:
    try:
        opened.close()  # type: ignore[attr-defined]
    except MeshError:
        pass


def cells(
    world: World, case: Path, store: str, positions: int, every_file: bool = True, every_damage: bool = True
) -> Iterator[Cell]:
    """Every damage to every file of one store, or one of each column, or to the newest file of each kind."""
    start: Callable[[Path], Outcome]
    start = (lambda data: of_view(world, data, store)) if store in VIEWS else (lambda data: of_log(world, data))
    folder, older = world.now / store / "0of1", world.older / store / "0of1"
    before = files_of(world.open / store / "0of1") | files_of(older)  # a folder that is closed has no WAL
    for kind, paths in files_of(folder).items():
        for path in paths if every_file else paths[-1:]:
            known = before.get(kind, [path])
            unlike = [o for o in known if o.read_bytes() != path.read_bytes()] or known[:1]
            found = damages(path, unlike, positions)
            for damage in found if every_damage else one_of_each(found, f"{store} {kind}"):
                data = _copied(world, case, store)
                damage.do(data / store / "0of1" / path.name)
                yield Cell(store, kind, damage.column, f"{path.name} {damage.detail}", start(data))
    data = _copied(world, case, store)
    shutil.rmtree(data / store)
    (data / store).mkdir()
    yield Cell(store, "whole folder", "deleted", "", start(data))
    data = _copied(world, case, store)
    shutil.rmtree(data / store)
    shutil.copytree(world.older / store, data / store)
    yield Cell(store, "whole folder", "older copy", "", start(data))


def of_datasets(world: World, data: Path) -> Outcome:
    """Build rockstore anew: it takes a version of a dataset, or says why not."""
    store = open_view(data, "rockstore")
    try:
        follow(store, "rockstore", world.records)
        if any(dataset.problem for dataset in store.datasets.described()):
            return Outcome(REFUSED)
        wrong = differs(checked("rockstore").answers(store, EVERY_ID), world.answers["rockstore"])
        return Outcome(WRONG, wrong) if wrong else Outcome(RIGHT)
    finally:
        _close(store.shard)


def dataset_cells(world: World, case: Path, positions: int) -> Iterator[Cell]:
    """Every damage to every file of a dataset, which is written once: an older copy of one is itself."""
    for path in sorted((world.now / "datasets").rglob("*.*")):
        name = path.relative_to(world.now)
        for damage in damages(path, [path], positions):
            shutil.rmtree(case, ignore_errors=True)
            data = case / secrets.token_hex(4)
            shutil.copytree(world.now / "datasets", data / "datasets")
            damage.do(data / name)
            yield Cell(
                "rockstore",
                str(name),
                damage.column,
                damage.detail,
                happens(partial(of_datasets, world, data)),
            )


def _copied(world: World, case: Path, store: str) -> Path:
    """A data folder of this store, and the datasets. A new one: what failed to open may still be at work in the last one."""
    shutil.rmtree(case, ignore_errors=True)
    case = case / secrets.token_hex(4)
    shutil.copytree(world.now / store, case / store)
    shutil.copyfile(world.now / begun.NOTE, case / begun.NOTE)
    (case / "datasets").symlink_to(world.now / "datasets")
    return case


def table(found: list[Cell]) -> str:
    """Stores and files by damage: what happened, and how often."""
    columns = list(dict.fromkeys(cell.column for cell in found))
    by: dict[tuple[str, str, str], Counter[str]] = {}
    for cell in found:
        by.setdefault((cell.store, cell.file, cell.column), Counter())[cell.outcome.what] += 1
    rows = list(dict.fromkeys((cell.store, cell.file) for cell in found))
    lines = [("store", "file", *columns)]
    for row in rows:
        cells_ = [by.get((*row, column), Counter()) for column in columns]
        lines.append((*row, *(", ".join(f"{what} {n}" for what, n in sorted(c.items())) or "-" for c in cells_)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
