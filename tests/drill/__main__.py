"""`make drill`: rounds of kill -9 under load over all stateful services, then the log recounted against every view."""

import argparse
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.demo import demo
from cli.load import load
from tests.drill.differences import differences
from tests.drill.load import Load
from tests.drill.recount import recount
from tests.kafka.broker import running_broker
from tests.kafka.logs import on_broker
from tests.running import Running, running_mesh

STATEFUL = ("roadrunner", "rockstore", "apiary", "polaris", "aperture", "realpin", "counters", "smartfeed")
STATELESS = ("pixie", "scorpion", "feedgen", "prober")
console = Console()


def main() -> int:
    """Run the drill; 0 when nothing was lost, doubled or left unanswered."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="kills (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of kills and of the load (default 1)")
    parser.add_argument("--shards", type=int, default=1, help="shard processes of each view (default 1)")
    parser.add_argument(
        "--replicas", type=int, default=1, help="processes of each shard; the first is killed (default 1)"
    )
    parser.add_argument("--users", type=int, default=300, help="users of the demo world that is loaded (default 300)")
    parser.add_argument("--kafka", action="store_true", help="the log on a Kafka broker of its own (make kafka)")
    parser.add_argument("--dataset", nargs=2, metavar=("NAME", "PATH"), help="load this set instead, e.g. lastfm PATH")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="feedmesh-drill-") as folder, ExitStack() as stack:
        log = on_broker(stack.enter_context(running_broker())) if arguments.kafka else {}
        return _drill(Path(folder), arguments, log)


def _drill(folder: Path, arguments: argparse.Namespace, log: dict[str, Any]) -> int:
    """log: the sections of settings that say where the log is."""
    shards = {name: {"shards": arguments.shards} for name in STATEFUL[1:]}
    mesh = {"replicas": arguments.replicas} | log.get("mesh", {})
    sections = {"prober": {"every_s": 1.0}} | shards | log | {"mesh": mesh}
    name, path = arguments.dataset or ("parquet", None)
    if path is None:
        path = folder / "world"
        demo(users=arguments.users, pins=3_000, boards=900, saves=15_000, seed=arguments.seed, folder=path)
    with running_mesh(folder / "data", sections) as running:
        load(name, Path(path), data=folder / "data")
        running.until_caught_up()
        return rounds(running, arguments.rounds, arguments.seed)


def rounds(running: Running, count: int, seed: int) -> int:
    """Kill, wait for it to be back, stop the load, recount; `count` times. The number of rounds that failed."""
    choose, failures = random.Random(seed), 0
    victims = [v for _ in range(count) for v in choose.sample(STATEFUL + STATELESS, len(STATEFUL + STATELESS))][:count]
    for number, victim in enumerate(victims, start=1):
        failures += not one_round(running, number, victim, seed)
    console.print(f"{count - failures} passed, {failures} failed", highlight=False)
    return min(failures, 1)


def one_round(running: Running, number: int, victim: str, seed: int) -> bool:
    """Whether feeds kept coming and every view equals a recount of the log."""
    people = sorted(recount(running.mesh).follows)
    shard = number % running.mesh.of(victim)[0].shards
    load_ = Load(running.url, people, seed=seed * 1000 + number)
    load_.start()
    time.sleep(0.5 + (number % 5) / 10)  # the load itself: let it run before and after the kill
    running.kill(victim, shard)
    started = time.monotonic()
    running.until(lambda health: not all(h.ready for h in health), "noticed", 20)
    running.until_ready()
    back = time.monotonic() - started
    time.sleep(0.5)
    load_.stop()
    running.until_caught_up()
    found = recount(running.mesh)
    lost = [i for i in load_.acknowledged if found.ids[i] == 0]
    doubled = [i for i in load_.acknowledged if found.ids[i] > 1]
    wrong = differences(running.mesh, found)
    ok = not (lost or doubled or wrong or load_.failed)
    _report(number, f"{victim}-{shard}", back, load_, found.events, ok)
    for problem in [
        *wrong[:5],
        *(f"lost {i}" for i in lost[:5]),
        *(f"twice {i}" for i in doubled[:5]),
        *load_.failed[:5],
    ]:
        console.print(f"    [red]{problem}[/]", highlight=False)
    return ok


def _report(number: int, victim: str, back: float, load_: Load, events: int, ok: bool) -> None:
    table = Table.grid(padding=(0, 2))
    console.width = max(console.width, 160)
    degraded = ", ".join(f"{stage} {n}" for stage, n in sorted(load_.degraded.items())) or "none"
    table.add_row(
        f"{number:3}",
        f"{victim:14}",
        f"back after {back:4.1f} s",
        f"{sum(load_.answers.values()):4} pages",
        f"{len(load_.acknowledged):5} events acknowledged",
        f"log {events} events",
        "[green]as recounted[/]" if ok else "[red]WRONG[/]",
        f"degraded: {degraded}",
    )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
