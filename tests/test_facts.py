"""Documents state the facts that the code has: numbers, defaults of settings, actions, metrics and figures."""

import base64
import hashlib
import math
import re
from functools import cache
from itertools import chain

import msgspec
import pytest

from bench import report
from cli.schema import SCHEMA, SERVICES
from feedgen.cursor import Cursors
from feedgen.shown import NOTHING
from learning.evaluation import readme, table
from learning.evaluation.marked import between
from services.core.events import NEEDS, Action, Kind, LostAt, Surface
from tests.facts import FACTS, ROOT, Fact, number, text_of

PAGES = sorted(str(page.relative_to(ROOT)) for page in chain(ROOT.glob("docs/*.md"), ROOT.glob("*/README.md")))
TABLES = [page for page in PAGES if "| setting | default |" in text_of(page) and page.partition("/")[0] in SCHEMA]
WORDS = {"true": True, "false": False}


def same(stated: str, value: object) -> bool:
    """Whether a page's `1,000`, `true`, `name` or `none` is this value."""
    if stated == "none":
        return value in ("", ())
    if isinstance(value, bool) or stated in WORDS:
        return WORDS.get(stated) is value
    try:
        return isinstance(value, int | float) and math.isclose(number(stated), value)
    except ValueError:
        return stated == value


def defaults(setting: str, section: str = "") -> list[object]:
    """The default of a setting in the section, or in each that has one of this name."""
    structs = [SCHEMA[section]] if section else list(SCHEMA.values())
    return [field.default for struct in structs for field in msgspec.structs.fields(struct) if field.name == setting]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.page}: {fact.pattern}")
def test_numbers_on_a_page_are_those_of_the_code(fact: Fact) -> None:
    stated = fact.stated()
    assert stated, f"{fact.page} states this no longer; mend or remove its line in tests/facts.py"
    for text in stated:
        assert math.isclose(number(text), fact.value), f"{fact.page} states {text}, the code has {fact.value:,.10g}"


@pytest.mark.parametrize("page", TABLES)
def test_settings_in_the_table_of_a_service_have_the_defaults_of_its_struct(page: str) -> None:
    """A row may have several settings, with a default for each."""
    service, wrong, seen = page.partition("/")[0], [], 0
    rows = (ROOT / page).read_text().partition("| setting | default |")[2].partition("\n\n")[0]
    for names, values in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|", rows, re.MULTILINE):
        settings, stated = re.findall(r"`(\w+)`", names), values.strip().split(", ")
        assert len(settings) == len(stated), f"{page}: {names} has {values}"
        seen += len(settings)
        for setting, value in zip(settings, stated, strict=True):
            if not any(same(value, default) for default in defaults(setting, service)):
                wrong.append(f"{page}: {setting} {value}, by the code {defaults(setting, service)}")
    assert seen
    assert not wrong


@pytest.mark.parametrize("page", TABLES)
def test_the_table_of_a_service_has_every_setting_of_its_own(page: str) -> None:
    struct = SCHEMA[page.partition("/")[0]]
    bases = [
        base for base in struct.__mro__ if issubclass(base, msgspec.Struct) and base.__module__.startswith("services.")
    ]
    shared = {field for base in bases for field in base.__struct_fields__}
    table = (ROOT / page).read_text().partition("| setting | default |")[2].partition("\n\n")[0]
    own = set(struct.__struct_fields__) - shared
    assert not {setting for setting in own if f"`{setting}`" not in table}


def test_the_table_of_the_tests_has_every_folder_and_no_other() -> None:
    rows = (ROOT / "tests/README.md").read_text().partition("| folder or file |")[2].partition("\n\n")[0]
    stated = {
        name
        for cell in re.findall(r"^\| (`[^|]+`) \|", rows, re.MULTILINE)
        for name in re.findall(r"`([\w/]+)/`", cell)
    }
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/*.py")} - set(SERVICES)
    assert stated - set(SERVICES) == folders


@pytest.mark.parametrize("page", PAGES)
def test_defaults_behind_the_name_of_a_setting_are_those_of_the_code(page: str) -> None:
    """`name` (5), `[section] name` (5) and `name` hours (5; 0: never)."""
    wrong = []
    for section, setting, value in re.findall(r"`(?:\[(\w+)\] )?(\w+)`(?: [a-z]+)? \((\d[\d,.]*)[,;:)]", text_of(page)):
        if (known := defaults(setting, section)) and not any(same(value.rstrip(",."), default) for default in known):
            wrong.append(f"{page}: {setting} ({value}), by the code {known}")
    assert not wrong


def test_the_table_of_actions_has_every_action_with_its_number_and_the_ids_that_it_needs() -> None:
    rows = (ROOT / "docs/events.md").read_text().partition("## Actions")[2].partition("\n\n- ")[0]
    stated: dict[str, tuple[int, set[str]]] = {}
    for names, numbers, needs in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([\d, ]+) \| ([^|]+) \|", rows, re.MULTILINE):
        ids = set(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", needs))) & set(NEEDS)
        for name, of in zip(re.findall(r"`(\w+)`", names), numbers.split(", "), strict=True):
            stated[name] = (int(of), ids)
    assert stated == {a.name.lower(): (int(a), {column for column in NEEDS if NEEDS[column][a]}) for a in Action}


@pytest.mark.parametrize(
    ("pattern", "members"),
    [
        (r"\| where: ([^|]+) \|", Surface),
        (r"the kind of object \(([^)]+)\)", Kind),
        (r"`LostAt` of services/core/events.py: ([^)]+)\)", LostAt),
    ],
    ids=["surfaces", "kinds", "stages that lose candidates"],
)
def test_the_numbers_of_events_are_those_of_the_code(pattern: str, members: type) -> None:
    [stated] = re.findall(pattern, text_of("docs/events.md"))
    by_name = {name.replace(" ", "_"): int(value) for name, value in re.findall(r"([a-z][a-z ]*?) (\d+)", stated)}
    assert by_name == {member.name.lower(): int(member) for member in members}  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES)
def test_metrics_that_a_page_names_are_in_the_code(page: str) -> None:
    """A gauge or counter may stand there without its prefix, and a counter without `_total`."""
    named = {name.removesuffix("_total") for name in re.findall(r"\bfeedmesh_(\w+[a-z])\b", text_of(page))}
    assert not {name for name in named if not re.search(rf"\b(feedmesh_)?{name}\b", code())}


@cache
def code() -> str:
    """All Python of the repository but its tests."""
    folders = [path.name for path in ROOT.iterdir() if (path / "__init__.py").exists() and path.name != "tests"]
    return "\n".join(path.read_text() for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


def test_the_figures_of_the_evaluation_in_the_readme_are_those_of_the_results() -> None:
    text, found = readme.README.read_text(), table.saved("lastfm")
    assert found
    assert between(text, readme.BEGIN, readme.END, readme.sentence(found)) == text, "`make eval` writes it"


def test_the_cursor_is_signed_as_the_glossary_says() -> None:
    [algorithm] = re.findall(r"signed with keyed (\w+);", text_of("docs/glossary.md"))
    secret = bytes(range(32))
    made = base64.urlsafe_b64decode(Cursors(secret).make(1, Surface.HOME, NOTHING) + "==")
    signed = getattr(hashlib, algorithm.lower())(made[:-16], key=secret, digest_size=16).digest()
    assert made[-16:] == signed


#: A figure of a benchmark in running text: page, pattern, part, figure, and the page's unit in units of the figure.
MEASURED = [
    ("docs/capacity.md", r"500 pins ([\d.]+), then", "growth", "rockstore, 10,000 pins: attributes of 500 pins", 1e3),
    (
        "docs/capacity.md",
        r"500 pins [\d.]+, then ([\d.]+), then",
        "growth",
        "rockstore, 1,000,000 pins: attributes of 500 pins",
        1e3,
    ),
    (
        "docs/capacity.md",
        r"then ([\d.]+) ms at 10\^7",
        "growth",
        "rockstore, 10,000,000 pins: attributes of 500 pins",
        1e3,
    ),
    (
        "docs/capacity.md",
        r"100 boards ([\d.]+), then",
        "growth",
        "polaris, 1,000,000 edges: the best 500 of 100 boards",
        1e3,
    ),
    (
        "docs/capacity.md",
        r"100 boards [\d.]+, then ([\d.]+), then",
        "growth",
        "polaris, 10,000,000 edges: the best 500 of 100 boards",
        1e3,
    ),
    (
        "docs/capacity.md",
        r"then ([\d.]+) ms at 10\^8",
        "growth",
        "polaris, 100,000,000 edges: the best 500 of 100 boards",
        1e3,
    ),
    (
        "docs/capacity.md",
        r"10\^6 pins holds ([\d.]+) % of",
        "scorpion",
        "cache hits, Zipf(1.0) over 1,000,000 pins, 202,730 rows",
        1,
    ),
    (
        "bench/README.md",
        r"in between, a page takes ([\d.]+) ms",
        "stages",
        "CPU of a home page, all processes and the client",
        1,
    ),
    ("bench/README.md", r"ONLY=stages`\): feedgen ([\d.]+),", "stages", "CPU of a home page, feedgen", 1),
    ("bench/README.md", r"feedgen [\d.]+, scorpion ([\d.]+),", "stages", "CPU of a home page, scorpion", 1),
    ("bench/README.md", r"polaris and pixie ([\d.]+) each", "stages", "CPU of a home page, pixie", 1),
    ("bench/README.md", r"([\d]+) calls in all", "stages", "RPCs of a home page, all services", 1),
    ("docs/feed.md", r"A page takes about ([\d]+) RPCs", "stages", "RPCs of a home page, all services", 1),
]


@pytest.mark.parametrize(("page", "pattern", "part", "what", "unit"), MEASURED, ids=str)
def test_figures_in_running_text_are_those_of_the_results(
    page: str, pattern: str, part: str, what: str, unit: float
) -> None:
    found = report.load(part)
    [value] = [f.value for f in found.figures if f.what == what] if found else [None]
    [text] = re.findall(pattern, text_of(page))
    digits = len(text.partition(".")[2])
    assert value is not None
    assert text == f"{value / unit:.{digits}f}", (
        f"{page} states {text}, bench/results/{part}.json has {value / unit:.4g}"
    )
