"""`feedmesh serve` and `feedmesh describe`: one process of a cluster whose addresses follow from a rule, as in a pod.

Its supervisor is whatever started it, such as a kubelet. It keeps the description of the mesh up to date, from the cluster file
and from DNS, in the same file where a supervisor of ours would; the process reads it there, and so do commands run beside it.
"""

import logging
import os
import re
import runpy
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from cli.console import out, plainly
from cli.schema import BLOBS, SCHEMA
from services.blob.opening import settle
from services.core.errors import InvalidArgument, MeshError
from services.core.external import check_setting
from services.core.installation import user_kernels
from services.ops import cluster as clusters
from services.ops import cluster_rule
from services.ops.cluster_rule import Scaled
from services.ops.supervisor import DataFolder
from services.rpc import mesh as meshes
from services.rpc.membership import Address
from services.rpc.mesh import Mesh

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 5.0  # names in DNS are as old as that, as caches commonly keep them
_ORDINAL = re.compile(r"-(\d+)\Z")

File = Annotated[Path, typer.Option("--cluster", help="a cluster file with a [rule]")]
Zone = Annotated[str, typer.Option("--zone", envvar="FEEDMESH_ZONE", help="the zone of this machine")]
Folder = Annotated[str, typer.Option("--data", help="data folder [default: the file's]")]


class Description:
    """Of the mesh, for one process of it or none: in its file, and up to date once it is followed."""

    def __init__(self, path: Path, own: Address, data: str, scaled: bool) -> None:
        """own: this process; scaled: whether it is one of a scaled service. Raises InvalidArgument for a file that can't be."""
        self._path, self._own, self._data = path, own, data
        self._content, self._cluster = path.read_bytes(), clusters.read(path, SCHEMA)
        self._extra = own if scaled else None
        self._scaled = Scaled(_rule(self._cluster))
        self.mesh = self._described()

    def _described(self) -> Mesh:
        found = self._scaled.look(self._cluster.processes, self._extra)
        return clusters.member(self._cluster, self._own, found, self._data)

    def save(self) -> None:
        """Write it down."""
        meshes.save(self.mesh, meshes.mesh_file(self.mesh.data))

    def follow(self) -> None:
        """Keep it up to date from now on, by a thread."""

        def run() -> None:
            while True:
                threading.Event().wait(LOOK_EVERY_S)
                self.look()

        threading.Thread(target=run, name="description", daemon=True).start()

    def look(self) -> None:
        """Write it down anew if it is another one by now. A file that can't be is named, and changes nothing."""
        try:
            content = self._path.read_bytes()
            if content != self._content:
                self._content, self._cluster = content, clusters.read(self._path, SCHEMA)
            made = self._described()
            if made.processes != self.mesh.processes:
                self.mesh = made
                self.save()
        except (OSError, MeshError) as error:
            logger.warning("%s: the mesh is taken to be as it was: %s", self._path, error)


@plainly
def serve(
    cluster: File,
    service: Annotated[str, typer.Option("--service", help="which service this process is of")],
    zone: Zone,
    ordinal: Annotated[
        int | None,
        typer.Option(
            "--ordinal",
            min=0,
            envvar="FEEDMESH_ORDINAL",
            help="which of its zone it is [default: the host's name ends with it]",
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            "--address", envvar="FEEDMESH_ADDRESS", help="the IP address of this machine, for a scaled service"
        ),
    ] = "",
    data: Folder = "",
) -> None:
    """Run one process of a cluster whose addresses follow from a rule, until a signal stops it. Whatever starts it restarts it.

    Examples:

        feedmesh serve --cluster /etc/feedmesh/cluster.toml --service apiary --zone a --ordinal 0

        FEEDMESH_ZONE=a feedmesh serve --cluster /etc/feedmesh/cluster.toml --service polaris     # on the host polaris-a-1
    """
    own, scaled = _own(clusters.read(cluster, SCHEMA), service, zone, ordinal, address)
    description = Description(cluster, own, data, scaled)
    mesh = description.mesh
    folder = DataFolder(mesh.data)
    try:
        settle(mesh.data, mesh.common.blobs, BLOBS)
        check_setting(mesh.data, mesh.common.ids)
        _bring_kernels()
        description.save()
        description.follow()
        sys.argv = [
            service,
            "--mesh",
            str(meshes.mesh_file(mesh.data)),
            "--shard",
            str(own.shard),
            "--replica",
            str(own.replica),
        ]
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a pod has no default
        runpy.run_module(service, run_name="__main__", alter_sys=True)
    finally:
        folder.release()


@plainly
def describe(cluster: File, zone: Zone, data: Folder = "") -> None:
    """Write down where the processes of such a cluster are, in a data folder, so that the other commands can ask them.

    Example:

        feedmesh describe --cluster /etc/feedmesh/cluster.toml --zone a --data /tmp/mesh && feedmesh status --data /tmp/mesh
    """
    found = clusters.read(cluster, SCHEMA)
    cluster_rule.check_zone(_rule(found), zone)
    beside = Address(service="command", shard=0, shards=1, address="127.0.0.1:0", zone=zone)
    description = Description(cluster, beside, data, scaled=False)
    mesh = description.mesh
    folder = DataFolder(mesh.data)
    try:
        settle(mesh.data, mesh.common.blobs, BLOBS)
        description.save()
    finally:
        folder.release()
    out.print(f"{len(mesh.processes)} processes in {meshes.mesh_file(mesh.data)}", highlight=False)


def _own(cluster: clusters.Cluster, service: str, zone: str, ordinal: int | None, address: str) -> tuple[Address, bool]:
    """This process, and whether it is one of a scaled service."""
    rule = _rule(cluster)
    if service in rule.scaled:
        cluster_rule.check_zone(rule, zone)
        return cluster_rule.own_scaled(cluster.processes, service, zone, address or _own_address()), True
    number = _ordinal(socket.gethostname()) if ordinal is None else ordinal
    place = cluster_rule.own_place(cluster.sections, rule, service, zone, number)
    wanted = (service, place.shard, place.replica)
    return next(of for of in cluster.processes if (of.service, of.shard, of.replica) == wanted), False


def _rule(cluster: clusters.Cluster) -> cluster_rule.Rule:
    if cluster.rule is None:
        raise InvalidArgument(
            f"{cluster.origin}: has hosts and no [rule]: `feedmesh up --cluster` starts the part of a host"
        )
    return cluster.rule


def _ordinal(host: str) -> int:
    found = _ORDINAL.search(host)
    if found is None:
        raise InvalidArgument(
            f"--ordinal: is missing, and this host's name, {host!r}, does not end with one, as apiary-a-0 does"
        )
    return int(found[1])


def _own_address() -> str:
    """The address that this host's name stands for."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError as error:
        raise InvalidArgument(f"--address: is missing, and the name of this host has none: {error}") from None


def _bring_kernels() -> None:
    """Lay the kernels that were compiled with the image where this process keeps its own, which is writable."""
    built = os.environ.get("FEEDMESH_KERNELS")
    for folder in Path(built).iterdir() if built else ():
        own = user_kernels() / folder.name
        if not own.exists():
            draft = own.with_name(f"{own.name}.{os.getpid()}")
            shutil.copytree(folder, draft)
            draft.rename(own)
