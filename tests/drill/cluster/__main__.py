"""`make drill-cluster`: three hosts, one a zone, under a steady load; each fault once, then faults at random, then a recount.

    python -m tests.drill.cluster                       # every fault once, then 10 at random
    python -m tests.drill.cluster --rounds 0            # every fault once
    python -m tests.drill.cluster --only "black hole" --only slow --rounds 0
    python -m tests.drill.cluster --resharding          # during each fault a service gets another number of shards
    python -m tests.drill.cluster --list

It takes root, Java and a kernel with network namespaces, makes three namespaces with a disk, a broker and a part of the mesh in
each, and removes all of it at its end, also after Ctrl-C. What was measured goes to bench/results/cluster.json with --save.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from cli.demo import demo
from tests.drill.cluster import hosts as machines
from tests.drill.cluster.afterwards import problems
from tests.drill.cluster.brokers import Brokers
from tests.drill.cluster.client import Client, fit, going
from tests.drill.cluster.faults import FAULTS, LEFT_OUT, Fault, Ground
from tests.drill.cluster.parts import Parts, parts, written
from tests.drill.cluster.resharding import SERVICE
from tests.drill.cluster.results import SAVED, save
from tests.drill.cluster.rounds import one_round
from tests.drill.cluster.table import Round, markdown, shown
from tests.kafka import broker
from tests.seaweed import Seaweed

console = Console(width=200, highlight=False)
BEGAN = time.monotonic()
READERS = 40


def report(line: str) -> None:
    """A line of progress."""
    console.print(f"{time.monotonic() - BEGAN:6.0f} s  {line}", markup=False)


def asked() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.drill.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--rounds", type=int, default=10, help="faults at random after one of each (default 10)")
    parser.add_argument(
        "--only", action="append", choices=names, metavar="FAULT", help="this fault alone; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="name the faults, and what each is")
    parser.add_argument("--seed", type=int, default=1, help="of victims, order and load (default 1)")
    parser.add_argument("--pages", type=float, default=5.0, help="feed requests a second (default 5)")
    parser.add_argument("--events", type=float, default=20.0, help="events a second (default 20)")
    parser.add_argument("--users", type=int, default=300, help="users of the demo world (default 300)")
    parser.add_argument("--roadrunners", type=int, default=1, help="processes of the ingest API (default 1)")
    parser.add_argument(
        "--resharding",
        action="store_true",
        help=f"another number of shards of {SERVICE} is under way during each fault",
    )
    parser.add_argument("--minutes", type=float, default=120.0, help="begin no round later than this (default 120)")
    parser.add_argument("--save", action="store_true", help=f"write {SAVED}")
    return parser.parse_args()


def lacking() -> list[str]:
    """What this machine lacks, with remedies."""
    store = Path(sys.executable).parent / "weed"
    found = machines.missing() + [line for line in (broker.missing(),) if line]
    return found + ([] if store.exists() else ["SeaweedFS: make setup .venv/made-dev"])


def main() -> int:
    """Run the drill; 0 when every bound held and nothing was lost or doubled."""
    arguments = asked()
    if arguments.list:
        for fault in FAULTS:
            console.print(f"{fault.name:16} {fault.what}")
        for why in LEFT_OUT.values():
            console.print(f"LEFT OUT         {why}")
        return 0
    if lack := lacking():
        console.print("NOT DRILLED: this machine lacks\n  " + "\n  ".join(lack), style="bold red")
        return 2
    chosen = [fault for fault in FAULTS if not arguments.only or fault.name in arguments.only]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped and removed
    with tempfile.TemporaryDirectory(prefix="feedmesh-cluster-", ignore_cleanup_errors=True) as folder:
        return _drill(Path(folder), arguments, chosen)


def _drill(folder: Path, arguments: argparse.Namespace, chosen: list[Fault]) -> int:
    order = chosen + random.Random(arguments.seed).choices(chosen, k=arguments.rounds)
    with ExitStack() as stack:
        ground = begun(folder, stack, arguments)
        users = range(1, arguments.users + 1)
        client = loaded(folder, ground.parts, arguments)
        rounds = in_turn(ground, client, order, arguments)
        console.print(shown(rounds))
        ids = [*list(users)[::10], *client.pins[::20]]
        wrong = problems(ground.parts, client.acknowledged, ids, report) + client.given_up[:5]
    for line in [f"{one.fault}: {said}" for one in rounds for said in one.problems] + wrong:
        console.print(f"  {line}", style="red", markup=False)
    if arguments.save:
        save(rounds, wrong, client, arguments)
    console.print(markdown(rounds), markup=False, soft_wrap=True)
    report(
        f"{sum(one.ok for one in rounds)} of {len(rounds)} rounds within their bounds; {len(wrong)} faults of the recount"
    )
    return int(bool(wrong or not all(one.ok for one in rounds)))


def in_turn(ground: Ground, client: Client, order: list[Fault], arguments: argparse.Namespace) -> list[Round]:
    """A round of each of these faults, as long as there is time for more."""
    rounds: list[Round] = []
    end = time.monotonic() + 60 * arguments.minutes
    with going(client):
        for number, fault in enumerate(order, 1):
            if time.monotonic() > end:
                report(f"{len(order) - number + 1} rounds are left out: {arguments.minutes:g} minutes are over")
                break
            report(f"{number} of {len(order)}: {fault.what}")
            rounds.append(one_round(ground, client, fault, report, arguments.resharding))
    return rounds


def begun(folder: Path, stack: ExitStack, arguments: argparse.Namespace) -> Ground:
    """Hosts, object store, brokers and the mesh, ready; all of it ends with the stack."""
    on = stack.enter_context(machines.hosts(folder))
    report(f"{len(on)} hosts: {', '.join(f'{host.name} at {host.address}' for host in on)}")
    store = Seaweed(folder / "store", host=machines.OUTSIDE)
    stack.callback(store.stop)
    store.start()
    report("the object store answers")
    brokers = Brokers(on)
    stack.callback(brokers.stop)
    brokers.start()
    report("three brokers are in sync")
    file = written(folder, on, brokers, store.url("drill"), arguments.roadrunners)
    running = stack.enter_context(parts(on, file))
    ground = Ground(running, brokers, store, random.Random(arguments.seed))
    stack.callback(ground.heal)
    running.until_begun(report)
    running.until_ready()
    report(f"{len(running.mesh.processes)} processes are ready")
    return ground


def loaded(folder: Path, running: Parts, arguments: argparse.Namespace) -> Client:
    """The client of a mesh with a world and a graph in it."""
    world, pins = folder / "world", 10 * arguments.users
    demo(users=arguments.users, pins=pins, boards=3 * arguments.users, saves=50 * arguments.users, seed=1, folder=world)
    running.run("load", "parquet", world, "--data", running.hosts[0].data)
    running.until_caught_up()
    running.run("graph", "build", "--data", running.hosts[0].data)
    report("a world is loaded, and a graph is built")
    readers = fit(running.edges, range(1, arguments.users + 1, 5), READERS)
    report(f"{len(readers)} readers have full pages; load average {os.getloadavg()[0]:.1f}")
    assert len(readers) >= READERS // 2, "too few readers have full pages: more --users"
    writers = [user for user in range(1, arguments.users + 1) if user % 5 != 1]
    return Client(
        running.edges, readers, writers, range(1, pins + 1), arguments.pages, arguments.events, arguments.seed
    )


if __name__ == "__main__":
    sys.exit(main())
