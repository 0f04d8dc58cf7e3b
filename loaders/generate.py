"""Writes a demo world as the Parquet files that `parquet.py` reads: the generator's files are the documented format.

Ids are positions plus 1. Every file is in order of date, and its row groups hold about a million rows.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loaders import activity
from loaders.words import board_titles, capital, pin_titles, slug, user_names
from loaders.world import Clock, Spec, World, build
from services.core.columns import Array
from services.core.events import Action, Surface

ROWS = 1_000_000
ID, TIME, WORD = pa.uint64(), pa.timestamp("ms", "UTC"), pa.dictionary(pa.int8(), pa.string())
SCHEMAS = {
    "users": {"user": ID, "name": pa.string(), "at": TIME},
    "interests": {"interest": ID, "name": pa.string(), "at": TIME},
    "boards": {"board": ID, "user": ID, "title": pa.string(), "at": TIME},
    "pins": {
        "pin": ID, "user": ID, "title": pa.string(), "link": pa.string(), "interests": pa.list_(ID),
        "quality": pa.float32(), "at": TIME,
    },
    "follows": {"user": ID, "kind": WORD, "target": ID, "at": TIME},
    "events": {"user": ID, "action": WORD, "pin": ID, "board": ID, "at": TIME, "surface": WORD},
}  # fmt: skip
Progress = Callable[[int, int], None]
ACTIONS = (Action.IMPRESSION, Action.CLOSEUP, Action.CLICK, Action.SAVE, Action.HIDE)
SURFACES = (Surface.HOME, Surface.FOLLOWING, Surface.PICKED, Surface.INTEREST, Surface.SEARCH)


def generate(spec: Spec, out: Path, now_ms: int, progress: Progress = lambda done, total: None) -> dict[str, int]:
    """Write the world of `spec`, as of `now_ms` (Unix ms), into the folder `out`; rows written, by file.

    The same spec and `now_ms` write the same rows. `progress(done, total)` counts rows of pins and saves. Raises
    InvalidArgument for a `now_ms` that is too early, OSError if the folder can't be written.
    """
    clock, world = Clock(now_ms), build(spec)
    out.mkdir(parents=True, exist_ok=True)
    total = spec.pins + spec.saves
    rows = {"users": _users(world, clock, out), "interests": _interests(world, clock, out)}
    rows |= {"boards": _boards(world, clock, out), "follows": _follows(world, clock, out)}
    rows["pins"] = _pins(world, clock, out, lambda done: progress(done, total))
    rows["events"] = _events(world, clock, out, lambda done: progress(spec.pins + done, total))
    progress(total, total)
    return rows


class _File:
    """One of the files, written a row group at a time."""

    def __init__(self, out: Path, name: str):
        self.schema, self.rows = pa.schema(list(SCHEMAS[name].items())), 0
        words = [field.name for field in self.schema if pa.types.is_dictionary(field.type)]
        self._writer = pq.ParquetWriter(out / f"{name}.parquet", self.schema, use_dictionary=words, compression="zstd")

    def write(self, **columns: Any) -> None:
        """One row group."""
        arrays = [_array(columns[field.name], field.type) for field in self.schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.rows += len(arrays[0])

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def _array(values: Any, kind: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pa.Array):
        values = pa.array(values)
    return values if values.type == kind else values.cast(kind)


def _ids(positions: Array) -> Array:
    return positions.astype(np.uint64) + np.uint64(1)


def _words(codes: Array, words: list[str]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(words))


def _pick(rng: np.random.Generator, table: list[list[str]], rows: Array) -> Any:
    """One of the texts of table[row] for each row, evenly."""
    flat = pa.array([text for texts in table for text in texts])
    counts = np.array([len(texts) for texts in table])
    starts = np.cumsum(counts) - counts
    return flat.take(pa.array(starts[rows] + (rng.random(len(rows)) * counts[rows]).astype(np.int64)))


def _users(world: World, clock: Clock, out: Path) -> int:
    rng, names = np.random.default_rng([world.spec.seed, 10]), pa.array(user_names())
    chosen = [rng.permutation(len(names)) for _ in range(-(-world.spec.users // len(names)))]
    taken = names.take(pa.array(np.concatenate(chosen)[: world.spec.users]))
    with _File(out, "users") as file:
        file.write(user=_ids(np.arange(world.spec.users)), name=taken, at=clock.at_ms(world.joined))
    return file.rows


def _interests(world: World, clock: Clock, out: Path) -> int:
    names = [capital(name) for _, name in world.words.interests]
    with _File(out, "interests") as file:
        file.write(interest=_ids(np.arange(len(names))), name=names, at=clock.at_ms(np.zeros(len(names))))
    return file.rows


def _boards(world: World, clock: Clock, out: Path) -> int:
    rng, titles = (
        np.random.default_rng([world.spec.seed, 11]),
        [board_titles(*words) for words in world.words.interests],
    )
    with _File(out, "boards") as file:
        for start in range(0, world.spec.boards, ROWS):
            rows = np.arange(start, min(start + ROWS, world.spec.boards))
            title = _pick(rng, titles, world.about[rows])
            file.write(board=_ids(rows), user=_ids(world.owner[rows]), title=title, at=clock.at_ms(world.opened[rows]))
    return file.rows


def _follows(world: World, clock: Clock, out: Path) -> int:
    rng = np.random.default_rng([world.spec.seed, 2])
    kinds = ["user", "board", "interest"]
    parts = [activity.follow_users(world, rng), activity.follow_boards(world, rng), activity.follow_interests(world)]
    kind = np.repeat(np.arange(3), [len(part[0]) for part in parts])
    user, target, moment = (np.concatenate([part[i] for part in parts]) for i in range(3))
    order = np.argsort(moment, kind="stable")
    with _File(out, "follows") as file:
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            at = clock.at_ms(moment[rows])
            file.write(user=_ids(user[rows]), kind=_words(kind[rows], kinds), target=_ids(target[rows]), at=at)
    return file.rows


def _pins(world: World, clock: Clock, out: Path, progress: Callable[[int], None]) -> int:
    rng, titles = np.random.default_rng([world.spec.seed, 12]), [pin_titles(*words) for words in world.words.interests]
    addresses = pa.array([f"https://example.org/{slug(name)}" for _, name in world.words.interests])
    with _File(out, "pins") as file:
        for start in range(0, world.spec.pins, ROWS):
            rows = np.arange(start, min(start + ROWS, world.spec.pins))
            topic, pin = world.topic[rows], _ids(rows)
            link = pc.binary_join_element_wise(addresses.take(pa.array(topic)), pa.array(pin).cast(pa.string()), "/")
            creator = world.fans.draw(rng, topic.astype(np.int64))
            file.write(
                pin=pin,
                user=_ids(creator),
                title=_pick(rng, titles, topic),
                link=link,
                interests=_topics(world, rng, topic),
                quality=world.quality[rows],
                at=clock.at_ms(world.born[rows]),
            )
            progress(file.rows)
    return file.rows


def _topics(world: World, rng: np.random.Generator, topic: Array) -> Any:
    """Lists of one to three interests: the main one, then others of its theme."""
    others = np.stack([topic, world.words.nearby(rng, topic), world.words.nearby(rng, topic)], axis=1)
    keep = rng.random(others.shape) < (1.0, 0.5, 0.2)
    keep[:, 1] &= others[:, 1] != topic
    keep[:, 2] &= (others[:, 2] != topic) & (others[:, 2] != others[:, 1])
    ends = np.r_[0, np.cumsum(keep.sum(axis=1))]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(_ids(others[keep])))


def _events(world: World, clock: Clock, out: Path, progress: Callable[[int], None]) -> int:
    rng, done = np.random.default_rng([world.spec.seed, 13]), 0
    codes = np.zeros(256, np.int8)
    codes[list(ACTIONS)] = np.arange(len(ACTIONS))
    actions, surfaces = ([word.name.lower() for word in words] for words in (ACTIONS, SURFACES))
    with _File(out, "events") as file:
        for part in activity.by_slice(world, clock, activity.saves(world, clock)):
            board = pa.array((part.board + 1).astype(np.uint64), mask=part.board < 0)
            surface = np.minimum(len(SURFACES) * rng.random(len(part.user)) ** 1.5, len(SURFACES) - 1)
            file.write(
                user=_ids(part.user),
                action=_words(codes[part.action], actions),
                pin=_ids(part.pin),
                board=board,
                at=part.at_ms,
                surface=_words(surface, surfaces),
            )
            done += int((part.action == Action.SAVE).sum())
            progress(done)
    return file.rows
