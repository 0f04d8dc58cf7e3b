"""How the registry of models is checked."""

from collections.abc import Callable, Iterator
from pathlib import Path

from scorpion import keys, layout, registry
from services.blob.opening import address_of, open_blobs
from services.core.errors import MeshError

_AGAIN = "train or push the model again, as a new version; until then the model promoted before serves"


def damaged_files(data: Path, say: Callable[[str], None]) -> Iterator[tuple[str, str, str]]:
    """(file, what is wrong, what to do) of every model in the registry, and of what says which of them is served."""
    if not open_blobs(data).names(keys.MODELS):
        return
    say("models")
    try:
        said = registry.promoted(data)
        for text in {said.promoted, *said.before} - {""}:
            registry.find(data, text)
    except MeshError as error:
        todo = "remove it, and `feedmesh model promote NAME@VERSION` writes it anew"
        yield f"{address_of(data)}/{keys.PROMOTED}", str(error), todo
    for ref in registry.models(data):
        try:
            registry.check(registry.folder_of(data, ref), None)
        except MeshError as error:
            yield f"{address_of(data)}/{keys.version_key(*ref)}/{layout.MANIFEST}", f"{ref}: {error}", _AGAIN
