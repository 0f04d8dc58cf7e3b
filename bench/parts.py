"""The parts of the benchmark in the order that they run: the subject of each, and its threads and cores."""

from typing import NamedTuple

IN_PROCESS_AND_RPC = (
    "in process one thread on one core; by RPC client and server are threads of one process, on both cores"
)
WHOLE_MESH = "the whole mesh and the client share both cores"
TURNS = "beside peers one thread a side, on one core, in alternation"


class BenchPart(NamedTuple):
    """about: for the help and the progress. threads: for the results."""

    about: str
    threads: str


PARTS = {
    "ingest": BenchPart(
        "the ingest API: batches and single publishes, acknowledged on disk",
        "roadrunner and its 8 or 48 writing threads share both cores",
    ),
    "kafka": BenchPart(
        "the log on Kafka: the ingest API on one broker, and views that apply from it beside the embedded log (make kafka)",
        "the broker, roadrunner and its 8 or 48 writing threads share both cores; a view has one core",
    ),
    "brokers": BenchPart(
        "the log on three Kafka brokers: acknowledged, applied by every view, and seen (root, make kafka)",
        "the brokers, the whole mesh and the client share both cores",
    ),
    "filters": BenchPart("bloom filters of ids beside rbloom and pybloom-live", f"one thread on one core; {TURNS}"),
    "views": BenchPart("how fast each view applies the log, on one core", "one core, RocksDB's own threads included"),
    "aperture": BenchPart("the filter of seen pins, beside sqlite and pybloom-live", f"{IN_PROCESS_AND_RPC}; {TURNS}"),
    "polaris": BenchPart("retrieval, beside plain numpy and Redis", f"{IN_PROCESS_AND_RPC}; {TURNS}"),
    "pixie": BenchPart(
        "random walks beside the naive walk, over the size of the graph (BENCH_LARGE=1: up to 150 M edges)",
        f"one thread, where two are not stated; by RPC client and server are threads of one process, on both cores; {TURNS}",
    ),
    "counters": BenchPart(
        "20,000 counts for one request, beside Redis",
        f"{IN_PROCESS_AND_RPC}; beside Redis the same, and Redis' client on one core, its server on the other",
    ),
    "scorpion": BenchPart(
        "the cache of pin features and trees over rows, beside cachetools, LightGBM and lleaves", f"one thread; {TURNS}"
    ),
    "growth": BenchPart(
        "cost and memory as the work grows, and the figures of a plan (BENCH_LARGE=1: to 10^7 everywhere)",
        f"one core, RocksDB's own threads included; for the CPU of a page {WHOLE_MESH}",
    ),
    "feed": BenchPart("following and home pages over the whole mesh, and the memory of every process", WHOLE_MESH),
    "stages": BenchPart(
        "where the time of a home page goes: CPU by process, wall time by stage, RPCs by service", WHOLE_MESH
    ),
    "between": BenchPart(
        "the CPU of a home page by Unix sockets, by streams of gRPC, and by those under mTLS, as between hosts",
        WHOLE_MESH,
    ),
    "snapshots": BenchPart(
        "an empty replica until it is ready, from a snapshot and by the log alone (BENCH_LARGE=1: a log of 10^7 events)",
        "roadrunner and apiary share both cores",
    ),
    "resharding": BenchPart(
        "2 to 3 to 5 shards of polaris while readers read: failed requests, latency, seconds", WHOLE_MESH
    ),
    "stores": BenchPart(
        "what stores write for what they are given, with RocksDB's options as they were and as they are",
        "one thread that writes, and RocksDB's own, share both cores",
    ),
    "plain": BenchPart(
        "home pages beside a plain stack of Redis, a walk in Python, LightGBM and asyncio gRPC that gives the same",
        "each stack and the client share both cores, in alternation",
    ),
}
