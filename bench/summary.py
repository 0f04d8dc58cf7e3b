"""The rows of README.md's table of benchmarks: which figures of which part each one shows."""

from typing import NamedTuple


class Noted(NamedTuple):
    """The number behind a phrase in the note of the figure that says `what`."""

    what: str
    phrase: str


class Row(NamedTuple):
    """figures: for each `{}` of `measured` a regular expression of what figures of the part say, all of it.

    Several figures are shown as the least and the most of them; `tables.Cell` has the formats.
    """

    part: str
    what: str
    target: str
    measured: str
    figures: tuple[str | Noted, ...]


LARGE = "150,000,000 edges"
SMALL = "100,000 steps on 3 M edges, times as fast as"
HOME = r"home page, {} feeds/s, Last\.fm, [\d,]+ candidates scored by 200 trees of 31 leaves, {}"
PAGES = "home pages a second until P99 is over 100 ms"
STORES = ("apiary", "polaris", "aperture", "realpin", "rockstore", "counters", "smartfeed", "pixie", "scorpion")

SUMMARY = (
    Row("pixie", "150 M edges: 100,000 steps from 10 pins, counted, boosted, best 1,000", "20 M steps/s", "{} M steps/s",
        (f"{LARGE}: steps of a request",)),
    Row("pixie", "steps alone, at restart 0.5; without restarts; two random lines of memory a step, without restarts",
        "40 M steps/s", "{:spread}; {:spread}; {} M steps/s",
        (rf"{LARGE}: steps, raw, restart 0\.5", f"{LARGE}: steps, raw, without restarts",
         f"{LARGE}: steps that the memory allows without restarts")),
    Row("pixie", "by RPC, P99; two cores against one", "15 ms; 1.8", "{} ms; {} times",
        ("100,000 steps from 10 pins, best 1,000 boards, by RPC, P99", "two threads against one")),
    Row("pixie", "beside the same walk written plainly in numba, at restart 0.5; without restarts", "20", "{}; {} times",
        (rf"{LARGE}: raw against naive, restart 0\.5", f"{LARGE}: raw against naive, without restarts")),
    Row("pixie", "3 M edges, requests: beside dgl's PinSAGE sampler, igraph, plain Python, plain numba", "10; -; 20; -",
        "{}, {}, {}, {} times", tuple(f"{SMALL} {peer}" for peer in ("dgl", "igraph", "plain Python", "plain numba"))),
    Row("pixie", "snapshot of 150 M edges: built, memory for it, opened", "300 s; 12 GiB; 2 s", "{} s; {} GiB; {} s",
        (f"snapshot of {LARGE}, building", f"snapshot of {LARGE}, peak memory of building",
         "opening a snapshot that was pushed")),
    Row("scorpion", "1,000 rows, 300 trees of 64 leaves: beside LightGBM, lleaves", "12; 3", "{}; {} times",
        ("1,000 rows, times as fast as lightgbm", "1,000 rows, times as fast as lleaves")),
    Row("scorpion", "the same by pin from the cache", "20; 5", "{}; {} times",
        tuple(f"1,000 of 200,000 cached rows, times as fast as {peer}" for peer in ("lightgbm", "lleaves"))),
    Row("scorpion", "one row, in a loop; with another's work between: beside LightGBM, lleaves", "1; -",
        "{}, {}; {}, {} times", tuple(f"a row, {how}, times as fast as {peer}"
         for how in ("in a loop", "another's work between") for peer in ("lightgbm", "lleaves"))),
    Row("scorpion", "4,000 cached rows by pin, beside cachetools", "20", "{} times ({} ms against {})",
        tuple(f"gathering 4,000 cached rows of 60, {of}" for of in ("times as fast as cachetools", "feedmesh", "cachetools"))),
    Row("scorpion", "cache hits, Zipf(1.0) over 1 M pins, of which a fifth fit; the most any cache of that size can find",
        "90 %", "{}; {} %", ("cache hits, .*", Noted("cache hits, .*", "would find"))),
    Row("scorpion", "a model of 300 trees of 64 leaves is read", "500 ms", "{} ms",
        ("reading the text of 300 trees of 64 leaves, median",)),
    Row("filters", "build, probe, 10^3 to 10^6 keys; 10^7 keys", "8 ns a key", "{}; {} ns",
        (r"(filter built|probed, \w+,) of (1|10|100|1,000),000 ids", r"(filter built|probed, \w+,) of 10,000,000 ids")),
    Row("filters", "beside rbloom, pybloom-live: build; probe of keys present; absent; bits a key", "6, 100; 11.5",
        "{}, {} times; {}, {} times; {}, {} times; {}",
        (*(f"{does}, a key, times as fast as {peer}" for does in ("build", "probe, present", "probe, absent")
           for peer in ("rbloom", "pybloom-live")),
         "bits a key at 1%, feedmesh")),
    Row("counters", "20,000 counts of 5 M pins, P99 in process, by RPC", "5; 10 ms", "{}; {} ms",
        ("20,000 counts of 5,000,000 pins, in process, P99", "20,000 counts of 5,000,000 pins, by RPC, P99")),
    Row("counters", "increments applied and durable", "1 M/s", "{}/s", ("increments of 5,000,000 pins applied and durable.*",)),
    Row("counters", "beside Redis, by RPC", "4", "{} times", (r"20,000 counts of [\d,]+ pins, times as fast as redis",)),
    Row("polaris", "300 boards, best 1,000 of 30,000 pins, P99 in process, by RPC", "5; 15 ms", "{}; {} ms",
        ("300 boards, 30,000 pins, (filter of 10,000, )?best 1,000, in process, P99", "300 boards, .*, by RPC, P99")),
    Row("polaris", "beside plain numpy, in process; Redis, by socket", "-", "{}; {} times",
        ("300 boards, .*, in process, times as fast as plain numpy", "300 boards, .*, by socket, times as fast as redis")),
    Row("aperture", "filter over 10,000, 50,000 impressions, P99 in process", "5 ms", "{}, {} ms",
        ("filter over 10,000 impressions, in process, P99", "filter over 50,000 impressions, in process, P99")),
    Row("aperture", "50,000 impressions: distinct pins beside sqlite; the filter beside pybloom-live", "-", "{}; {} times",
        ("distinct pins of .*, times as fast as sqlite", "filter over .*, times as fast as pybloom-live")),
    Row("views", "each view applies the log, one core: the slowest to the fastest", "100,000/s", "{}/s", (".* applies .*",)),
    Row("ingest", "batches of 1,000; single publishes, 48 writers, on disk", "300,000/s; 2,000/s", "{}; {}/s",
        ("batches of 1,000, 8 writers", "single events, 48 writers")),
    Row("kafka", "the log on Kafka, a broker on the same two cores: batches of 1,000; views apply from it; of the embedded rate",
        "100,000/s; -; 0.7", "{}/s; {}, {}/s; {}, {}",
        ("batches of 1,000, 8 writers", "apiary applies, log: Kafka", "aperture applies, log: Kafka",
         "apiary: from Kafka, of the embedded rate", "aperture: from Kafka, of the embedded rate")),
    Row("brokers", "three brokers beside the whole mesh: batches of 1,000; in every view; one event acknowledged, seen, P99",
        "100,000; 100,000/s; 30; 250 ms", "{}; {}/s; {}; {} ms",
        ("batches of 1,000, 8 writers", "the same, until every view has applied them", "single events, .* acknowledged, P99",
         "a save, .* until every view has it, P99")),
    Row("feed", "following page at 100 feeds/s, Last.fm, P99", "80 ms", "{:spread} ms",
        (r"following page, 100 feeds/s, Last\.fm, light score, P99",)),
    Row("feed", "home page at 60 feeds/s, some 1,000 candidates scored by 200 trees of 31 leaves, P99; P50", "100 ms",
        "{:spread}; {} ms", (HOME.format(60, "P99"), HOME.format(60, "P50"))),
    Row("feed", "the same at 150 feeds/s; pages that were degraded", "60 ms; 0", "{:spread} ms; {}",
        (HOME.format(150, "P99"), "home, 150 feeds/s: degraded pages")),
    Row("feed", "whole mesh resident, Last.fm; pages that processes share count for each", "", "{} MB", ("whole mesh resident",)),
    Row("between", "a home page at 100 a second, CPU of all processes: Unix sockets; streams of gRPC; under mTLS", "-; -; 11 ms",
        "{}; {}; {} ms", tuple(f"CPU of a home page by {way}" for way in
                               ("Unix sockets", "streams of gRPC", "streams of gRPC under mTLS"))),
    Row("resharding", "2 to 3 to 5 shards of polaris under 60 pages/s: requests that failed; P99 before, during", "0; -",
        "{}, {}; {}, {}; {}, {} ms", tuple(f"{a} to {b} shards of polaris: {what}" for what in
                                           ("failed requests", "P99 before", "P99 during") for a, b in ((2, 3), (3, 5)))),
    Row("plain", "home pages/s until P99 is 100 ms, beside a plain stack that gives the same pages", "5",
        "{} times ({} against {})", (f"{PAGES}, times the plain stack", f"{PAGES}, feedmesh", f"{PAGES}, plain stack")),
    Row("growth", "a question, us, over 10^4 units of each store and over the most ([every size](bench/results/README.md))",
        "flat or log", ", ".join(f"{store} {{:ends}}" for store in STORES),
        tuple(rf"{store}, [\d,]+ \w+: (?!one \w+( written|, on disk|, in memory)).*" for store in STORES)),
)  # fmt: skip
