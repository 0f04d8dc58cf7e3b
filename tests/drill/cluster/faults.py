"""The faults of the drill: each begins, lasts, ends, and says what may come of it."""

import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from services.rpc.mesh import Address
from tests.drill.cluster.brokers import Brokers
from tests.drill.cluster.hosts import Host
from tests.drill.cluster.parts import VIEWS, Parts
from tests.drill.cluster.table import Span
from tests.seaweed import Seaweed

PAGE_SERVICES = (*VIEWS, "scorpion", "pixie")
PULSE_S, AWAKE_S = 0.5, 0.01
SLOWED = "polaris"
END_S = 15.0
NOTICED_S = 3.0  # a machine that is gone is noticed by then (docs/decisions/0067)


@dataclass
class Ground:
    """What faults are done to. choose: of victims where a fault has several."""

    parts: Parts
    brokers: Brokers
    store: Seaweed
    choose: random.Random
    done: list[str] = field(default_factory=list)  # what exactly was done
    healthy: list[Span] = field(default_factory=list)  # when nothing was broken
    _ending: list[Callable[[], None]] = field(default_factory=list)

    @property
    def zone(self) -> Host:
        """The host that is lost: not that of the only roadrunner."""
        return self.parts.host("b")

    def later(self, end: Callable[[], None]) -> None:
        """Have this done when the fault ends."""
        self._ending.append(end)

    def heal(self) -> None:
        """End the fault; a second time it does nothing."""
        while self._ending:
            self._ending.pop()()


@dataclass(frozen=True)
class Fault:
    """lasts_s: from its beginning to its end; recovers_s: the bound of the last bad page; writes_s: that of the time without an
    acknowledged publish, 0: none; slows: how many times the healthy P99 is allowed of what is due once it may be noticed;
    none: it is not bounded.
    """

    name: str
    what: str
    begin: Callable[[Ground], None]
    lasts_s: float = 15.0
    recovers_s: float = 5.0
    writes_s: float = 0.0
    slows: float | None = None
    noticed_s: float = 0.0


def _kill(service: str) -> Callable[[Ground], None]:
    def begin(ground: Ground) -> None:
        name = service or ground.choose.choice(PAGE_SERVICES)
        of = ground.choose.choice([of for of in ground.parts.mesh.processes if of.service == name])
        ground.parts.signal(of, signal.SIGKILL)
        ground.done.append(f"{of.name} on {of.host} was killed")

    return begin


def _stop(ground: Ground) -> None:
    of = ground.choose.choice(ground.parts.on(ground.zone.name, ground.choose.choice(PAGE_SERVICES)))
    pid = ground.parts.signal(of, signal.SIGSTOP)
    ground.later(lambda: _quietly(pid, signal.SIGCONT))
    ground.done.append(f"{of.name} on {of.host} was stopped")


def _slow(ground: Ground) -> None:
    """It answers only at the end of each pulse."""
    of = _asked(ground)
    pid, ended = ground.parts.pid(of), threading.Event()

    def pulse() -> None:
        while not ended.is_set():
            _quietly(pid, signal.SIGSTOP)
            ended.wait(PULSE_S)
            _quietly(pid, signal.SIGCONT)
            ended.wait(AWAKE_S)

    thread = threading.Thread(target=pulse, daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join(END_S)

    ground.later(end)
    ground.done.append(f"{of.name} on {of.host} ran for {AWAKE_S * 1000:.0f} ms after each {PULSE_S:g} s")


def _asked(ground: Ground) -> Address:
    """A process of SLOWED on the host that is lost, of the layout that clients ask."""
    return ground.choose.choice([of for of in ground.parts.on(ground.zone.name, SLOWED) if of.asked])


def _quietly(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _unplug(ground: Ground) -> None:
    ground.zone.unplug()
    ground.later(ground.zone.plug)


def _black_hole(ground: Ground) -> None:
    ground.later(ground.zone.heal)
    ground.zone.drop()


def _loss(ground: Ground) -> None:
    ground.later(ground.zone.heal)
    ground.zone.drop(0.1)


def _brokers(*hosts: str) -> Callable[[Ground], None]:
    def begin(ground: Ground) -> None:
        for host in hosts:
            broker = ground.brokers.of(host)
            ground.later(broker.start)
            broker.kill()

    return begin


def _store(ground: Ground) -> None:
    ground.later(ground.store.thaw)
    ground.store.freeze()


def _disk(ground: Ground) -> None:
    """The broker of that host ends when it can't write, and is started again as a machine's service would be."""
    broker = ground.brokers.of(ground.zone.name)

    def end() -> None:
        ground.zone.empty()
        if not broker.runs:
            ground.done.append(f"the broker of host {ground.zone.name} had ended")
            broker.start()

    ground.later(end)
    ground.zone.fill()


def _corrupt(ground: Ground) -> None:
    """Flip bits in the middle of the largest file of a view, and have it opened again."""
    of = _asked(ground)
    folder = ground.zone.data / of.service / of.folder
    files = [*folder.rglob("*.sst")] or [*folder.rglob("*.log")]
    victim = max(files, key=lambda file: file.stat().st_size)
    ground.parts.signal(of, signal.SIGKILL)
    with victim.open("r+b") as file:
        at = victim.stat().st_size // 2
        file.seek(at)
        held = file.read(64)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in held))
    ground.done.append(f"64 bytes of {victim.name}, {victim.stat().st_size} bytes, of {of.name} on {of.host}")


def _roll(ground: Ground) -> None:
    said = ground.parts.run("roll", "--cluster", ground.parts.file, within_s=900)
    ground.done.append(said.strip()[-200:])


FAULTS = (
    Fault("kill view", "kill -9 of a process that pages are made of", _kill(""), 5, slows=2),
    Fault("kill feedgen", "kill -9 of one feedgen", _kill("feedgen"), 5),
    Fault("kill web", "kill -9 of one web", _kill("web"), 5),
    Fault("kill roadrunner", "kill -9 of one roadrunner", _kill("roadrunner"), 5, writes_s=10),
    Fault("stop", "SIGSTOP of a process that pages are made of, for 20 s", _stop, 20, slows=2, noticed_s=NOTICED_S),
    Fault(
        "link down",
        "the cable of host b is unplugged: a replica of each service and a broker",
        _unplug,
        30,
        10,
        10,
        2,
        NOTICED_S,
    ),
    Fault("black hole", "all packets of host b are dropped without a reset", _black_hole, 30, 10, 10, 2, NOTICED_S),
    Fault("slow", f"one replica of {SLOWED} answers only every half second", _slow, 30, slows=1.5, noticed_s=NOTICED_S),
    Fault("loss", "10 % of the packets of host b are lost, each way", _loss, 15, writes_s=10),
    Fault("broker", "kill -9 of one of three brokers", _brokers("c"), 15, writes_s=10),
    Fault("two brokers", "kill -9 of two of three brokers: writes stop, reads go on", _brokers("b", "c"), 15),
    Fault("store", "the object store answers nothing", _store, 15, writes_s=10),
    Fault("disk full", "the disk of host b is full: views and a broker", _disk, 15, writes_s=10),
    Fault("corrupt", f"bits are flipped in a file of one replica of {SLOWED}, which is killed", _corrupt, 5),
    Fault("roll", "a rolling restart of every process", _roll, 0, writes_s=10),
)


#: Faults that are not made, and why.
LEFT_OUT = {
    "clock": "a clock that jumps by an hour: libfaketime 0.9.10 makes the sleep of Python fail (clock_nanosleep: EINVAL), the "
    "kernel's time namespaces have no wall clock, and the machine's own clock is everybody's",
}
