"""Links and paths in documents lead to files that exist."""

import ast
import re
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {".venv", ".bare", ".peers", ".lock", "node_modules", "data"}
PAGES = [p for p in sorted(ROOT.rglob("*.md")) if not LEFT_OUT & set(p.relative_to(ROOT).parts)]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    wrong = []
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            wrong.append(path)
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            wrong.append(f"{path}#{anchor}")
    assert not wrong


def test_decisions_have_one_form_stand_in_order_and_are_linked_by_number() -> None:
    folder = ROOT / "docs/decisions"
    numbered = {page.name: int(page.name[:4]) for page in sorted(folder.glob("0*.md"))}
    for name, number in numbered.items():
        assert (folder / name).read_text().startswith(f"# {number}. "), f"{name}: a heading is `# {number}. Subject`"
    listed = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert listed == [(name[:4], name) for name in numbered], "docs/decisions/README.md lists each once, in order"
    for page in PAGES:
        for text, name in re.findall(r"\[(decision[^\]]*)\]\([^)]*?(\d{4}-[\w-]+\.md)\)", page.read_text()):
            assert text == f"decision {numbered[name]}", f"{page.relative_to(ROOT)}: [{text}] of {name}"


def test_modules_that_documents_name_are_there() -> None:
    """`folder/module.py` in a document is a path from the root, or from a folder around the document."""
    wrong = []
    for page in PAGES:
        if page.name == "CHANGELOG.md" or "decisions" in page.parts:  # they speak of their day
            continue
        for path in re.findall(r"`([\w/]+/\w+\.py)`", page.read_text()):
            if not (ROOT / path).exists() and not any((near / path).exists() for near in page.parents):
                wrong.append(f"{page.relative_to(ROOT)}: {path}")
    assert not wrong


def examples(page: Path) -> list[str]:
    """The blocks of Python of a page."""
    blocks = [dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page.read_text(), re.MULTILINE)]
    return [block for block in blocks if re.search(r"^(import|from) \w+", block, re.MULTILINE)]


def imported(tree: ast.AST) -> list[tuple[str, str]]:
    """(module, name) of all that an example imports; of a whole module no name."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return found


def test_examples_in_python_name_what_is_there() -> None:
    """Every block of Python in a document parses, and all that it imports exists."""
    found = 0
    for page in PAGES:
        if page.name == "CHANGELOG.md" or "decisions" in page.parts:
            continue
        for block in examples(page):
            try:
                tree = ast.parse(block)
            except SyntaxError:  # of a shell, with Python in it
                continue
            for module, name in imported(tree):
                there = not name or hasattr(import_module(module), name)
                assert there or import_module(f"{module}.{name}"), f"{page.relative_to(ROOT)}: {module}.{name}"
                found += 1
    assert found > 5
