"""Documents point at what is there."""

import re
from pathlib import Path

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
