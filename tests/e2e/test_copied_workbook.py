"""The copy of a workbook: all that was in it is still there, and programs show it with our columns."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
import xlsxwriter

from mailmerge.model import Result, Status
from mailmerge.report.annotated_list import COPY_COLUMNS, copy_workbook

if TYPE_CHECKING:
    from pathlib import Path

    from servers.libreoffice import LibreOffice

PIXEL = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xcf"
    b"\xc0\xf0\x1f\0\5\0\1\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82"
)
ROW = ("email", "qty", "price", "total", "note", *COPY_COLUMNS)


def rich_workbook(path: Path) -> None:
    """Write what people have in workbooks besides a list, with the results of its formulas."""
    made = xlsxwriter.Workbook(path)
    sheet = made.add_worksheet("People")
    money = made.add_format({"num_format": '#,##0.00 "€"', "bold": True})
    sheet.write_row(0, 0, ROW[:5])
    for row, (qty, price) in enumerate([(3, 12.5), (2, 9), (5, 1)], 1):
        sheet.write_row(row, 0, [f"p{row}@x.org", qty, price])
        sheet.write_formula(row, 3, f"=B{row + 1}*C{row + 1}", money, qty * price)
    sheet.write_string(3, 9, "a note that stands to the right")
    sheet.write_formula("D6", "=SUM(D2:D4)", money, 60.5)
    sheet.write_comment("A2", "call her first")
    sheet.autofilter("A1:E4")
    sheet.freeze_panes(1, 0)
    sheet.conditional_format("B2:B4", {"type": "data_bar"})
    sheet.data_validation("B2:B4", {"validate": "integer", "criteria": ">", "value": 0})
    sheet.insert_image("L2", "pixel.png", {"image_data": io.BytesIO(PIXEL)})
    chart: Any = made.add_chart({"type": "column"})
    chart.add_series({"values": "=People!$B$2:$B$4"})
    sheet.insert_chart("L8", chart)
    made.define_name("rate", "=0.19")
    other = made.add_worksheet("Other")
    other.write_formula("A1", "=People!D2", None, 37.5)
    other.hide()
    made.close()


@pytest.fixture(scope="module")
def copied(libreoffice: LibreOffice, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Return a workbook of each of two programs, with its copy."""
    folder = tmp_path_factory.mktemp("copied")
    rich_workbook(folder / "list.xlsx")
    [again] = libreoffice.convert([folder / "list.xlsx"], "xlsx", tmp_path_factory.mktemp("again"))
    sources = [folder / "list.xlsx", again.rename(folder / "again.xlsx")]
    results = [Result(row, f"p{row}", f"p{row}@x.org", Status.SKIPPED) for row in (2, 4)]
    found = []
    for source in sources:
        target = source.with_stem(f"{source.stem}-copy")
        assert copy_workbook(source, target, results, sheet="People", header_row=1, column=None) == 2
        found.append((source, target))
    return found


def test_everything_else_is_the_same_byte_for_byte(copied: list[tuple[Path, Path]]) -> None:
    """Every part but the sheet; and of that everything but our cells, widths and where it ends."""
    for source, target in copied:
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target) as new:
            assert old.namelist() == new.namelist()
            parts = [name for name in old.namelist() if name != "xl/worksheets/sheet1.xml"]
            assert [name for name in parts if old.read(name) != new.read(name)] == []
            before, after = (one.read("xl/worksheets/sheet1.xml") for one in (old, new))
        head, _, tail = before.partition(b"<sheetData>")[2].partition(b"</sheetData>")
        formulas = re.compile(rb"<f[ >].*?</c>")
        assert formulas.findall(head) == formulas.findall(after)
        assert len(formulas.findall(head)) == 4
        assert after.endswith(tail)


@pytest.mark.filterwarnings("ignore:.*extension is not supported")
def test_formulas_keep_their_results(copied: list[tuple[Path, Path]]) -> None:
    """For a program that does not calculate, old values and new columns are there."""
    for _, target in copied:
        page = openpyxl.load_workbook(target, data_only=True)["People"]
        rows = [[cell.value for cell in row] for row in page.iter_rows(max_row=4)]
        assert [row[3] for row in rows] == ["total", 37.5, 18, 5]
        assert rows[3][9] == "a note that stands to the right"
        assert rows[0][10:13] == list(COPY_COLUMNS)
        assert [row[10] for row in rows[1:]] == ["skipped", None, "skipped"]


def test_libreoffice_shows_both(
    copied: list[tuple[Path, Path]], libreoffice: LibreOffice, tmp_path: Path
) -> None:
    """Cells as before, and our columns behind all of them."""
    for shown in libreoffice.as_shown([target for _, target in copied], tmp_path):
        assert [row[:4] for row in shown[:4]] == [
            ["email", "qty", "price", "total"],
            ["p1@x.org", "3", "12.5", "37.50 €"],
            ["p2@x.org", "2", "9", "18.00 €"],
            ["p3@x.org", "5", "1", "5.00 €"],
        ]
        assert [row[10] for row in shown[:4]] == ["mailmerge_status", "skipped", "", "skipped"]
