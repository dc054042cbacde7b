"""Reading a workbook with the number formats of its cells, beside openpyxl's reader that streams."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import zipfile
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import run_json

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
ROUNDS = 5
ROWS = 20_000
FORMATS = {"zip": "00000", "amount": '#,##0.00 "€"', "due": "dd.mm.yyyy", "share": "0%"}
HEADINGS = ("email", "first_name", "last_name", "city", "member", *FORMATS)


def measure_workbooks(setting: Setting, results: Results) -> None:
    """Fill in rows a second, the time to the first row, and memory."""
    path = setting.folder / "people.xlsx"
    subprocess.run([str(setting.python), str(HERE / "workbooks.py"), "write", str(path)], check=True)
    timed = run_json([setting.python, HERE / "workbooks.py", "time", path])
    section = f"workbook of {len(HEADINGS)} columns, {ROWS:,} rows"
    results.put(section, "rows/s, cells as they are shown", "ours", ROWS / timed["ours_s"])
    results.put(section, "rows/s, openpyxl: values and number formats", "stdlib", ROWS / timed["openpyxl_s"])
    results.put(section, "ms to the first row", "ours", timed["first_ms"])
    peaks = {reader: _peak(setting, path, reader) for reader in ("ours", "openpyxl")}
    for reader, column in (("ours", "ours"), ("openpyxl", "stdlib")):
        results.put(section, f"peak memory, MiB, {reader}", column, peaks[reader])
    results.at_most("workbook with formats / openpyxl with number_format", timed["ratio"], 0.4)
    formulas = run_json([setting.python, HERE / "workbooks.py", "time", path.with_stem("formulas")])
    results.at_most("workbook whose numbers are formulas / openpyxl", formulas["ratio"], 0.4)
    results.at_most("first row of a workbook", timed["first_ms"], 100, " ms")
    results.at_most("memory of reading a workbook / openpyxl", peaks["ours"] / peaks["openpyxl"], 1)


def _peak(setting: Setting, path: Path, reader: str) -> float:
    command = [str(setting.python), str(HERE / "workbooks.py"), f"peak-{reader}", str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _write(path: Path) -> None:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    chance = random.Random(1)
    book = Workbook(write_only=True)
    sheet: Any = book.create_sheet("People")
    sheet.append(HEADINGS)
    for row in range(ROWS):
        days = timedelta(days=chance.randrange(700))
        cells = []
        values = (
            chance.randrange(1000, 99_999),
            chance.randrange(10**6) / 100,
            date(2026, 1, 1) + days,
            chance.random(),
        )
        for value, code in zip(values, FORMATS.values(), strict=True):
            cell: Any = WriteOnlyCell(sheet, value)
            cell.number_format = code
            cells.append(cell)
        first, city = chance.choice(["Ann", "Jörg", "伟"]), chance.choice(["Oslo", "Köln"])
        sheet.append([f"p{row}@example.org", first, f"Name{row % 997}", city, row % 3 == 0, *cells])
    book.save(path)
    _write_formulas(path, path.with_stem("formulas"))


def _write_formulas(path: Path, target: Path) -> None:
    """Copy a workbook with each number as the result of a formula, as spreadsheet programs save them."""
    with zipfile.ZipFile(path) as book, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in book.namelist():
            content = book.read(name)
            if name.startswith("xl/worksheets/"):
                content = content.replace(b' t="n"><v>', b"><f>B2*1.19+C2</f><v>")
            copy.writestr(name, content)


def _ours(path: Path) -> float:
    """Read the list to its end, and give the seconds to the first row."""
    from mailmerge.recipients import open_list

    began = time.perf_counter()
    rows = iter(open_list(path))
    next(rows)
    first = time.perf_counter() - began
    for _ in rows:
        pass
    return first


def _openpyxl(path: Path) -> None:
    from openpyxl import load_workbook

    book: Any = load_workbook(path, read_only=True)
    for row in book.active.iter_rows():
        for cell in row:
            _ = cell.value, cell.number_format
    book.close()


def _time(path: Path) -> None:
    """Let both readers read the whole list in turn."""
    firsts, ours, theirs = [], [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        _openpyxl(path)
        theirs.append(time.process_time() - began)
        began = time.process_time()
        firsts.append(_ours(path))
        ours.append(time.process_time() - began)
    ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    figures = {
        "ours_s": min(ours),
        "openpyxl_s": min(theirs),
        "ratio": ratios[len(ratios) // 2],
        "first_ms": min(firsts) * 1000,
    }
    print(json.dumps(figures))


def _report_peak() -> None:
    import resource

    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    {"write": _write, "time": _time, "peak-ours": _ours, "peak-openpyxl": _openpyxl}[what](where)
    if what.startswith("peak"):
        _report_peak()
