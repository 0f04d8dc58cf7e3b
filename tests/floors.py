"""Which folder may import which: a floor imports only floors below it (docs/architecture.md)."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

#: From the ground up. Folders of one floor know each other's `client` at most.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("protos",),
    ("services.core",),
    ("services.kernels",),
    ("services.rpc",),
    ("services.blob",),
    ("services.log",),
    ("services.state",),
    ("services.ops",),
    ("features", "loaders"),
    ("roadrunner",),
    ("apiary", "polaris", "aperture", "realpin", "counters", "rockstore", "smartfeed", "pixie", "scorpion"),
    ("feedgen",),
    ("web", "prober", "learning"),
    ("cli", "bench", "tests"),
)
FLOOR = {folder: number for number, floor in enumerate(FLOORS) for folder in floor}
TOP = FLOORS[-1]


def imports(text: str) -> Iterator[tuple[int, str]]:
    """(line, full name) of all that a module imports, wherever in it: at its top, inside functions, for types alone."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def folder_of(name: str) -> str:
    """The folder of the floors that a dotted name lies in, or ""."""
    parts = name.split(".")
    wanted = ".".join(parts[:2]) if parts[0] == "services" else parts[0]
    return wanted if wanted in FLOOR else ""


def edges(files: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(folder, folder that it imports, where) over these files, texts by path. Of the top floor all may import all."""
    for path, text in files.items():
        own = folder_of(path.removesuffix(".py").replace("/", "."))
        for line, name in imports(text):
            other = folder_of(name)
            if own and other and own != other and own not in TOP:
                yield own, other, f"{path}:{line} imports {name}"


def upward(files: Mapping[str, str]) -> list[str]:
    """Every import of a folder that is not on a floor below, but for another service's client on the same floor."""
    return [
        where
        for own, other, where in edges(files)
        if FLOOR[other] > FLOOR[own] or (FLOOR[other] == FLOOR[own] and f" imports {other}.client" not in where)
    ]


def cycle(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Folders that import each other in a circle; empty when there is none (depth-first search)."""
    graph: dict[str, set[str]] = {}
    for own, other in pairs:
        graph.setdefault(own, set()).add(other)
    done: set[str] = set()

    def visit(folder: str, path: list[str]) -> list[str]:
        if folder in path:
            return [*path[path.index(folder) :], folder]
        if folder in done:
            return []
        found = next((f for other in sorted(graph.get(folder, ())) if (f := visit(other, [*path, folder]))), [])
        done.add(folder)
        return found

    return next((found for folder in sorted(graph) if (found := visit(folder, []))), [])


def read(root: Path) -> dict[str, str]:
    """Every module of the floors below the top, by its path."""
    folders = {folder.split(".")[0] for folder in FLOOR if folder not in TOP}
    return {
        str(path.relative_to(root)): path.read_text()
        for folder in sorted(folders)
        for path in sorted((root / folder).rglob("*.py"))
        if "_pb2" not in path.name
    }
