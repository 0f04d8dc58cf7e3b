"""Holds README.md's table of cases to the tests: each number has some, in the files that it names, and its input is read."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
NUMBER = re.compile(r"(?<![A-Za-z0-9])[DHMPR]\d\d(?![0-9])")
ROW = re.compile(r"^\| ([DHMPR]\d\d) \|([^|]*)\|([^|]*)\|([^|]*)\|$", re.M)
LISTED = {
    "D": (3,),
    "H": (1, 2, 6, 7, 8, 9),
    "M": (1, 2, 3, 4),
    "P": (1, 3, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 20, 21),
    "R": (1, 3, 4, 7, 8, 9, 19, 28),
}
ALL = [f"{letter}{number:02}" for letter, numbers in LISTED.items() for number in numbers]
TABLE = {number: rest for number, *rest in ROW.findall((Path(__file__).parent / "README.md").read_text())}


@cache
def carried(path: Path) -> frozenset[str]:
    """The numbers in names and docstrings of a file's tests."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found |= set(NUMBER.findall(node.name.replace("_", " "))) | set(
                NUMBER.findall(ast.get_docstring(node) or "")
            )
    return frozenset(found)


def test_every_case_is_listed_once() -> None:
    assert sorted(TABLE) == ALL
    assert len(ROW.findall((Path(__file__).parent / "README.md").read_text())) == len(ALL)


@pytest.mark.parametrize("number", ALL)
def test_a_case_has_tests_where_the_table_says(number: str) -> None:
    what, where, members = TABLE[number]
    files = re.findall(r"`([\w/]+\.py)`", where)
    assert files
    for file in files:
        assert number in carried(TESTS / file), f"no test of {file} carries {number} in its name or docstring"
    assert what.strip()
    assert members.strip()


def test_every_input_is_of_a_case_that_is_listed() -> None:
    for path in (Path(__file__).parent / "inputs").iterdir():
        number = path.name.partition("-")[0]
        assert number in TABLE, path
        texts = [file.read_text() for file in Path(__file__).parent.glob("test_*.py")]
        assert any(f'"{number}"' in text or path.name in text for text in texts), f"no test reads {path.name}"
