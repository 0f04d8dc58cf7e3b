"""`feedmesh snapshot`: the snapshots of views in the store of blobs."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from cli.console import AsJson, Config, Data, data_of, existing, hint, out, plainly, sections_of
from cli.progress import progress
from cli.schema import SERVICE_SETTINGS
from services.blob.opening import open_blobs
from services.core.clock import wall_clock
from services.core.durable import rename_durably
from services.core.errors import Damaged, InvalidArgument, NotFound
from services.core.settings import ShardSettings
from services.ops import layouts
from services.ops.supervisor import DataFolder
from services.rpc.membership import Address
from services.state import restore as restoring
from services.state.manifest import MANIFESTS, Manifest, Snapshots, all_of
from services.state.pruning import GRACE_S
from services.state.pruning import prune as prune_one
from services.state.snapshot import problem

VIEWS = tuple(name for name, struct in SERVICE_SETTINGS.items() if issubclass(struct, ShardSettings))

snapshot = typer.Typer(
    help="Snapshots of views: list, verify, restore, prune. A mesh takes them by itself: `snapshot_every_s`.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Service = Annotated[str, typer.Option("--service", help=f"of this view alone: {', '.join(VIEWS)}")]
Id = Annotated[str, typer.Option("--id", help="this snapshot alone; `list` shows ids")]


@snapshot.command("list")
@plainly
def list_(service: Service = "", as_json: AsJson = False, config: Config = None, data: Data = None) -> None:
    """Show every snapshot: its age, how far it has applied the log, its files and bytes.

    Examples:

        feedmesh snapshot list

        feedmesh snapshot list --service polaris --json
    """
    wrong: list[dict[str, str]] = []
    found = list(_chosen(existing(data_of(config, data)), service, "", wrong))
    for finding in wrong:
        hint(f"{finding['shard']} {finding['id']}: {finding['what']}")
    if as_json:
        out.print_json(data=[_record(*one) for one in found])
        return
    table = Table(box=None, header_style="bold")
    for name in ("shard", "id", "taken", "log"):
        table.add_column(name, no_wrap=True)
    for name in ("events", "files", "MB"):
        table.add_column(name, justify="right")
    for of, id_, manifest in found:
        taken = datetime.fromtimestamp(manifest.taken_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        figures = f"{manifest.events:,}", str(len(manifest.files)), f"{manifest.size / 1e6:,.1f}"
        table.add_row(of.name, id_, taken, manifest.log[:8], *figures)
    out.print(table if found else "there are no snapshots")


@snapshot.command()
@plainly
def verify(
    service: Service = "",
    id_: Id = "",
    remove: Annotated[bool, typer.Option("--remove", help="remove the snapshots that are damaged")] = False,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Read every file of the snapshots and compare it with its digest. Exit code 1 when one is damaged or missing.

    Later snapshots name files of those before them: once those that are damaged are removed, the next one writes them anew.

    Examples:

        feedmesh snapshot verify

        feedmesh snapshot verify --remove

        feedmesh snapshot verify --service apiary --id 1764500000000-0a1b2c3d
    """
    folder = existing(data_of(config, data))
    found = _verified(folder, service, id_)
    for finding in found.damaged if remove else ():
        for of in _shards(folder, service):
            if of.name == finding["shard"]:
                of.blobs.delete(f"{MANIFESTS}/{finding['id']}")
    if as_json:
        out.print_json(data={"snapshots": found.snapshots, "files": found.files, "damaged": found.damaged})
    else:
        for finding in found.damaged:
            out.print(Text(f"{finding['shard']} {finding['id']}: {finding['what']}", "red"), soft_wrap=True)
        wrong = f"{len(found.damaged)} damaged" if found.damaged else "nothing damaged"
        out.print(f"{found.snapshots} snapshots, {found.files} files: {wrong}", highlight=False)
    if found.damaged:
        raise typer.Exit(1)


class Verified(NamedTuple):
    """How much was read, and what of it is damaged: shard, id, what."""

    snapshots: int
    files: int
    damaged: list[dict[str, str]]


def _verified(folder: Path, service: str, id_: str) -> Verified:
    """Read each file once, however many snapshots name it."""
    count, known, wrong = 0, dict[tuple[str, str], str](), list[dict[str, str]]()
    (folder / "run").mkdir(exist_ok=True)
    with progress() as say, tempfile.TemporaryDirectory(prefix="verify-", dir=folder / "run") as scratch:
        for of, one, manifest in _chosen(folder, service, id_, wrong):
            say(f"{of.name} {one}", 0, 0)
            for name, file in manifest.files.items():
                at = (of.name, file.at)
                if at not in known:
                    known[at] = problem(of, name, file, Path(scratch) / "file")
                if known[at]:
                    wrong.append({"shard": of.name, "id": one, "what": known[at]})
            count += 1
    return Verified(count, len(known), wrong)


@snapshot.command()
@plainly
def restore(
    service: Annotated[str, typer.Argument(help=f"the view: {', '.join(VIEWS)}")],
    shard: Annotated[int, typer.Option(min=0, help="which shard of it")] = 0,
    shards: Annotated[int | None, typer.Option(min=1, help="of how many [default: as the mesh has]")] = None,
    replica: Annotated[int, typer.Option(min=0, help="which replica of the shard")] = 0,
    id_: Annotated[str, typer.Option("--id", help="the snapshot [default: the newest that is whole]")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="put what is there aside")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Fill the folder of a view from a snapshot, while the mesh is stopped. It follows the log from there when it starts.

    A view that starts with an empty folder does this by itself, with the newest snapshot. The snapshot's log is compared with the
    one that is there when the mesh starts.

    Examples:

        feedmesh snapshot restore polaris

        feedmesh snapshot restore counters --shard 1 --id 1764500000000-0a1b2c3d --replace
    """
    _check_view(service)
    sections = sections_of(config, data)
    folder = existing(Path(sections["mesh"].data))
    for note in layouts.settle(sections, layouts.load(folder)):
        hint(note)
    shards = shards or sections[service].shards
    if shard >= shards:
        raise InvalidArgument(f"--shard {shard}: {service} has shards 0 to {shards - 1}")
    held = DataFolder(folder)
    try:
        of = Snapshots(open_blobs(folder), service, shard, shards)
        into = Address(service=service, shard=shard, shards=shards, replica=replica, address="").folder
        found = _restored(of, folder / service / into, id_, replace, _form(service, sections["mesh"].partitions))
    finally:
        held.release()
    out.print(f"{of.name}: filled from snapshot {found}", highlight=False)


def _form(service: str, partitions: int) -> str:
    """The format of a view as its process writes it."""
    from cli.checking import VIEWS as CHECKED

    return f"{CHECKED[service].form}, {partitions} partitions"


def _restored(of: Snapshots, folder: Path, id_: str, replace: bool, form: str) -> str:
    """The id of the snapshot from which a folder was filled."""
    if folder.is_dir() and any(folder.iterdir()) and not replace:
        raise InvalidArgument(f"{folder}: is not empty; --replace puts it aside")
    ids = [id_] if id_ else of.ids()
    draft = restoring.draft_of(folder)
    for one in ids:
        try:
            manifest = of.manifest(one)
            if why := restoring.why_not(manifest, form, None):
                raise Damaged(f"{of.name}: snapshot {one} {why}")
            restoring.fill(of, manifest, draft)
        except (Damaged, NotFound) as error:
            shutil.rmtree(draft, ignore_errors=True)
            if one == ids[-1]:
                raise
            out.print(Text(f"{error}; an older one is taken", "yellow"), soft_wrap=True)
            draft = restoring.draft_of(folder)
            continue
        if folder.is_dir() and any(folder.iterdir()):
            aside = folder.with_name(f"{folder.name}.replaced-{wall_clock()}")
            rename_durably(folder, aside)
            out.print(f"what was there is {aside}; remove it when you like", highlight=False, soft_wrap=True)
        restoring.finish(draft, folder, [(of.name, one)])
        return one
    shutil.rmtree(draft, ignore_errors=True)
    raise NotFound(f"{of.name}: there are no snapshots; `feedmesh snapshot list` shows them all")


@snapshot.command()
@plainly
def prune(
    keep: Annotated[int, typer.Option(help="snapshots of each shard that stay, the newest: at least 2")] = 3,
    service: Service = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="remove nothing, show what would go")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Remove old snapshots, and files that no snapshot names. The mesh may run and take snapshots meanwhile.

    A file goes once no snapshot has named it for twelve hours, at one call and at an earlier one: until then it may be part
    of a snapshot that is being taken.

    Examples:

        feedmesh snapshot prune --keep 5

        feedmesh snapshot prune --service rockstore --dry-run
    """
    removed, files, waiting = 0, 0, 0
    for of in _shards(existing(data_of(config, data)), service):
        pruned = prune_one(of, keep, wall_clock(), dry_run)
        removed, files, waiting = (
            removed + len(pruned.snapshots),
            files + len(pruned.files),
            waiting + len(pruned.waiting),
        )
        for id_ in pruned.snapshots:
            out.print(f"{of.name} {id_}", highlight=False)
    would = "would be removed" if dry_run else "removed"
    later = (
        f"; {waiting} more that none names go {GRACE_S / 3600:g} hours after they were first seen" if waiting else ""
    )
    out.print(f"{removed} snapshots and {files} files {would}{later}", highlight=False, soft_wrap=True)


def _check_view(service: str) -> None:
    if service not in VIEWS:
        raise InvalidArgument(f"service = {service!r} keeps no view; those that do are {', '.join(VIEWS)}")


def _shards(folder: Path, service: str) -> list[Snapshots]:
    if service:
        _check_view(service)
    return all_of(open_blobs(folder), service)


def _chosen(
    folder: Path, service: str, id_: str, wrong: list[dict[str, str]]
) -> Iterator[tuple[Snapshots, str, Manifest]]:
    """The snapshots of a service, or of all, or one of them. wrong: takes those whose manifests can't be read."""
    there = False
    for of in _shards(folder, service):
        for one in of.ids():
            if id_ in ("", one):
                there = True
                try:
                    yield of, one, of.manifest(one)
                except (Damaged, NotFound) as error:
                    wrong.append({"shard": of.name, "id": one, "what": str(error)})
    if id_ and not there:
        raise NotFound(f"there is no snapshot {id_!r}; `feedmesh snapshot list` shows them")


def _record(of: Snapshots, id_: str, manifest: Manifest) -> dict[str, Any]:
    names = ("service", "shard", "shards", "form", "taken_ms", "log", "epoch")
    positions = [{"topic": at.topic, "partition": at.partition, "next": at.next} for at in manifest.positions]
    figures = {"events": manifest.events, "files": len(manifest.files), "bytes": manifest.size}
    return {"id": id_} | {name: getattr(manifest, name) for name in names} | figures | {"positions": positions}
