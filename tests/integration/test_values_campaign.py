"""Values from list to message, preview and failed.csv: one text everywhere, and odd rows that fail alone."""

# ruff: noqa: DTZ001  the dates of a sheet have no time zone

from __future__ import annotations

import ast
import csv
import io
import json
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from email import message_from_bytes, policy
from functools import cache
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mailmerge
from mailmerge import Campaign
from mailmerge.errors import RowError
from mailmerge.model import Columns, Place, Recipient, Result, Status
from mailmerge.output_folder import OutputFolder
from mailmerge.preview.preview_page import Blobs, PageRow, StringTable, details, list_entry
from mailmerge.recipients import open_list
from mailmerge.recipients.types import cell_type
from mailmerge.render import MessageTemplates, Renderer, TemplateSource
from mailmerge.report.failed_rows import write_failed_text
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth, displayed, kind_of

PACKAGE = Path(mailmerge.__file__).parent


@cache
def workbook(rows):
    """Make a workbook, once for all tests."""
    book = openpyxl.Workbook()
    for row in rows:
        book["Sheet"].append(row)
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


@pytest.fixture
def campaign(tmp_path):
    """Make a campaign from a list (a string or the rows of a workbook) and a body."""

    def build(rows, text, toml=""):
        folder = tmp_path / "c"
        folder.mkdir(exist_ok=True)
        if isinstance(rows, str):
            (folder / "list.csv").write_text(rows, encoding="utf-8")
        else:
            (folder / "list.xlsx").write_bytes(workbook(tuple(map(tuple, rows))))
        name = "list.csv" if isinstance(rows, str) else "list.xlsx"
        (folder / "body.txt").write_text(text, encoding="utf-8")
        (folder / "campaign.toml").write_text(
            f'[data]\nsource = "{name}"\n{toml}\n'
            '[message]\nfrom = "Me <me@x.org>"\nsubject = "Hi"\ntext = "body.txt"\n',
            encoding="utf-8",
        )
        return Campaign.load(folder, environ={"MAILMERGE_STATE_DIR": str(tmp_path / "state")})

    return build


def addresses(campaign):
    """Return the addresses that messages would go to."""
    return [str(message.envelope.rcpt_to[0]) for message in campaign.messages()]


# --- one odd cell costs one row ----------------------------------------------------------------------------

HOSTILE = {
    "many digits": "9" * 4301,
    "too many to round": "12345678901234567890123456789.5",
    "exponent": "1e999999999",
    "comma": "1.234,50",
    "words": "n/a",
    "nothing": "",
    "not a number": "nan",
    "unicode": "٣٤",
}


@pytest.mark.parametrize(
    "body",
    [
        "{{ amount|int }}",
        "{{ amount|money('EUR') }}",
        "{{ amount|round }}",
        "{{ amount|float * 2 }}",
        "{{ amount|float ** 99999 }}",
        "{{ '%.2f' % (amount|float) }}",
        "{{ range(amount|int)|list|length }}",
        "{{ '-' * (amount|int) }}",
        "{% if amount > 5 %}x{% endif %}y",
        "{% if 5 < amount %}x{% endif %}y",
        "{% for part in amount.split(';') %}{{ part|round }}{% endfor %}",
    ],
)
def test_an_odd_text_costs_its_row_only(campaign, body):
    """Whatever a cell of a text list contains, its row is invalid and the one after it is made."""
    rows = "".join(
        f'odd{number}@x.org,"{cell}"\nfine{number}@x.org,7\n' for number, cell in enumerate(HOSTILE.values())
    )
    found = campaign(f"email,amount\n{rows}", body.replace("part|round", "part|int")).check()
    odd = [group for group in found.problems if group.first.row is not None]
    assert all(group.count == len(group.rows) for group in odd)  # none is left out
    invalid = {row for group in odd for row in group.rows}
    number_of = {name: 2 + 2 * number for number, name in enumerate(HOSTILE)}
    # A number of many digits may be compared and cut.
    missing = {name for name, row in number_of.items() if row not in invalid}
    assert missing <= {"many digits", "too many to round"}
    assert invalid <= set(number_of.values())
    ready = 2 * len(HOSTILE) - len(invalid)
    assert (found.statuses[Status.INVALID], found.ready) == (len(invalid), ready)
    problems = [group.first for group in odd]
    assert {problem.code for problem in problems} <= {"D114", "D117"}
    wrong = [p.message for p in problems if "amount" not in p.message and "value in" not in p.message]
    assert wrong == []


@pytest.mark.parametrize(
    "cell",
    [
        1e300,
        -1e300,
        1e-300,
        datetime(9999, 12, 31, 23, 59, 59),
        date(1900, 1, 1),
        time(0),
        "x",
        True,
    ],
)
@pytest.mark.parametrize(
    ("body", "fine"),
    [
        ("{{ n|money('EUR') }}", 7),
        ("{{ n * n * n }}", 7),
        ("{{ 2 ** n }}", 7),
        ("{{ n|round(2) }}", 7),
        ("{{ '%d' % n }}", 7),
        ("{{ n|date }}", date(2026, 3, 5)),
        ("{{ n + (n - n) }}{{ n.year }}", date(2026, 3, 5)),
        ("{% if n == day %}x{% endif %}y", date(2026, 3, 5)),
    ],
)
def test_an_odd_cell_of_a_workbook_costs_its_row_only(campaign, cell, body, fine):
    """Huge numbers, the last of all days, texts among dates: never a traceback, never the whole campaign."""
    rows = [["email", "n"], ["odd@x.org", cell], ["fine@x.org", fine]]
    made = campaign(rows, body, "[vars]\nday = 2026-03-05\n")
    found = made.check()
    assert found.ready >= 1
    assert found.ready + found.statuses[Status.INVALID] == 2
    assert {group.first.code for group in found.problems if group.first.row} <= {
        "D113",
        "D114",
        "D117",
        "D116",
    }


def test_where_goes_on_after_a_row_it_cannot_judge(campaign):
    """A cell that is not a number is one invalid row, with its column; the others are selected or skipped."""
    made = campaign("email,n\na@x.org,5\nb@x.org,soon\nc@x.org,50\n", "Hello", "where = 'n > 10'")
    found = made.check()
    assert [found.statuses[status] for status in (Status.SKIPPED, Status.INVALID, Status.PENDING)] == [
        1,
        1,
        1,
    ]
    [problem] = [group.first for group in found.problems if group.first.row == 3]
    assert (problem.code, problem.message) == ("D117", '`n` is not a number: "soon"')
    assert addresses(made) == ["c@x.org"]


@pytest.mark.parametrize("where", ["opted_out != 'TRUE'", "not opted_out", "opted_out == false"])
def test_who_opted_out_gets_nothing(campaign, where):
    """A sheet's TRUE is the text TRUE, in any spelling of the condition."""
    rows = [["email", "opted_out"], ["in@x.org", False], ["out@x.org", True]]
    assert addresses(campaign(rows, "Hello", f'where = "{where}"')) == ["in@x.org"]


def test_what_cannot_be_compared_gets_nothing(campaign):
    """A condition that a cell only seems to miss leaves its row out, and says so."""
    rows = [["email", "opted_out"], ["in@x.org", False], ["out@x.org", True]]
    made = campaign(rows, "Hello", "where = \"opted_out != 'yes'\"")
    assert addresses(made) == ["in@x.org"]
    assert made.check().statuses[Status.INVALID] == 1


# --- one text for a cell ------------------------------------------------------------------------------------

CELLS = {
    "truth": True,
    "lie": False,
    "small": 0.0000001,
    "whole": 1234.0,
    "sum": 0.1 + 0.2,
    "day": date(2026, 3, 5),
    "moment": datetime(2026, 3, 5, 9, 30),
    "second": datetime(2026, 3, 5, 9, 30, 5),
    "clock": time(9, 30),
    "spent": timedelta(hours=26, minutes=30),
    "zip": "00716",
    "name": 'Müller; "Jörg"',
}
BODY = (
    "{% for name, cell in row.items() %}{{ name }}={{ cell }}/{{ cell ~ '' }}/{{ cell|upper }};{% endfor %}"
    "{{ 'member' if truth else 'guest' }} {{ 'member' if lie else 'guest' }} "
    "{{ truth == 'TRUE' }} {{ day == '2026-03-05' }}"
)


def render(recipients, text):
    """Render a body over every row."""
    templates = MessageTemplates(
        base=Path(),
        from_="me@example.org",
        to=("{{ email }}",),
        subject="{{ email }}",
        text=TemplateSource("message.text", source=text),
    )
    renderer = Renderer(templates, recipients.columns)
    return ["".join(renderer.render(recipient).text or ()) for recipient in recipients]


def test_failed_csv_gives_back_what_the_sheet_shows(tmp_path):
    """The list of failed rows, used as a list, makes the same texts as the workbook that they come from."""
    book = openpyxl.Workbook()
    book["Sheet"].append(["email", *CELLS])
    book["Sheet"].append(["a@x.org", *CELLS.values()])
    book.save(tmp_path / "list.xlsx")
    people = open_list(tmp_path / "list.xlsx")
    result = Result(2, "a@x.org", "a@x.org", Status.REJECTED)
    rows = [(cells, result, "abc") for _, cells in people.originals({2})]

    assert write_failed_text(OutputFolder(tmp_path), people.columns.headings, rows) == 1

    failed = open_list(tmp_path / "failed.csv")
    assert render(failed, BODY) == render(people, BODY)
    assert "0.0000001/0.0000001" in render(failed, BODY)[0]
    assert "member guest TRUE TRUE" in render(failed, BODY)[0]
    [was], [comes] = people, failed
    assert [displayed(cell) for cell in comes.values] == [displayed(cell) for cell in was.values]


def cells(kind, values):
    """Make cells with a displayed text of their own, as formats will give them."""
    return st.builds(
        kind, values, st.one_of(st.none(), st.text("abcXYZ019.,-/ é€", min_size=1).filter(str.strip))
    )


@given(
    st.one_of(
        cells(
            Number, st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20)
        ),
        cells(Date, st.dates()),
        cells(DateTime, st.datetimes()),
        cells(Time, st.times()),
        cells(Duration, st.timedeltas()),
        cells(Truth, st.booleans()),
    )
)
def test_a_cell_has_one_text_everywhere(tmp_path_factory, cell):
    """Message, preview, failed.csv and diagnostics show a cell in the very same way."""
    shown = cell.displayed
    folder = tmp_path_factory.mktemp("one")
    columns = Columns(("email", "x"), ("email", "x"))
    recipient = Recipient(2, columns, ("a@x.org", cell))
    templates = MessageTemplates(
        base=Path(),
        from_="me@example.org",
        to=("{{ email }}",),
        subject="[{{ x }}]",
        text=TemplateSource(
            "message.text", source="{{ x }}|{{ x ~ '' }}|{{ x|string }}|{{ '%s' % x }}|{{ [x]|join }}"
        ),
        headers=(("X-Cell", "[{{ x }}]"),),
    )
    rendered = Renderer(templates, columns).render(recipient)
    page = PageRow(Result(2, "a@x.org", "a@x.org", Status.PENDING), recipient)
    write_failed_text(
        OutputFolder(folder),
        columns.headings,
        [(recipient.values, Result(2, "k", "a", Status.REJECTED), "abc")],
    )
    with (folder / "failed.csv").open(encoding="utf-8-sig", newline="") as file:
        failed = list(csv.reader(file))[1][1]
    said = cell_type("date:%d/%m/%Y", "x").misfit(cell, Place(path="list.xlsx"), 2).message

    assert "".join(rendered.text or ()).split("|") == [shown] * 5
    assert rendered.subject == f"[{re.sub(' {2,}', ' ', shown.strip())}]"  # a subject has no runs of spaces
    assert rendered.headers[0][1] == f"[{shown.strip()}]"
    assert list_entry(page)[-1][1] == shown[:160]
    assert json.loads(json.dumps(details(page, StringTable(), Blobs(lambda *_: None))))["types"][1] != "text"
    assert failed == shown
    assert said.startswith(f'"{shown[:40]}')


def test_the_same_cells_make_the_same_digest():
    """A cell's kind and format are not part of its identity: 1 is 1.00, TRUE is the text TRUE."""
    columns = Columns(("a", "b"), ("a", "b"))
    rows: list[Any] = [
        (Number(Decimal("1.00"), "1,00 €"), Truth(True, "Ja")),
        (Number(Decimal(1)), Truth(True)),
        (1, True),
        ("1", "TRUE"),
    ]
    assert len({Recipient(2, columns, row).digest() for row in rows}) == 1
    assert Recipient(2, columns, ("1", "FALSE")).digest() != Recipient(2, columns, ("1", "TRUE")).digest()


def test_no_other_place_turns_a_cell_into_text():
    """Outside of the package for values nothing writes dates, truths or decimals of a cell by itself."""
    found = []
    for area in ("recipients", "render", "preview", "message", "check"):
        for path in sorted((PACKAGE / area).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in {"isoformat", "strftime"}:
                    found.append((path.stem, node.attr))
                elif isinstance(node, ast.Constant) and node.value in {"TRUE", "FALSE", "True", "False"}:
                    found.append((path.stem, node.value))
                elif isinstance(node, ast.FormattedValue) and ast.unparse(node).endswith(":f}'"):
                    found.append((path.stem, ":f"))
                elif isinstance(node, ast.Call) and ast.unparse(node) in SPELT:
                    found.append((path.stem, ast.unparse(node)))
    assert set(found) <= ALLOWED


SPELT = {
    "str(cell)",
    "str(value)",
    "map(str, cells)",
    "map(str, recipient.values)",
    "map(str, values)",
    "repr(cell)",
}
ALLOWED = {
    ("cells", "str(value)"),  # what openpyxl gives: errors, texts, times for a message
    ("dataframe", "str(cell)"),  # objects that are not cells
    ("types", "strftime"),  # an example of a date format, for a message
    ("failures", "str(value)"),  # what is not a cell
    ("builtins", "str(value)"),  # raises what an undefined name raises; a value as the option of a filter
    ("filters", "str(value)"),  # the same
    ("diagnostics", "str(value)"),  # what is written to a GitHub annotation
}


def test_kinds_of_cells_in_a_workbook():
    """Every type of `CELLS` is met: the tests above leave none out."""
    kinds = {kind_of(value) for value in CELLS.values()}
    assert kinds == {str, Number, Date, DateTime, Time, Duration, Truth}


def test_an_error_names_the_column_in_any_expression():
    """To, subject, headers and attachments name row and column as the body does."""
    columns = Columns(("email", "due"), ("email", "due"))
    recipient = Recipient(7, columns, ("a@x.org", Date(date(2026, 3, 5))))
    body = TemplateSource("message.text", source="-")
    for options in (
        {"to": ("{{ 'b@x.org' if due > 5 else email }}",)},
        {"subject": "{{ due > 5 }}"},
        {"headers": (("X-Due", "{{ due > 5 }}"),)},
        {"locale": "{{ 'de' if due > 5 else 'en' }}"},
        {"cc": ("{{ 'b@x.org' if due > 5 else email }}",)},
    ):
        given_: dict[str, Any] = {"to": ("{{ email }}",), "subject": "-", **options}
        renderer = Renderer(MessageTemplates(base=Path(), from_="me@x.org", text=body, **given_), columns)
        with pytest.raises(RowError) as caught:
            renderer.render(recipient)
        assert caught.value.message == "`due` is a date and cannot be compared with a number"
        assert (caught.value.code, caught.value.row) == ("D117", 7)


# --- number formats -------------------------------------------------------------------------------------


def formatted(folder: Path, body: str, **cells: tuple[object, str]) -> Campaign:
    """Make a campaign of a workbook with one row: a value and a number format for each column."""
    book = openpyxl.Workbook()
    sheet = book["Sheet"]
    sheet.append(["email", *cells])
    sheet.append(["a@x.org", *(value for value, _ in cells.values())])
    for column, (_, code) in enumerate(cells.values(), 2):
        sheet.cell(2, column).number_format = code
    book.save(folder / "list.xlsx")
    (folder / "body.txt").write_text(body, encoding="utf-8")
    (folder / "campaign.toml").write_text(
        '[data]\nsource = "list.xlsx"\n'
        '[message]\nfrom = "Me <me@x.org>"\nsubject = "Hi"\ntext = "body.txt"\n',
        encoding="utf-8",
    )
    return Campaign.load(folder, environ={"MAILMERGE_STATE_DIR": str(folder / "state")})


def body_of(message: mailmerge.Message) -> str:
    """Read the text of a message, without the line end that it has at the end."""
    made = message_from_bytes(b"".join(message.segments), policy=policy.default)
    return str(made.get_content()).strip()


def test_a_letter_has_what_the_sheet_shows(tmp_path):
    """Zip codes, money, dates, shares, times and hours are written as in the sheet; values stay values."""
    made = formatted(
        tmp_path,
        "{{ zip }}|{{ amount }}|{{ due }}|{{ rate }}|{{ start }}|{{ hours }}|{{ paid }}|"
        "{{ amount + 1 }}|{{ rate|number }}|{% if rate < 0.5 and zip == '00716' %}low{% endif %}",
        zip=(716, "00000"),
        amount=(1234.5, '[$-407]#,##0.00 "€"'),
        due=(datetime(2026, 3, 5), "dd.mm.yyyy"),
        rate=(0.256, "0%"),
        start=(0.6041666666666666, "h:mm AM/PM"),
        hours=(1.086805555555556, "[h]:mm"),
        paid=(True, "General"),
    )
    [message] = made.plan().messages()
    assert body_of(message) == "00716|1.234,50 €|05.03.2026|26%|2:30 PM|26:05|TRUE|1235.5|0.256|low"


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ("{{ due }}", ["D173"]),
        ("{{ due ~ '!' }}", ["D173"]),
        ('{{ row["due"] }}', ["D173"]),
        ("{% for name in row %}{{ row[name] }}{% endfor %}", ["D173"]),
        ("{{ due|date }}", []),
        ("{% if due < day %}soon{% endif %}{{ 'late' if due > day }}", []),
        ("{% if due %}soon{% endif %}", []),
        ("nothing", []),
    ],
)
def test_the_date_format_of_the_computer_is_told_where_it_is_written(tmp_path, body, codes):
    """What another computer shows in another order is told, unless the template only uses the value."""
    made = formatted(tmp_path, body.replace("day", '"2026-12-31"'), due=(46086, "mm-dd-yy"))
    assert [group.first.code for group in made.check().problems if group.first.code == "D173"] == codes


@pytest.mark.parametrize(("days", "codes"), [(1, ["D172"]), (60, ["D172"]), (-5, ["D172"]), (61, [])])
def test_dates_that_programs_count_differently_are_told(tmp_path, days, codes):
    """Excel counts a 29 February 1900 that was not: dates before it are told, whatever is made of them."""
    made = formatted(tmp_path, "{{ born|date }}", born=(days, "dd.mm.yyyy"))
    assert [group.first.code for group in made.check().problems if group.first.code == "D172"] == codes


def test_a_format_that_is_not_understood_is_told(tmp_path):
    """Its numbers are written as without a format, and a person is told so with an example."""
    made = formatted(tmp_path, "{{ number }}", number=(12.5, "[DBNum2]0"))
    [found] = [group.first for group in made.check().problems if group.first.code == "D170"]
    reason = "[DBNum2]0 contains [DBNum2] and names no language"
    assert found.message == f'"number" has a number format that is not understood: {reason}'
    assert "(12.5)" in str(found.hint)


@pytest.mark.parametrize(
    ("code", "second", "shown"),
    [
        ("YYYY-MM-DD HH:MM:SS", datetime(2026, 12, 31), "2026-03-05"),
        ("YYYY-MM-DD HH:MM:SS", datetime(2026, 12, 31, 9, 30), "2026-03-05 00:00:00"),
        ("yyyy-mm-dd h:mm:ss", datetime(2026, 12, 31), "2026-03-05"),
        ("yyyy-mm-dd h:mm:ss", datetime(2026, 12, 31, 9, 30), "2026-03-05 0:00:00"),
        ("dd.mm.yyyy hh:mm", datetime(2026, 12, 31), "05.03.2026 00:00"),
        ("dd.mm.yyyy hh:mm:ss", datetime(2026, 12, 31), "05.03.2026 00:00:00"),
    ],
)
def test_dates_of_pandas_and_openpyxl_have_no_time(tmp_path, code, second, shown):
    """A column in which 00:00:00 follows every date has dates; one with a time, or of another form, not."""
    made = formatted(tmp_path, "{{ joined }}", joined=(datetime(2026, 3, 5), code))
    book = openpyxl.load_workbook(tmp_path / "list.xlsx")
    book["Sheet"].append(["b@x.org", second])
    book["Sheet"]["B3"].number_format = code
    book.save(tmp_path / "list.xlsx")
    assert body_of(next(made.plan().messages())) == shown
