"""Values that no store wrote, under keys that it did: they are refused, or read; no kernel reads outside of its arrays.

The kernels run as Python here, where an index out of bounds is an IndexError; compiled they would read what lies there.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cli.schema import SERVICE_SETTINGS, SERVICES
from counters import layout as counters_layout
from counters.kernel import PAGES
from counters.layout import ACTIONS
from counters.table import CountTable
from counters.windows import runs
from roadrunner import layout as log_layout
from services.core.columns import ids
from services.core.errors import Damaged, MeshError
from services.state.checked import Opening
from services.state.stored import CheckValue
from tests.damage import world
from tests.damage.world import EVERY_ID, NOW_MS, PARTITIONS, VIEWS, World, checked, clock, open_log, open_view, small

_WINDOWS = runs(np.array([0, 86_400_000]), NOW_MS, NOW_MS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world.build(tmp_path_factory.mktemp("world"), 400)


@pytest.fixture(scope="module")
def plainly() -> Iterator[None]:
    """Every kernel is its Python function, those that it calls too."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in (*SERVICES, "services", "features") and module is not None:
                for attribute, value in list(vars(module).items()):
                    if hasattr(value, "py_func"):
                        patch.setattr(module, attribute, value.py_func)
                    elif attribute == "prefetch" and not hasattr(value, "__path__"):
                        patch.setattr(module, attribute, lambda *_: None)
        yield


def mutations(value: bytes, chance: np.random.Generator) -> Iterator[bytes]:
    """Cut, grown, shifted, of a flipped bit, of other bytes."""
    yield from (value[:-1], value[: len(value) // 2], value[1:], value + b"\0", value + value, b"")
    for _ in range(4):
        flipped = bytearray(value or b"\0")
        flipped[int(chance.integers(len(flipped)))] ^= 1 << int(chance.integers(8))
        yield bytes(flipped)
    yield chance.bytes(len(value))
    yield chance.bytes(int(chance.integers(0, 200)))


def asked(service: str, store: Any, made: World) -> None:
    """Every question, and some more of the log."""
    checked(service).answers(store, EVERY_ID[::7])
    mine = [record for record in made.records if record.topic in checked(service).topics]
    store.apply(mine[-3:])


@pytest.mark.parametrize("service", VIEWS)
def test_a_view_refuses_or_reads_any_value(made: World, tmp_path: Path, plainly: None, service: str) -> None:
    shutil.copytree(made.now / service, tmp_path / service)
    store, spec, chance = open_view(tmp_path, service), checked(service), np.random.default_rng(8)
    shard, section, refused = store.shard, small(SERVICE_SETTINGS[service]()), 0
    for family in spec.families:
        entries = list(shard.family(family).items())
        for at in chance.permutation(len(entries))[:4].tolist():
            key, value = entries[at]
            for other in mutations(value, chance):
                put(shard, family, key, other)
                refused += is_refused(service, spec.check, (family, key, other))
                try:
                    opening = Opening(shard, range(PARTITIONS), PARTITIONS, section, tmp_path, clock)
                    asked(service, spec.open(opening), made)
                except MeshError:
                    shard.damage, shard.dead = "", False
            put(shard, family, key, value)
    assert refused > 5
    shard.close()


def is_refused(store: str, check: CheckValue, entry: tuple[str, bytes, bytes]) -> bool:
    """Whether the check of a layout refuses an entry; then it names store, family and key."""
    try:
        check(*entry)
    except Damaged as error:
        said = str(error)
    else:
        return False
    assert said.startswith(f"{store}: {entry[0]}, key {entry[1].hex()}: ")
    return True


def put(shard: Any, family: str, key: bytes, value: bytes) -> None:
    write = shard.batch()
    write.put(key, value, shard.handle(family))
    shard.write(write)


def test_the_log_refuses_or_reads_any_value(made: World, tmp_path: Path, plainly: None) -> None:
    shutil.copytree(made.now / "roadrunner", tmp_path / "roadrunner")
    log, chance, refused = open_log(tmp_path), np.random.default_rng(9), 0
    for family in log_layout.FAMILIES:
        entries = list(log.database.family(family).items())
        for at in chance.permutation(len(entries))[:8].tolist():
            key, value = entries[at]
            for other in mutations(value, chance):
                refused += is_refused("roadrunner", log_layout.check, (family, key, other))
    assert refused > 50
    log.close()


#: A page of two objects, neither of which has a bucket.
EMPTY = (7).to_bytes(8, "little") + (2).to_bytes(4, "little") + bytes(16) + bytes(8) + b"\1\1"


@st.composite
def pages(draw: st.DrawFn) -> bytes:
    """Values of the shape of a page: what they state mostly agrees, kinds and codes are often none that there is."""
    lengths = draw(st.lists(st.integers(0, 9), max_size=6))
    n = len(lengths)
    held = max(0, sum(lengths) + draw(st.sampled_from([0, 0, 0, 0, 1, -1])))
    kinds = draw(st.lists(st.sampled_from([1, 2, 3, 4, 4, 9, 255]), min_size=n, max_size=n))
    numbers = st.integers(0, ACTIONS), st.integers(0, 3), st.integers(0, 9), st.integers(0, 2**32 - 1)
    codes = [
        action << 56 | level << 54 | day << 32 | count
        for action, level, day, count in draw(st.lists(st.tuples(*numbers), min_size=held, max_size=held))
    ]
    columns = (
        (draw(st.lists(st.integers(0, 2**64 - 1), min_size=n, max_size=n)), 8),
        (lengths, 4),
        (kinds, 1),
        (sorted(codes), 8),
    )
    head = (7).to_bytes(8, "little") + n.to_bytes(4, "little")
    return head + b"".join(value.to_bytes(size, "little") for column, size in columns for value in column)


@example(value=EMPTY, number=0)
@given(st.one_of(pages(), st.binary(max_size=200)), st.integers(0, 255))
@settings(max_examples=150)
def test_no_page_leads_a_kernel_of_counters_astray(plainly: None, value: bytes, number: int) -> None:
    """A third of pages like these did: kinds, actions and lengths that no table has room for."""
    table = CountTable()
    try:
        _, page = counters_layout.unpack_page(b"\0\0" + bytes([number]), value)
    except Damaged:
        return
    for at in range(PAGES):  # where its objects belong is looked at by the kernel itself
        try:
            table.load(at, page)
        except ValueError:
            continue
    used(table, page.objects)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=9))
@settings(max_examples=150)
def test_no_increments_lead_a_kernel_of_counters_astray(plainly: None, rows: list[tuple[int, int, int]]) -> None:
    columns = [b"".join(row[i].to_bytes(size, "little") for row in rows) for i, size in ((0, 8), (1, 4), (2, 4))]
    table = CountTable()
    try:
        increments = counters_layout.unpack_increments(b"", b"".join(columns))
    except Damaged:
        return
    table.add(increments, NOW_MS)
    used(table, increments.objects)


def used(table: CountTable, objects: Any) -> None:
    """Everything that is done with what was loaded."""
    kinds, column = np.ones(len(objects), np.uint8), np.arange(ACTIONS)
    sums = np.zeros((len(objects), ACTIONS, 2), np.int64)
    table.sums(ids(objects), kinds, np.arange(len(objects)), column, _WINDOWS, sums)
    table.leading(0, 64, np.zeros((8, 8), np.int64))
    table.page(0)
