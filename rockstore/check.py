"""How the state of rockstore is checked; see services/state/checked.py."""

from collections.abc import Callable, Iterator
from pathlib import Path

from rockstore import keys, layout, versions
from rockstore.layout import BOARD, INTEREST, PIN, USER
from rockstore.store import TOPICS, RockstoreStore
from services.blob.opening import address_of
from services.core.columns import U64
from services.core.errors import MeshError
from services.state.checked import Checked, Opening, text_of

_KINDS = {"pin": PIN, "board": BOARD, "user": USER, "interest": INTEREST}


def _open(of: Opening) -> RockstoreStore:
    datasets = keys.datasets_of(of.data)
    return RockstoreStore(of.shard, of.own, of.partitions, datasets, of.settings.versions_kept, of.settings.objects_mb)


def _answers(store: RockstoreStore, ids: U64) -> dict[str, str]:
    found = {}
    for name, kind in _KINDS.items():
        known = store.attributes(kind, ids)
        fixed = (known.found, known.owners, known.quality, known.at_ms, known.taken_down)
        for i, id_ in enumerate(ids.tolist()):
            texts = (known.titles.run(i).tobytes(), known.links.run(i).tobytes(), known.interests.run(i))
            found[f"{name} {id_}"] = text_of(*(column[i] for column in fixed), *texts)
    for dataset in store.datasets.described():
        if dataset.problem:
            continue  # its files are gone or damaged, and are looked at by themselves
        rows = store.datasets.rows(dataset.name, ids)
        found[f"dataset {dataset.name}"] = text_of(rows.columns, rows.version)
        for i, id_ in enumerate(ids.tolist()):
            found[f"row {id_} of {dataset.name}"] = text_of(rows.found[i], rows.at_ms[i], rows.values[i])
    return found


CHECKED = Checked("rockstore", layout.FORMAT, layout.FAMILIES, TOPICS, layout.check, _open, _answers)


def damaged_files(data: Path, say: Callable[[str], None]) -> Iterator[tuple[str, str, str]]:
    """(file, what is wrong, what to do) of every version of every dataset."""
    blobs, folder = keys.datasets_of(data), f"{address_of(data)}/{keys.DATASETS}"
    for name, there in keys.loaded(blobs).items():
        for version in there:
            say(f"dataset {name} version {version}")
            try:
                manifest = versions.read_manifest(blobs, name, version)
                for partition, file in manifest.files.items():
                    key = keys.file_key(name, version, partition)
                    versions.check_file(blobs.local(key), file, key)
            except MeshError as error:
                yield (
                    f"{folder}/{keys.manifest_key(name, version)}",
                    str(error),
                    "`feedmesh features load` loads it again, as a new version",
                )
