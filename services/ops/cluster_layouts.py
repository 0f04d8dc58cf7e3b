"""Layouts of the services of several hosts: the cluster file says which there are, and every host does what its own copy says.

So hosts may switch at different moments: both layouts answer alike for as long as both run. Before clients ask a layout, each of
its processes must be ready; before one ends, no host may ask it any more. Each process says which layouts are asked on its host.
"""

import asyncio
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from services.core.durable import replace_durably
from services.core.errors import Conflict, InvalidArgument, NotFound
from services.core.settings import Schema
from services.ops import cluster as clusters
from services.ops import toml_edit
from services.ops.cluster import Beside, Cluster
from services.ops.layouts import why_not_filled
from services.ops.probe import Health, asked_once
from services.ops.toml_edit import Change
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh


class ClusterFile:
    """A cluster file whose layouts change."""

    def __init__(self, path: Path, schema: Schema) -> None:
        """Raises InvalidArgument for a file that can't be, or has a rule in place of hosts."""
        self._path, self._schema = path, schema
        self.cluster = clusters.read(path, schema)
        if self.cluster.rule is not None:
            raise InvalidArgument(f"{path}: has a [rule], by which a service has one layout; allowed are [hosts]")
        self._text = path.read_text()

    def serving(self, service: str) -> Beside:
        """The layout of a service that answers. Raises InvalidArgument for one without shards."""
        if service not in self.cluster.serving:
            raise InvalidArgument(
                f"service = {service!r} has no shards; those that do are {', '.join(self.cluster.serving)}"
            )
        return self.cluster.serving[service]

    def beside(self, service: str) -> Beside:
        """The other one. Raises NotFound where there is none."""
        serving = self.serving(service)
        if service not in self.cluster.beside:
            raise NotFound(
                f"{self._path}: {service} has no layout beside its {serving.shards} shards; `feedmesh layout add {service} "
                f"--shards N --cluster {self._path}` adds one"
            )
        return self.cluster.beside[service]

    def add(self, service: str, shards: int) -> str:
        """Have a layout beside the one that answers; what was changed, empty where it was there."""
        serving, there = self.serving(service), self.cluster.beside.get(service)
        if there is not None and there.shards != shards:
            raise Conflict(
                f"{service} has {there.shards} shards beside its {serving.shards} already; `feedmesh layout retire {service} "
                f"--cluster {self._path}` ends them"
            )
        if there is not None:
            return ""
        name = f"layouts.{service}"
        draft = toml_edit.changed(self._text, {name: {"shards": shards}}, str(self._path))
        port = clusters.parse(draft, self._path, self._schema).beside[service].port
        return self._change({name: {"shards": shards, "port": port}})

    def switch(self, service: str) -> str:
        """Have the two layouts change places; what was changed."""
        serving, beside = self.serving(service), self.beside(service)
        return self._change({service: _numbers(beside), f"layouts.{service}": _numbers(serving)})

    def retire(self, service: str) -> str:
        """Have no other layout; what was changed."""
        self.beside(service)
        return self._change({f"layouts.{service}": None})

    def _change(self, changes: Mapping[str, Change]) -> str:
        """Replace the file atomically by one that is allowed. Raises Conflict when it has changed meanwhile."""
        path = self._path.resolve()
        text = toml_edit.changed(self._text, changes, str(path))
        cluster = clusters.parse(text, path, self._schema)
        if path.read_text() != self._text:
            raise Conflict(f"{path} was changed meanwhile; nothing was changed, try again")
        was = path.stat()
        replace_durably(path, text.encode())
        with suppress(PermissionError):
            os.chown(path, was.st_uid, was.st_gid)
        path.chmod(was.st_mode & 0o7777)
        self.cluster, self._text = cluster, text
        return f"{self._path}: {toml_edit.said(changes)}"


def _numbers(of: Beside) -> dict[str, int]:
    return {"shards": of.shards, "port": of.port}


def mesh_of(cluster: Cluster) -> Mesh:
    """All processes of a cluster file, to be asked from anywhere that reaches them."""
    return meshes.resolve(cluster.sections, list(cluster.processes))


def healths(cluster: Cluster) -> list[Health]:
    """How every process of the file is."""
    return asyncio.run(asked_once(mesh_of(cluster)))


def asked_on(found: Sequence[Health], service: str) -> dict[str, set[int]]:
    """By host the layouts of a service that its processes ask: 0 of one that does not say, none where none answers."""
    by_host: dict[str, set[int]] = {h.of.host: set() for h in found}
    for h in found:
        if h.status is not None:
            by_host[h.of.host].add(h.status.asks.get(service, 0))
    return by_host


def why_not_switched_to(found: Sequence[Health], service: str, shards: int, without: Collection[str]) -> str:
    """Why clients can't ask a layout yet; empty when they can. without: hosts that may be away."""
    away = {host for host, asks in asked_on(found, service).items() if host in without and not asks}
    own = {h.of: why_not_filled(h) for h in found if (h.of.service, h.of.shards) == (service, shards)}
    late = [why for of, why in own.items() if why and of.host not in away]
    missing = set(range(shards)) - {of.shard for of, why in own.items() if not why}
    if late:
        return late[0] + (f", and {len(late) - 1} more" if len(late) > 1 else "")
    return f"no process of shard {min(missing)} is ready" if missing else ""


def why_not_left(found: Sequence[Health], service: str, serving: int, without: Collection[str]) -> str:
    """Why another layout than the one that serves can't end yet; empty when it can."""
    for host, asks in asked_on(found, service).items():
        if not asks and host not in without:
            return f"host {host} gives no answer, so what it asks is not known; if it is away, say so: --without {host}"
        if asks - {serving}:
            return f"host {host} {_asks(asks - {serving})}"
    return ""


def lines(cluster: Cluster, found: Sequence[Health], service: str) -> Iterator[str]:
    """What each host does, and what remains for it."""
    serving, beside = cluster.serving[service].shards, cluster.beside.get(service)
    for host, asks in asked_on(found, service).items():
        if not asks:
            yield f"host {host} gives no answer: once it is there, it does what its file says"
            continue
        does, has_file = _asks(asks - {serving} or asks), asks == {serving}
        own = [h for h in found if h.of.host == host and h.of.service == service and not h.of.asked]
        if beside and own:
            ready = sum(not why_not_filled(h) for h in own)
            does += f"; {ready} of its {len(own)} processes of the {beside.shards} shards beside are ready"
            has_file = has_file and any(h.status is not None for h in own)
        yield f"host {host} {does}{'' if has_file else '; does it have this file?'}"


def _asks(layouts: Collection[int]) -> str:
    if 0 in layouts:
        return "has processes that do not say which layout they ask: `feedmesh roll` restarts those of an older version"
    return f"asks {' and '.join(map(str, sorted(layouts)))} shards"
