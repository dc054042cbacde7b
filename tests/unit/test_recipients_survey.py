"""What only the whole list shows: types of columns, spaces at the ends of cells, junk."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mailmerge.model import Severity
from mailmerge.plan.rows import Spool
from mailmerge.plan.sqlite_store import SqlitePlanWriter
from mailmerge.recipients import from_rows, open_list
from mailmerge.recipients.list_survey import ListSurvey, typed_rows
from mailmerge.text import trimmed
from mailmerge.values import Number, displayed
from memory_plan import MemoryPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mailmerge.plan.store import PlanWriter
    from mailmerge.recipients import RecipientList
    from mailmerge.recipients.list_survey import Surveyed
    from mailmerge.values import Cell

MADE = datetime(2026, 11, 27, tzinfo=UTC)


def survey(recipients: RecipientList, *read: str, block: int = 2) -> Surveyed:
    """Survey a list, of which templates read these columns; all of them where none is named."""
    found = ListSurvey(recipients, frozenset(read or recipients.columns.names))
    rows = list(recipients)
    for start in range(0, len(rows), block):
        some = rows[start : start + block]
        found.add([recipient.row for recipient in some], [recipient.values for recipient in some])
    return found.finish()


def settled(recipients: RecipientList, *read: str) -> list[tuple[Cell, ...]]:
    """Return the cells of all rows as they are made."""
    return [recipient.values for recipient in survey(recipients, *read).settled(recipients)]


def people(**columns: Sequence[object]) -> RecipientList:
    """Make a list with an address for each row."""
    rows = zip(*columns.values(), strict=True)
    return from_rows(
        {"email": f"p{n}@example.org", **dict(zip(columns, row, strict=True))} for n, row in enumerate(rows)
    )


# --- spaces at the ends --------------------------------------------------------------------------------

NOBODY_SEES = (
    " \t\r\n\x0b\u00a0\u202f\u2009\u3000\u2028\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u061c\u180e"
)


@pytest.mark.parametrize("mark", NOBODY_SEES, ids=lambda mark: f"U+{ord(mark):04X}")
def test_what_nobody_sees_is_taken_off_the_ends_of_a_text(mark: str) -> None:
    """Spaces of all kinds and marks without width are removed at both ends, and stay inside."""
    assert trimmed(f"{mark}{mark}Jo{mark}rg{mark}") == f"Jo{mark}rg"
    assert trimmed(mark) == ""


def test_marks_of_direction_stay_in_pairs() -> None:
    """A part that is embedded keeps its end, also where that is the end of the text."""
    assert trimmed("\u2067דנה\u2069 ") == "דנה"
    assert trimmed("ACME (\u2067דנה\u2069") == "ACME (\u2067דנה\u2069"


def test_trimmed_cells_are_counted_in_the_columns_that_are_read() -> None:
    """Each cell counts once, blank cells too; columns that nothing reads do not count."""
    found = survey(
        people(name=["Ana\u00a0", "Bob", " Cy "], city=[" Rome", "Oslo", "\u200b"], note=["x ", "y ", "z "]),
        *("name", "city"),
    )
    assert found.trimmed == 4


# --- one type a column -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "kinds"),
    [
        ([1234.5, "n/a", "1,5", None], [str, str, str, str]),
        ([1234.5, 7, "1.5", "n/a"], [Number, Number, Number, str]),
        ([7, "1.5"], [Number, Number]),
        ([7, 8, 9], [Number, Number, Number]),
        (["7", "x", ""], [str, str, str]),
    ],
)
def test_texts_and_numbers_in_a_column_are_read_as_what_most_are(cells, kinds) -> None:
    """No row of a column is reckoned with alone; what a reader of the list sees stays the same."""
    recipients = people(amount=cells)
    found = [row[1] for row in settled(recipients)]
    assert [type(cell) for cell in found] == kinds
    assert [displayed(cell) for cell in found] == [displayed(row.values[1]) for row in recipients]


@pytest.mark.parametrize("cells", [["45.80", "12.50"], ["12.50", "45.80"], ["12.50", "45.80", "12.50"]])
def test_amounts_that_may_not_all_be_times_are_numbers_in_any_order(cells) -> None:
    """One amount that is not a time of day decides, wherever it is among those that may be one."""
    assert [type(row[1]) for row in settled(people(amount=cells))] == [Number] * len(cells)


def test_what_was_decided_of_a_mixed_column_is_noted() -> None:
    """Both types are named with their first cells."""
    (note,) = survey(people(amount=[1234.5, "n/a", "1,5"])).notes
    assert note == (
        'amount has 1 cell of the type number ("1234.5" in row 2) and 2 cells of the type text '
        '("n/a" in row 3, "1,5" in row 4): each is read as text'
    )


def test_dates_and_numbers_in_a_column_are_a_warning() -> None:
    """A date that is shown as a number would print as one."""
    found = survey(people(due=[MADE, 45000, MADE]))
    assert [(one.code, one.row) for one in found.findings] == [("D264", None)]
    assert "1 cell of the type number" in found.findings[0].message


@pytest.mark.parametrize("options", [{"types": {"n": "text"}}, {"key": "n"}])
def test_a_declared_type_and_a_key_are_not_decided_anew(options: Mapping[str, object]) -> None:
    """The campaign has said what they are, and a key is what it is."""
    recipients = from_rows([{"n": 1}, {"n": "x"}], **options)  # type: ignore[arg-type]
    assert not survey(recipients).notes


def test_columns_that_nothing_reads_do_not_matter() -> None:
    """Whatever is in them, nothing is said and nothing changes."""
    recipients = people(amount=[1, "x", "y"])
    assert survey(recipients, "email").notes == ()
    assert [type(row[1]) for row in settled(recipients, "email")] == [Number, str, str]


def test_a_template_that_goes_through_the_row_reads_every_column() -> None:
    """Its headings are not known before it runs."""
    assert survey(people(amount=[1, "x", "y"]), "email", "row").notes


def test_the_size_of_blocks_changes_nothing(tmp_path: Path) -> None:
    """However the rows come in, the same is found."""
    path = tmp_path / "list.csv"
    path.write_text("email,name\n" + "".join(f"p{n}@x.org, N{n % 3}\u200b\n" for n in range(50)))
    recipients = open_list(path)
    assert len({repr(survey(recipients, block=size)) for size in (1, 7, 50)}) == 1


# --- rows that wait ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "writer", [lambda folder: SqlitePlanWriter(folder / "p", MADE), lambda _: MemoryPlan("p", MADE)]
)
@pytest.mark.parametrize("in_memory", [0, 8, 1000])
def test_rows_come_back_as_they_were(writer: Callable[[Path], PlanWriter], in_memory: int, tmp_path) -> None:
    """Rows that wait in memory and in a file come back in the same order with the same cells."""
    recipients = people(amount=[1, "x", "\ud800", MADE, None, True, "y" * 70_000])
    rows = list(recipients)
    with writer(tmp_path / "plans") as opened:
        spool = Spool(opened, recipients.columns, in_memory=in_memory)
        for start in range(0, len(rows), 3):
            spool.add(rows[start : start + 3])
        assert list(spool) == rows
        assert spool.rows == len(rows)
        assert bool(spool._blocks) == (in_memory == 1000), "rows that are in the file are not in memory, too"
    assert not list(tmp_path.rglob("*.rows"))


# --- junk ----------------------------------------------------------------------------------------------

ROLES = {"email": "as an address in To", "name": "in the greeting"}


def junk(recipients: RecipientList) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the warnings about the whole, and the rows that are invalid, with their codes."""
    found = ListSurvey(recipients, frozenset(recipients.columns.names))
    rows = list(recipients)
    found.add([recipient.row for recipient in rows], [recipient.values for recipient in rows])
    surveyed = found.finish(lambda: ROLES)
    assert all(one.severity is Severity.WARNING and one.row is None for one in surveyed.findings)
    invalid = [(one.row, one.problems[0].code) for one in surveyed.settled(rows) if one.problems]
    return [one.message for one in surveyed.findings], invalid


def test_junk_in_a_greeting_makes_its_row_invalid() -> None:
    """One row each, with or without spaces at the ends; the others go out, and the list gets no warning."""
    assert junk(people(name=["Ana", "#REF! ", "JÃ¶rg", "Bob"])) == ([], [(3, "D255"), (4, "D258")])


def test_junk_elsewhere_is_a_warning_with_its_count_and_first_cells() -> None:
    """No row is invalid."""
    said, invalid = junk(people(city=["#NV", "Rome", "#NV", "#WERT!", "#NV"]))
    assert invalid == []
    named = '"#NV" in row 2, "#NV" in row 4, "#WERT!" in row 5, ...'
    assert said == [f'4 cells of the column "city" contain the error of a formula: {named}']


@pytest.mark.parametrize("word", ["Null", "None", "nan", "NULL", "NaT"])
def test_an_empty_value_is_an_error_where_rows_repeat_it(word: str) -> None:
    """People are called so: one is warned of, and two with the very same text are invalid."""
    said, invalid = junk(people(name=["Ana", word, "Bob"]))
    assert (len(said), invalid) == (1, [])
    said, invalid = junk(people(name=["Ana", word, word, "null" if word != "null" else "nil"]))
    assert (len(said), invalid) == (1, [(3, "D256"), (4, "D256")])


def test_the_type_text_accepts_what_may_be_meant() -> None:
    """A damaged text is damaged all the same."""
    rows = [{"name": text} for text in ("Null", "Null", "{x}", "1.38E+10", "M&uuml;ller", "#REF!", "JÃ¶rg")]
    assert junk(from_rows(rows, types={"name": "text"})) == ([], [(7, "D255"), (8, "D258")])


def test_columns_that_nothing_reads_have_no_junk() -> None:
    """Whatever is in them."""
    recipients = people(name=["Ana"], note=["#REF!"])
    assert survey(recipients, "email", "name").findings == ()


def test_a_column_that_is_damaged_as_a_whole_refuses_the_list() -> None:
    """More different damaged texts than are remembered: no row of it can be trusted."""
    recipients = people(name=[f"JÃ¶rg {n}" for n in range(10_002)])
    found = ListSurvey(recipients, frozenset(recipients.columns.names))
    rows = list(recipients)
    found.add([recipient.row for recipient in rows], [recipient.values for recipient in rows])
    (error,) = found.finish(lambda: ROLES).findings
    assert (error.code, error.severity, error.row) == ("D258", Severity.ERROR, None)


def test_numbers_that_a_workbook_rounded_are_named() -> None:
    """A cell of a workbook keeps 15 digits; a number of a program has all of its own."""
    recipients = people(card=[4111111111111110, 12])
    assert survey(recipients).findings == ()
    recipients.sheet = "People"
    assert [one.code for one in survey(recipients).findings] == ["D257"]


# --- numbers as a locale writes them ---------------------------------------------------------------------


def test_numbers_of_a_text_column_are_found_and_stated() -> None:
    """All rows are read in the notation that fits all of them, and print as they were written."""
    recipients = people(amount=["1.234,50", "12,00", ""], zip=["01067", "80331", "80333"])
    found = survey(recipients)
    assert found.notes == ('amount is read as numbers, as de writes them: "1.234,50" in row 2',)
    cells = [recipient.values[1] for recipient in found.settled(recipients)]
    assert [displayed(cell) for cell in cells] == ["1.234,50", "12,00", ""]
    assert str(getattr(cells[0], "value", None)) == "1234.50"
    assert [row.digest() for row in found.settled(recipients)] == [row.digest() for row in recipients]


def test_a_doubtful_column_stays_text_and_that_is_said() -> None:
    """1.234 is a thousand or one: nobody can tell from the column."""
    (note,) = survey(people(amount=["1.234", "$5.678"])).notes
    assert note.startswith("amount is read as text: ")


def test_a_key_is_never_read_as_a_number() -> None:
    """It is what it is."""
    recipients = from_rows([{"n": "1,50"}, {"n": "2,50"}], key="n")
    assert survey(recipients).notes == ()


def test_rows_that_are_made_alone_have_the_types_of_the_whole_list(tmp_path: Path) -> None:
    """The first row is a number because all others are, or text because the last is not a number."""
    path = tmp_path / "list.csv"
    rows = "".join(f"p{n}@x.org,1.{n % 1000:03},50\n".replace(",50", ',"7,50"') for n in range(1500))
    for last, kind in (('"8,50"', Number), ("none", str)):
        path.write_text(f"email,ref,amount\n{rows}z@x.org,1,{last}\n")
        first = next(iter(typed_rows(open_list(path), frozenset({"email", "amount"}))))
        assert type(first.values[2]) is kind


def test_mistyped_domains_are_named_with_their_cells() -> None:
    """One warning for each, with what was meant; no row is invalid."""
    rows = [{"email": address} for address in ("a@gmail.com", "b@Gmial.com", "c@example.org", "d@gmial.com")]
    found = survey(from_rows(rows)).findings
    assert [(one.code, one.message) for one in found] == [
        ("D263", '2 addresses at gmial.com: "b@Gmial.com" in row 3, "d@gmial.com" in row 5')
    ]
    assert found[0].hint is not None
    assert found[0].hint.startswith("did you mean gmail.com?")
