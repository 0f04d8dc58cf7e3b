"""Tables of a database as one chunk of records changes them: read through, kept in memory until all of it is written."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

Get = Callable[[list[bytes]], list[bytes | None]]


class Tables(Protocol):
    """Column families that are read by key: those of a database, or a database's as a chunk changes them."""

    def family(self, name: str) -> Any:
        """A column family, for reads."""
        ...

    def handle(self, name: str) -> Any:
        """A column family as a write names it."""
        ...


class Table:
    """One column family; as the aggregator's `Values`."""

    def __init__(self, get: Get, keys: Callable[[], Iterable[bytes]] = tuple) -> None:
        """keys: those that are stored; for a table whose user asks whether there are any."""
        self._get, self.keys = get, keys
        self.changed: dict[bytes, bytes] = {}
        self.forgotten: list[tuple[bytes, bytes]] = []

    def get(self, keys: list[bytes]) -> list[bytes | None]:
        """The value of each key, changed or not."""
        stored = self._get(keys)
        if not self.changed:
            return stored
        return [self.changed.get(key, value) for key, value in zip(keys, stored, strict=True)]

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Change values; an empty one is none."""
        self.changed.update(values)

    def forget(self, start: bytes, stop: bytes) -> None:
        """Keys from start to before stop are never asked for again."""
        self.forgotten.append((start, stop))


class Staged:
    """Several, of one database; `put` as a write batch has it."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._tables: dict[str, Table] = {}

    def family(self, name: str) -> Table:
        """The table of a column family."""
        if name not in self._tables:
            family = self._database.family(name)
            self._tables[name] = Table(family.get, family.keys)
        return self._tables[name]

    def handle(self, name: str) -> str:
        """As a write names it."""
        return name

    def put(self, key: bytes, value: bytes, handle: str) -> None:
        """Change a value."""
        self.family(handle).put({key: value})

    def write(self, batch: Any) -> None:
        """Put all changes into a write batch of the database."""
        for name, table in self._tables.items():
            handle = self._database.handle(name)
            for start, stop in table.forgotten:
                batch.delete_range(start, stop, handle)
            for key, value in table.changed.items():
                if value:
                    batch.put(key, value, handle)
                else:
                    batch.delete(key, handle)
