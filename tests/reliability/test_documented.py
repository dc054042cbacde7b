"""docs/reliability.md names the test of every promise: here is what keeps it honest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reliability.md"
_ROW = re.compile(r"^\| ([A-G])(\d+) \|.*\|([^|]*)\|$", re.MULTILINE)
_FILE = re.compile(r"`(\w+)\.py`")
_TEST = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
_NUMBER = re.compile(r"(?<=_)([a-z])(\d{1,2})(?=_|$)")

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")


def _rows() -> list[tuple[str, int, list[str]]]:
    found = _ROW.findall(PAGE.read_text("utf-8"))
    return [(letter, int(number), _FILE.findall(files)) for letter, number, files in found]


def test_every_number_is_there() -> None:
    """A1 and so on, each once and without a gap."""
    numbers = [number for letter, number, _ in _rows() if letter == "A"]
    assert numbers == list(range(1, 1 + len(numbers)))


def test_every_file_has_a_test_of_that_number() -> None:
    """Each file that a row names contains a test with the row's number in its name."""
    missing = []
    for letter, number, files in _rows():
        assert files, f"{letter}{number} names no test"
        name = re.compile(rf"^def test_(?:\w+_)?{letter.lower()}0?{number}_", re.MULTILINE)
        missing += [
            f"{letter}{number}: {file}.py"
            for file in files
            if not any(name.search(path.read_text("utf-8")) for path in HERE.parent.rglob(f"{file}.py"))
        ]

    assert missing == []


def test_every_number_in_the_name_of_a_test_is_a_row_of_the_page() -> None:
    """Whoever reads ``test_b11_...`` finds B11 on the page, and the test's file in its row."""
    documented = {f"{letter.lower()}{number}": files for letter, number, files in _rows()}

    missing = [
        f"{path.name}: {name}"
        for path in sorted(HERE.parent.rglob("test_*.py"))
        for name in _TEST.findall(path.read_text("utf-8"))
        for letter, number in _NUMBER.findall(name)
        if path.stem not in documented.get(f"{letter}{int(number)}", ())
    ]

    assert missing == []
