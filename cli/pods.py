"""The pods of a planned mesh: how many of each service in each zone, and what each asks of its node."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from cli.plan_lines import FULL, Line
from cli.schema import SERVICE_SETTINGS
from services.core.settings import MeshSettings

SCALED = ("feedgen", "web")  # Deployments, whose number follows the load
LEAST_SCALED = 2  # pods of each in a zone: one may be restarted
PEAK = 4  # times as many pods as planned, at most
GROWTH = 2.0  # disk for each byte of state: compactions write anew before they remove, and data grows
LEAST_CPU, LEAST_DISK_GB = 0.1, 1
EMBEDDED = MeshSettings()
STEP_MB = 64  # memory is asked for in steps


class Pods(NamedTuple):
    """Of one service. replicas: of each shard, in all zones; a_zone: pods in each of its zones, of a scaled service at least;
    most: of a scaled service in a zone, at most; cpu: cores, memory_mb, disk_gb: of each pod.
    """

    service: str
    shards: int
    replicas: int
    zones: int
    a_zone: int
    most: int
    cpu: float
    memory_mb: int
    disk_gb: int

    @property
    def scaled(self) -> bool:
        """Whether their number follows the load."""
        return self.service in SCALED


def pods(lines: Sequence[Line], zones: int, common: MeshSettings = EMBEDDED) -> list[Pods]:
    """The pods of planned lines over so many zones: each shard in each zone, enough of them when one of several is lost.
    common: says where the log is.
    """
    return [_pods(line, zones, common) for line in lines]


def _pods(line: Line, zones: int, common: MeshSettings) -> Pods:
    process, held = line.process, line.memory - line.processes * line.process
    shards = 1 if line.copies else line.processes
    bearing = max(1, zones - 1)  # of the load, when one is lost
    if SERVICE_SETTINGS[line.service].single(common):
        replicas, of_zones, a_zone = 1, 1, 1
        cpu = line.cores
    elif line.service in SCALED:
        of_zones, a_zone = zones, max(LEAST_SCALED, ceil(line.cores / bearing))
        replicas, cpu = zones * a_zone, line.cores / bearing / a_zone
    else:
        of_zones = zones
        a_shard_and_zone = max(1, ceil(line.cores / bearing)) if line.copies else 1
        replicas, a_zone = zones * a_shard_and_zone, shards * a_shard_and_zone
        cpu = line.cores / bearing / a_zone
    memory = process + (held / line.processes)
    disk = line.disk / line.processes * GROWTH
    return Pods(
        service=line.service,
        shards=shards,
        replicas=replicas,
        zones=of_zones,
        a_zone=a_zone,
        most=a_zone * PEAK if line.service in SCALED else a_zone,
        cpu=max(LEAST_CPU, ceil(cpu * 20) / 20),
        memory_mb=ceil(memory / FULL / 1e6 / STEP_MB) * STEP_MB,
        disk_gb=max(LEAST_DISK_GB, ceil(disk / 1e9)) if line.disk else 0,
    )
