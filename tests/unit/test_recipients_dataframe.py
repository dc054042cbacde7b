"""Frames, row selections, column types and private copies."""

# ruff: noqa: DTZ001  the dates of a sheet have no time zone; a recipient's values are no frame's

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge.errors import CampaignFileError, ListError
from mailmerge.model import Place
from mailmerge.recipients import from_dataframe, from_rows, open_list, parse_rows, sha256, snapshot
from mailmerge.recipients.types import cell_type
from mailmerge.values import Number, displayed, value_of

# --- frames


def facts(cells):
    """Return texts unchanged, and of every other cell the value and the displayed text."""
    return [cell if isinstance(cell, str) else (cell.value, cell.displayed) for cell in cells]


def test_frames_have_no_nan():
    """Missing values of every kind are empty, whole floats integers, midnights dates."""
    frame = pd.DataFrame(
        {
            "email": ["a@x.org", "b@x.org", None],
            "phone": [13800138000.0, np.nan, np.nan],
            "n": pd.array([1, pd.NA, pd.NA], dtype="Int64"),
            "due": [pd.Timestamp("2026-03-05"), pd.NaT, pd.NaT],
            "seen": [pd.Timestamp("2026-03-05 14:30"), pd.Timestamp("2026-03-06"), pd.NaT],
            "share": [0.1 + 0.2, 1.5, np.nan],
            "spent": [pd.Timedelta(hours=26), pd.NaT, pd.NaT],
            "ok": [np.True_, False, None],
        }
    )
    people = from_dataframe(frame, key="email")
    rows = list(people)
    assert [facts(recipient.values) for recipient in rows] == [
        [
            "a@x.org",
            (13800138000, "13800138000"),
            (1, "1"),
            (date(2026, 3, 5), "2026-03-05"),
            (datetime(2026, 3, 5, 14, 30), "2026-03-05 14:30"),
            (Decimal("0.3"), "0.3"),
            (timedelta(hours=26), "26:00"),
            (True, "TRUE"),
        ],
        [
            "b@x.org",
            "",
            "",
            "",
            (datetime(2026, 3, 6), "2026-03-06 00:00"),
            (Decimal("1.5"), "1.5"),
            "",
            (False, "FALSE"),
        ],
    ]
    assert [recipient.row for recipient in rows] == [2, 3]
    assert (people.blank_rows, rows[0].key, people.understanding.kind) == (1, "a@x.org", "pandas data frame")


def test_frames_with_wrong_labels():
    """Labels follow the rules of headings."""
    with pytest.raises(ListError) as caught:
        from_dataframe(pd.DataFrame([[1, 2]], columns=["Name", "name"]))
    assert caught.value.code == "D107"
    labels = pd.MultiIndex.from_tuples([("a", "b")])
    with pytest.raises(ListError) as caught:
        from_dataframe(pd.DataFrame([[1]], columns=labels))
    assert caught.value.hint


def test_frames_take_types_and_tell_the_column():
    """Types, defaults and problems work as for files."""
    people = from_dataframe(
        pd.DataFrame({"n": ["x", None, 3], 2026: ["a", "b", "c"]}),
        types={"n": "integer"},
        defaults={"n": "0"},
    )
    first, second, third = people
    assert [(d.code, d.place and d.place.cell) for d in first.problems] == [("D130", 'column "n"')]
    assert [facts(recipient.values) for recipient in (second, third)] == [[(0, "0"), "b"], [(3, "3"), "c"]]
    assert people.columns.names == ("n", "_2026")


def test_frames_may_hold_what_is_no_cell():
    """Infinity and objects are shown as Python writes them; they end no list."""
    odd = [float("inf"), Decimal("Infinity"), ("a", 1), Decimal("1.50")]
    rows = from_dataframe(pd.DataFrame({"x": pd.Series(odd, dtype=object)}))
    assert [facts(recipient.values) for recipient in rows] == [
        ["inf"],
        ["Infinity"],
        ["('a', 1)"],
        [(Decimal("1.50"), "1.50")],
    ]


# --- selections


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2-50,77", "2-50,77"),
        (" 77 , 2 - 50 ", "2-50,77"),
        ("2-5,4-9,10", "2-10"),
        ("3–4", "3-4"),
        ("100-", "100-"),
        ("2", "2"),
    ],
)
def test_selections_are_sorted_and_merged(text, shown):
    """A selection is shown in its shortest form."""
    assert str(parse_rows(text)) == shown


@pytest.mark.parametrize("text", ["", "a", "2,,3", "5-3", "1", "1-5", "0", "-5", "2..4", "²", "12345678"])
def test_selections_that_make_no_sense(text):
    """What names no row is refused with a hint."""
    with pytest.raises(CampaignFileError) as caught:
        parse_rows(text)
    assert (caught.value.code, bool(caught.value.hint)) == ("C430", True)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(2, 60), st.integers(0, 9)), min_size=1))
def test_selections_hold_what_they_name(pairs):
    """A row is in the selection exactly if one of the ranges names it."""
    selection = parse_rows(",".join(f"{first}-{first + more}" for first, more in pairs))
    named = {row for first, more in pairs for row in range(first, first + more + 1)}
    assert {row for row in range(80) if row in selection} == named
    assert parse_rows(str(selection)) == selection


# --- types


@pytest.mark.parametrize(
    ("spec", "cell", "fact"),
    [
        ("text", Decimal("1E-7"), "0.0000001"),
        ("text", date(2026, 3, 5), "2026-03-05"),
        ("text", datetime(2026, 3, 5, 14), "2026-03-05 14:00"),
        ("text", time(9, 5), "09:05"),
        ("text", Number(Decimal(716), "00716"), "00716"),
        ("integer", " +7 ", (7, "+7", "7")),
        ("integer", "007", (7, "007", "7")),
        ("integer", Number(Decimal(716), "00716"), (716, "00716", "716")),
        ("decimal", "1234.50", (Decimal("1234.50"), "1234.50", "1234.5")),
        ("decimal", "1e-7", (Decimal("1E-7"), "1e-7", "0.0000001")),
        ("decimal", 3, (3, "3", "3")),
        ("boolean", "Yes", (True, "Yes", "TRUE")),
        ("boolean", "Nein ", (False, "Nein", "FALSE")),
        ("boolean", "否", (False, "否", "FALSE")),
        ("boolean", 0, (False, "0", "FALSE")),
        ("boolean", True, (True, "TRUE", "TRUE")),
        ("date", "2026-03-05", (date(2026, 3, 5), "2026-03-05", "2026-03-05")),
        ("date", datetime(2026, 3, 5, 14), (date(2026, 3, 5), "2026-03-05", "2026-03-05 14:00")),
        ("date", date(2026, 3, 5), (date(2026, 3, 5), "2026-03-05", "2026-03-05")),
        ("date:%d.%m.%Y", "05.03.2026", (date(2026, 3, 5), "05.03.2026", "2026-03-05")),
        ("date:%d.%m.%Y", "2026-03-05", (date(2026, 3, 5), "2026-03-05", "2026-03-05")),
        ("date:%d.%m.%Y", datetime(2026, 3, 5, 14), (date(2026, 3, 5), "2026-03-05", "2026-03-05 14:00")),
        (
            "date:%d.%m.%Y %H:%M",
            "05.03.2026 14:30",
            (datetime(2026, 3, 5, 14, 30), "05.03.2026 14:30", "2026-03-05 14:30"),
        ),
    ],
)
def test_cells_that_fit(spec, cell, fact):
    """A cell that fits its type becomes a value of it, and is still shown as the list has it."""
    read = cell_type(spec, "c").read(cell if isinstance(cell, str) else value_of(cell))
    assert (read if isinstance(read, str) else (read.value, read.displayed, read.canonical)) == fact


@pytest.mark.parametrize(
    ("spec", "cell", "message"),
    [
        ("integer", "1,204", '"1,204" is not an integer'),
        ("integer", "1_0", '"1_0" is not an integer'),
        ("integer", "٣", '"٣" is not an integer'),
        ("integer", True, '"TRUE" is not an integer'),
        ("integer", Decimal("1.5"), '"1.5" is not an integer'),
        ("decimal", "1.234,50", '"1.234,50" is not a decimal number'),
        ("decimal", "nan", '"nan" is not a decimal number'),
        ("decimal", "1e9999", '"1e9999" is not a decimal number'),
        ("decimal", date(2026, 3, 5), '"2026-03-05" is not a decimal number'),
        ("decimal", "x" * 5000, f'"{"x" * 40}…" is not a decimal number'),
        ("boolean", "maybe", '"maybe" is not a yes or no'),
        ("date", "05/03/2026", '"05/03/2026" is not a date'),
        ("date", "10000-01-01", '"10000-01-01" is not a date'),
        ("date", 46086, '"46086" is not a date'),
        ("date:%d/%m/%Y", "31/02/2026", '"31/02/2026" is not a date'),
    ],
)
def test_cells_that_do_not_fit(spec, cell, message):
    """A cell that does not fit is told with what was wanted, never bent."""
    kind = cell_type(spec, "c")
    cell = cell if isinstance(cell, str) else value_of(cell)
    with pytest.raises(ValueError):
        kind.read(cell)
    told = kind.misfit(cell, Place(path="people.csv"), 2)
    assert (told.code, told.message, told.row, bool(told.hint)) == ("D130", message, 2, True)


@given(
    st.one_of(st.integers(), st.decimals(allow_nan=False, allow_infinity=False), st.dates(), st.booleans())
)
def test_text_of_a_value_reads_back(value):
    """What is written as text into failed.csv fits the column's type again."""
    spec = {int: "integer", Decimal: "decimal", date: "date", bool: "boolean"}[type(value)]
    assert cell_type(spec, "c").read(displayed(value)) == value


def test_snapshot_is_private_and_named_by_content(tmp_path):
    """The copy is readable by its owner only, and the same list gives the same name."""
    source = tmp_path / "people.CSV"
    source.write_bytes(b"email\na@x.org\n")
    folder = tmp_path / "state"
    folder.mkdir()
    copy = snapshot(source, folder)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert (copy.name, copy.read_bytes(), sha256(copy)) == (
        f"list-{digest[:12]}.csv",
        source.read_bytes(),
        digest,
    )
    made = copy.stat()
    assert (snapshot(source, folder), copy.stat().st_ino) == (copy, made.st_ino), "it is not made again"
    assert list(folder.iterdir()) == [copy]
    copy.write_bytes(b"email\nb@x.org\n")
    assert snapshot(source, folder).read_bytes() == source.read_bytes(), "unless it has become another one"
    source.write_bytes(b"email\nc@x.org\n")
    assert snapshot(source, folder).read_bytes() == source.read_bytes()
    assert len(list(folder.iterdir())) == 2
    if os.name == "posix":
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["~$people.xlsx", ".~lock.people.xlsx#"])
def test_a19_lock_files_are_told(tmp_path, name):
    """The mark that another program leaves beside an open workbook is not the workbook."""
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ListError) as caught:
        snapshot(tmp_path / name, tmp_path)
    assert (caught.value.code, caught.value.hint) == ("D125", "specify the workbook itself: people.xlsx")


def test_a19_missing_list(tmp_path):
    """A list that is not there is one clear error, and leaves nothing behind."""
    with pytest.raises(ListError) as caught:
        snapshot(tmp_path / "none.csv", tmp_path)
    assert caught.value.code == "D100"
    assert list(tmp_path.iterdir()) == []


def test_a19_list_changed_while_copied(tmp_path):
    """A list that another process writes to during the copy is refused."""
    source = tmp_path / "people.csv"
    source.write_bytes(b"email\n" + b"a@x.org\n" * 2_000_000)
    code = (
        "import sys, time\n"
        "with open(sys.argv[1], 'ab') as file:\n"
        "    print('writing', flush=True)\n"
        "    while True:\n"
        "        file.write(b'b@x.org\\n'); file.flush(); time.sleep(0.001)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, source], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout
            writer.stdout.readline()
            with pytest.raises(ListError) as caught:
                snapshot(source, tmp_path)
        finally:
            writer.kill()
    assert (caught.value.code, str(caught.value)) == ("D125", f"{source} changed while it was being read")
    assert list(tmp_path.iterdir()) == [source]


def test_every_kind_of_list_knows_about_how_many_rows_it_has(tmp_path):
    """Without parsing them: to judge how much room their plan will need."""
    rows = [{"email": f"p{n}@example.org", "name": "Ann"} for n in range(40)]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "list.csv", index=False)
    frame.to_excel(tmp_path / "list.xlsx", index=False)
    lists = [
        from_rows(rows),
        from_dataframe(frame),
        open_list(tmp_path / "list.csv"),
        open_list(tmp_path / "list.xlsx"),
    ]

    assert [one.about_rows() for one in lists] == [40, 40, 41, 41]
