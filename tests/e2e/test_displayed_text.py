"""What cells show: ours beside LibreOffice's export of the same workbooks, cell by cell."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xlsxwriter
from msgspec import Struct
from openpyxl import Workbook
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from mailmerge.recipients.kinds import find_kind
from mailmerge.recipients.recipient_list import CellError
from mailmerge.recipients.workbook_list import open_workbook
from mailmerge.values import displayed
from mailmerge.values.number_format import display, number_format
from number_formats import cells, kind_of_difference, kind_of_excel_difference, random_cells
from servers.programs import require, require_npm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servers.libreoffice import LibreOffice

WIDE = 8
"""Cells of a row."""
DAYS_1904 = 1462
PAGE = Path(__file__).parents[2] / "docs" / "lists.md"


class Compared(Struct):
    """A cell: its number and format, and what two programs show of it."""

    number: float
    code: str
    ours: str
    theirs: str

    @property
    def same(self) -> bool:
        """Whether both show the same; spaces around it are room for brackets, and not part of a list."""
        return self.ours == self.theirs.strip()


@pytest.fixture(scope="module")
def compared(libreoffice: LibreOffice, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Compared]]:
    """All cells, written by three programs: name of the program to cells."""
    folder, copies = tmp_path_factory.mktemp("formats"), tmp_path_factory.mktemp("copies")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  shown when a test fails
    fixed, chosen = cells(), random_cells(random.Random(seed), 2000)
    paths = [folder / "xlsxwriter.xlsx", folder / "openpyxl.xlsx", folder / "days1904.xlsx"]
    by_xlsxwriter(paths[0], fixed)
    by_openpyxl(paths[1], chosen)
    shifted = [(number, code) for number, code in chosen if number_format(code).kind in {"date", "datetime"}]
    by_openpyxl(paths[2], [(number - DAYS_1904, code) for number, code in shifted], date_1904=True)
    again = [path.rename(path.with_stem("again")) for path in libreoffice.convert(paths[:1], "xlsx", copies)]
    again += [path.rename(path.with_stem("old")) for path in libreoffice.convert(paths[1:2], "xls", copies)]
    shown = libreoffice.as_shown([*paths, *again], copies)
    lists = [fixed, chosen, shifted, fixed, chosen]
    return {
        path.stem: list(beside(path, given, theirs))
        for path, given, theirs in zip([*paths, *again], lists, shown, strict=True)
    }


def by_xlsxwriter(path: Path, given: Sequence[tuple[float, str]]) -> None:
    """Write the cells, and an x at the end of each row."""
    book = xlsxwriter.Workbook(path)
    sheet = book.add_worksheet()
    formats = {code: book.add_format({"num_format": code}) for _, code in given}
    for at, (number, code) in enumerate(given):
        sheet.write_number(at // WIDE, at % WIDE, number, formats[code])
    for row in range(-(-len(given) // WIDE)):
        sheet.write_string(row, WIDE, "x")
    book.close()


def by_openpyxl(path: Path, given: Sequence[tuple[float, str]], *, date_1904: bool = False) -> None:
    """Write the cells, and an x at the end of each row."""
    book = Workbook()
    if date_1904:
        book.epoch = CALENDAR_MAC_1904
    sheet = book.active
    assert sheet is not None
    for at, (number, code) in enumerate(given):
        sheet.cell(at // WIDE + 1, at % WIDE + 1, number).number_format = code
        sheet.cell(at // WIDE + 1, WIDE + 1, "x")
    book.save(path)


def beside(path: Path, given: Sequence[tuple[float, str]], theirs: list[list[str]]) -> list[Compared]:
    """Read a workbook as a list is read, and put what LibreOffice shows beside it."""
    book = open_workbook(path, path.name, find_kind(path, path.name))
    found = []
    for row in book.rows(book.sheets[0]):
        for at, cell in enumerate(row.cells[:WIDE]):
            index = (row.number - 1) * WIDE + at
            if index < len(given):
                number, code = given[index]
                ours = cell.shown if isinstance(cell, CellError) else displayed(cell)
                found.append(Compared(number, code, ours, theirs[row.number - 1][at]))
    assert len(found) == len(given)
    return found


@pytest.mark.parametrize("program", ["xlsxwriter", "openpyxl", "days1904", "again", "old"])
def test_cells_show_what_libreoffice_shows(compared, program):
    """At least 99 of 100 cells are the same, and the others differ in a way that the documentation has."""
    others = [cell for cell in compared[program] if not cell.same]
    unknown = [cell for cell in others if not kind_of_difference(cell.code, cell.number, cell.theirs)]
    assert unknown == []
    assert len(others) <= len(compared[program]) / 100


def documented(heading: str) -> dict[str, list[str]]:
    """Read the table below a heading of the page: first cell of a row to the others."""
    section = PAGE.read_text("utf-8").partition(heading)[2].partition("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {cells[0]: [cell.strip("`") for cell in cells[1:]] for cells in rows[1:]}


def test_differences_are_documented(compared):
    """Each kind is in the documentation with an example that is true, and no other kind is."""
    fixed = compared["xlsxwriter"]
    kinds = {kind_of_difference(cell.code, cell.number, cell.theirs) for cell in fixed if not cell.same}
    table = documented("## What differs from LibreOffice")
    assert set(table) == kinds
    shown = {(cell.code, repr(cell.number)): cell for cell in fixed}
    for kind, (code, number, theirs, ours, _why) in table.items():
        cell = shown[code, number]
        assert kind_of_difference(code, cell.number, cell.theirs) == kind
        assert (cell.theirs, cell.ours or "an error") == (theirs, ours)


def test_two_others_agree_with_us_or_differ_as_documented():
    """Where ssf and numfmt, which do as Excel does, agree against us, the documentation says why."""
    modules, given = require_npm("ssf"), cells()
    script = Path(__file__).parents[1] / "servers" / "formatters.mjs"
    done = subprocess.run(
        [require("node"), script, modules],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    kinds = set()
    for (number, code), (first, second) in zip(given, json.loads(done.stdout), strict=True):
        if first is not None and first == second and first.strip() != display(number, code).strip():
            kind = kind_of_excel_difference(code, number)
            assert kind, (code, number, first, display(number, code))
            kinds.add(kind)
    assert kinds == set(documented("### And from Excel"))
