"""D. Hostile templates, expressions, files and cells: each is explained, and nothing else suffers."""

from __future__ import annotations

import csv
import io
import shutil
import time
import zipfile
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mailmerge.cli import cli
from mailmerge.errors import InputError, ListError, MailmergeError
from mailmerge.model import Status
from mailmerge.recipients import open_list

if TYPE_CHECKING:
    from campaigns import CampaignFactory
    from mailmerge import Campaign

DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("name|nofilter", "C433"),
        ("name is notest", "C433"),
        ("(" * 3000 + "1" + ")" * 3000, "C433"),
        ("not " * 3000 + "true", "C433"),
        (" or ".join(["name == 'a'"] * 3000), "C433"),
        ("name" + ".a" * 3000, "C433"),
        (f"{DIGITS} > 1", "C433"),
    ],
    ids=["filter", "test", "parentheses", "not", "or", "dots", "digits"],
)
def test_d6_an_expression_that_cannot_be_used_is_told(
    campaign_factory: CampaignFactory, where: str, code: str
) -> None:
    """An unknown filter, and what is too deep or too long for Python's compiler."""
    campaign = campaign_factory()
    campaign = type(campaign).load(
        campaign_factory.folder, {"data.where": where}, environ=campaign_factory.environ
    )

    with pytest.raises(MailmergeError) as caught:
        campaign.check()
    assert (caught.value.code, caught.value.exit_code) == (code, 2)


TEMPLATES = {
    "if": ("{% if name %}" * 500 + "x" + "{% endif %}" * 500, "T107"),
    "for": ("{% for a in [1] %}" * 30 + "x" + "{% endfor %}" * 30, "T107"),
    "parentheses": ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "T107"),
    "lists": ("{{ " + "[" * 2000 + "]" * 2000 + " }}", "T107"),
    "filters": ("{{ name" + "|upper" * 3000 + " }}", "T107"),
    "sum": ("{{ 1" + " + 1" * 5000 + " }}", "T107"),
    "digits": ("{{ " + DIGITS + " }}", "T108"),
}


@pytest.mark.parametrize("included", [False, True])
@pytest.mark.parametrize("case", TEMPLATES)
def test_d6_a_template_that_cannot_be_compiled_is_told(
    campaign_factory: CampaignFactory, case: str, included: bool
) -> None:
    """Also where another one includes it: with its file, and with the problems of the others."""
    text, code = TEMPLATES[case]
    files = {"part.txt": text, "body.txt": "{% include 'part.txt' %}"} if included else {"body.txt": text}
    campaign = campaign_factory(files)

    with pytest.raises(InputError) as caught:
        campaign.check()
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert caught.value.place is not None
    assert str(caught.value.place.path).endswith("part.txt" if included else "body.txt")


@pytest.mark.parametrize(
    "toml",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "{a=" * 3000 + "1" + "}" * 3000,
        "a" + ".a" * 20_000 + " = 1",
        "[" + "a." * 20_000 + "a]\n",
        f"a = {DIGITS}",
        "a = '" + "x" * (5 << 20) + "'",
    ],
    ids=["arrays", "tables", "key", "heading", "digits", "size"],
)
def test_d6_a_campaign_file_that_cannot_be_read_is_told(campaign_factory: CampaignFactory, toml: str) -> None:
    """In words, and soon."""
    campaign_factory()
    path = campaign_factory.folder / "campaign.toml"
    path.write_text(f"{toml}\n{path.read_text()}" if toml[0] != "[" else path.read_text() + toml)

    with pytest.raises(MailmergeError) as caught:
        campaign_factory.open()
    assert caught.value.code in {"C403", "C407"}
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", ["[" * 5000, DIGITS, "{a=" * 3000, "a." * 20_000])
def test_d6_a_setting_that_cannot_be_read_is_told(campaign_factory: CampaignFactory, value: str) -> None:
    """On the command line: exit 2, no traceback."""
    campaign_factory()
    done = CliRunner().invoke(
        cli, ["check", str(campaign_factory.folder), "--set", f"send.sessions={value}"], standalone_mode=False
    )

    assert isinstance(done.exception, MailmergeError)
    assert done.exception.exit_code == 2


LONG = {
    "width of %": "{{ '%999999999d' % 1 }}",
    "width of |format": "{{ '%999999999s'|format(name) }}",
    "precision": "{{ '%.999999999f' % 1 }}",
    "width from a cell": "{{ '%*d' % (x|int, 1) }}",
    "format": "{{ '{:999999999}'.format(1) }}",
    "format from a cell": "{{ '{:{}}'.format(name, x|int) }}",
    "center": "{{ name.center(x|int) }}",
    "|center": "{{ name|center(x|int) }}",
    "ljust": "{{ name.ljust(x|int) }}",
    "zfill": "{{ name.zfill(x|int) }}",
    "expandtabs": "a{{ '\\t'.expandtabs(900000000 if name == 'Bo' else 3) }}",
    "|indent": "{{ name|indent(x|int, true) }}",
    "replace": "{{ y.replace('', y) }}",
    "|replace": "{{ y|replace('a', y) }}",
    "join": "{{ y.join(y|list) }}",
    "|join": "{{ y|list|join(y) }}",
    "times": "{{ 'Bo' * (x|int) }}",
    "batch": "{{ [1]|batch(x|int, name)|list|length }}",
    "slice": "{{ [1]|slice(x|int)|list|length }}",
    "tojson": "{{ [1]|tojson(x|int) }}",
    "round": "{{ 5|round(0 - (x|int)) }}",
    "lipsum": "{{ lipsum(x|int) }}",
    "words of lipsum": "{{ lipsum(1, false, 1, x|int + 1) }}",
}


@pytest.mark.parametrize("case", LONG)
def test_d5_no_cell_makes_an_endless_text(campaign_factory: CampaignFactory, case: str) -> None:
    """Neither a width nor a cell's text may fill the memory: that row is invalid, the others can be sent."""
    rows = [f"b@x.org,Bo,900000000,{'a' * 100_000}", "a@x.org,Ann,3,a"]
    campaign = campaign_factory({"body.txt": LONG[case]}, heading="email,name,x,y", rows=rows)
    counts = campaign.check().statuses

    fixed = "99999" in LONG[case]
    assert counts[Status.INVALID] == (2 if fixed else 1)
    assert counts[Status.PENDING] == (0 if fixed else 1)


# --- cells and workbooks ---------------------------------------------------------------------------------

CELLS = {
    "digits": DIGITS, "29 digits": "1" * 29, "1e400": "1e400", "NaN": "NaN", "Infinity": "Infinity",
    "braces": "{" * 1000, "css": "a{" * 20_000, "brackets": "[" * 20_000, "parentheses": "(" * 50_000,
    "comments": "<!--" * 20_000, "tags": "<b>" * 20_000, "entities": "&#x" * 20_000, "template": "{{" * 5000,
    "blanks": " " * 100_000 + "x", "marks": "a" + "\u0301" * 100_000, "bidi": "\u202e\u2066abc",
    "control": "".join(map(chr, range(1, 9))), "zero width": "\u200b" * 50_000, "links": "http://" * 10_000,
    "bad link": "http://[", "dates": "9999-99-99", "time": "25:61", "formula": "=cmd|' /C calc'!A0",
    "encoded words": "=?utf-8?q?" * 5000, "path": "../" * 10_000, "addresses": "a@x.org, " * 5000,
    "%": "%999999999d", "format": "{:999999999}", "backslashes": "\\" * 100_001,
}  # fmt: skip
USES = {
    "text": {"body.txt": "{{ x }} {{ x|upper }} {{ x|wordcount }} {{ x|truncate(20) }} {{ x|title }}"},
    "html": {
        "body.html": "<p style='{{ x }}'><a href='http://e.org/{{ x }}' title='{{ x }}'>{{ x }}</a>"
        "<img src='http://e.org/{{ x }}' alt='{{ x }}'>"
    },
    "safe": {"body.html": "<style>{{ x|safe }}</style><div>{{ x|safe }}</div>{{ x|safe|striptags }}"},
    "numbers": {"body.txt": "{{ x|int(0) }} {{ x|float(0) }} {{ x|float(0) * 2 }} {{ x|int(0) ** 2 }}"},
    "money": {"body.txt": "{{ x|money('EUR') }} {{ x|number }}"},
    "moments": {"body.txt": "{{ x|date }} {{ x|time }}"},
    "wrapped": {"body.txt": "{{ x|wordwrap(20) }} {{ x|urlize }} {{ x|urlencode }} {{ x|tojson }}"},
    "headers": {"subject": "{{ x }}", "reply_to": "{{ x }} <a@x.org>"},
    "path": {"path": "{{ x }}.pdf"},
}


@pytest.mark.parametrize("use", USES)
def test_d5_hostile_cells_cost_their_own_row(campaign_factory: CampaignFactory, use: str) -> None:
    """Whatever uses them: no exception, and the plain rows around them can be sent."""
    plain = {"money": "1", "numbers": "1"}.get(use, "2026-01-01 10:00" if use == "moments" else "Ann")
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["email", "name", "x"])
    for number, cell in enumerate(CELLS.values()):
        rows.writerow([f"h{number}@x.org", "Bo", cell])
        rows.writerow([f"p{number}@x.org", "Ann", plain])
    files = {name: part for name, part in USES[use].items() if "." in name}
    message = "\n".join(
        f'{name} = "{part}"' for name, part in USES[use].items() if "." not in name and name != "path"
    )
    rest = f'[[attach]]\npath = "{USES[use]["path"]}"\nshared = true\n' if "path" in USES[use] else ""
    files["Ann.pdf"] = "a"
    campaign = campaign_factory({"people.csv": text.getvalue(), **files}, message=message, rest=rest)
    started = time.monotonic()
    plan = campaign.check()
    shown = list(plan.messages())

    assert len([one for one in shown if one.key.startswith("p")]) == len(CELLS)
    assert plan.rows == 2 * len(CELLS)
    assert time.monotonic() - started < 60


def test_d5_names_of_formats_that_are_not_closed_are_looked_through_once(
    campaign_factory: CampaignFactory,
) -> None:
    """Each of 65,000 brackets looked for its end: five seconds for one cell."""
    rows = [f"a@x.org,Ann,{'%(' * 65_000}", f"c@x.org,Ann,%{'0' * 131_000}", "b@x.org,Bo,b"]
    campaign = campaign_factory(
        {"body.txt": "{{ x|format() if name == 'Ann' else x }}"}, heading="email,name,x", rows=rows
    )
    started = time.process_time()
    plan = campaign.check()

    assert (plan.statuses[Status.INVALID], plan.statuses[Status.PENDING]) == (2, 1)
    assert time.process_time() - started < 2


def test_d5_tags_that_are_not_closed_are_looked_through_once(campaign_factory: CampaignFactory) -> None:
    """Forty thousand of them took more than a minute, each of them looking for its end."""
    cell = "<a " * 43_000
    campaign = campaign_factory(
        {"body.html": "<p>{{ x|safe }}</p>"}, heading="email,name,x", rows=[f"a@x.org,Ann,{cell}"]
    )
    started = time.process_time()
    plan = campaign.check()

    assert plan.rows == 1
    assert time.process_time() - started < 15


PIECES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.sampled_from([*CELLS.values()])
)
TRIED = {
    **USES,
    "headers": {"subject": "{{ x }}", "reply_to": "{{ x }} <a@x.org>", "headers.X-Note": "{{ x }}"},
    "addresses": {"to": "{{ x }}", "cc": "{{ x }} <b@x.org>, {{ x }}"},
    "links": {"body.html": "<img src={{ x }}><a href='{{ x }}'>{{ x|urlize }}</a><p {{ {'a': x}|xmlattr }}>"},
    "pieces": {"body.txt": "{{ x[0] }} {{ x[-3:] }} {{ x.split()|first }} {{ x|trim|lines }} {{ x * 2 }}"},
}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    use=st.sampled_from([*TRIED]),
    cells=st.lists(st.lists(PIECES, min_size=1, max_size=3).map("".join), min_size=1, max_size=6),
)
@example(use="pieces", cells=["\x1f5", "1"])  # it is between cells where many are checked in one go
def test_d5_any_cell_is_sent_or_is_an_invalid_row(
    campaign_factory: CampaignFactory, use: str, cells: list[str]
) -> None:
    """Through all rules, into messages and into ``.eml`` files: no exception, whatever the cells are."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        [["email", "name", "x"], *([f"p{at}@x.org", "Ann", cell] for at, cell in enumerate(cells))]
    )
    named = {name: part for name, part in TRIED[use].items() if not name.startswith("body.")}
    path = named.pop("path", "")
    campaign = campaign_factory(
        {
            "people.csv": text.getvalue(),
            "body.html": None,
            **dict(TRIED[use].items() - named.items() - {("path", path)}),
        },
        message="\n".join(f'{name} = "{part}"' for name, part in named.items()),
        rest=f'[[attach]]\npath = "{path}"\nshared = true\n' if path else "",
    )
    plan = campaign.check()
    ready = plan.statuses[Status.PENDING]
    eml = campaign_factory.folder / "eml"
    shutil.rmtree(eml, ignore_errors=True)
    done = CliRunner().invoke(
        cli,
        ["preview", str(campaign_factory.folder), "--eml", str(eml)],
        env=campaign_factory.environ,
        standalone_mode=False,
    )

    assert plan.rows == len(cells)
    assert len(list(plan.messages())) == ready
    assert done.exception is None or isinstance(done.exception, MailmergeError), done.exception
    assert len(list(eml.rglob("*.eml"))) == ready


def _book(rows: str, strings: str = "", formats: str = "") -> bytes:
    """Make a workbook without a library: *rows* is XML."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = 'xmlns="http://schemas.openxmlformats.org/package/2006'
    kinds = {"workbook": "sheet.main", "worksheets/sheet1": "worksheet"}
    kinds |= {"sharedStrings": "sharedStrings"} if strings else {}
    kinds |= {"styles": "styles"} if formats else {}
    parts = {
        name: f"application/vnd.openxmlformats-officedocument.spreadsheetml.{kind}+xml"
        for name, kind in kinds.items()
    }
    related = {"worksheets/sheet1": "worksheet", "sharedStrings": "sharedStrings", "styles": "styles"}
    relations = "".join(
        f'<Relationship Id="r{at}" Type="{office}/{kind}" Target="{name}.xml"/>'
        for at, (name, kind) in enumerate(related.items())
        if name in parts
    )
    count = formats.count("<numFmt")
    used = "".join(f'<xf numFmtId="{164 + at}" fontId="0" fillId="0" borderId="0"/>' for at in range(count))
    style = (
        f"<styleSheet {main}><numFmts>{formats}</numFmts><fonts><font/></fonts><fills><fill><patternFill/>"
        "</fill></fills><borders><border/></borders><cellStyleXfs><xf/></cellStyleXfs>"
        f"<cellXfs><xf/>{used}</cellXfs></styleSheet>"
    )
    files = {
        "[Content_Types].xml": f'<Types {package}/content-types">' + "".join(
            f'<Override PartName="/xl/{name}.xml" ContentType="{kind}"/>' for name, kind in parts.items()
        ) + "</Types>",
        "_rels/.rels": f'<Relationships {package}/relationships"><Relationship Id="r" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {main} xmlns:r="{office}"><sheets>'
        '<sheet name="S" sheetId="1" r:id="r0"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships {package}/relationships">{relations}</Relationships>',
        "xl/worksheets/sheet1.xml": f"<worksheet {main}>{rows}</worksheet>",
        "xl/sharedStrings.xml": strings and f"<sst {main}>{strings}</sst>",
        "xl/styles.xml": formats and style,
    }  # fmt: skip
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            if content:
                archive.writestr(name, content)
    return made.getvalue()


def _text(name: str, text: str) -> str:
    return f'<c r="{name}" t="inlineStr"><is><t>{text}</t></is></c>'


def _people(cell: str, *more: str, before: str = "", after: str = "") -> str:
    """Return headings, a plain row, one with the cell, a plain row, and more."""
    rows = [_text("A1", "email") + _text("B1", "name"), _text("A2", "a@x.org") + _text("B2", "1")]
    rows += [_text("A3", "b@x.org") + cell, _text("A4", "c@x.org") + _text("B4", "1")]
    whole = "".join(f'<row r="{number}">{row}</row>' for number, row in enumerate(rows, 1))
    return f"{before}<sheetData>{whole}{''.join(more)}</sheetData>{after}"


def _format(code: str) -> str:
    return f'<numFmt numFmtId="164" formatCode="{code}"/>'


_SHARED = "<si><t>q</t></si>"
_NUMBER = '<c r="B3" s="1"><v>{}</v></c>'
OF_ONE_ROW = {
    "no such text": lambda: _book(_people('<c r="B3" t="s"><v>99999</v></c>'), _SHARED),
    "text x": lambda: _book(_people('<c r="B3" t="s"><v>x</v></c>'), _SHARED),
    "no such format": lambda: _book(_people('<c r="B3" s="999"><v>5</v></c>'), "", _format("0")),
    "digits": lambda: _book(_people(f'<c r="B3"><v>{DIGITS}</v></c>')),
    "nan": lambda: _book(_people('<c r="B3"><v>nan</v></c>')),
    "no date": lambda: _book(_people('<c r="B3" t="d"><v>2026-99-99</v></c>')),
    "far date": lambda: _book(_people(_NUMBER.format("1e300")), "", _format("yyyy-mm-dd")),
    "long duration": lambda: _book(_people(_NUMBER.format("1e15")), "", _format("[h]:mm")),
    "boolean x": lambda: _book(_people('<c r="B3" t="b"><v>x</v></c>')),
    "error": lambda: _book(_people('<c r="B3" t="e"><v>#BOO!</v></c>')),
    "[$": lambda: _book(_people(_NUMBER.format(5)), "", _format("[$" * 300_000)),
    "[$ for a date": lambda: _book(_people(_NUMBER.format(5)), "", _format("yyyy[$" * 50)),
    "a megabyte": lambda: _book(_people(_text("B3", "y" * 1_100_000))),
}
OF_THE_FILE = {
    "100,000 formats": lambda: _book(_people(_NUMBER.format(5)), "", _format("0.00") * 100_000),
    "negative row": lambda: _book(_people(_text("B3", "1"), '<row r="-3"/>')),
    "endless row number": lambda: _book(_people(_text("B3", "1"), f'<row r="{DIGITS}"/>')),
    "column AAAA": lambda: _book(_people(_text("AAAA3", "1"))),
    "all merged": lambda: _book(
        _people("", after='<mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>')
    ),
    "many merged": lambda: _book(_people("", after='<mergeCell ref="D9:XFD99999"/>' * 200_000)),
    "two million cells": lambda: _book(_people("<c/>" * 2_000_000)),
    "two million texts": lambda: _book(_people(""), "<si/>" * 2_000_000),
    "a comment of 15 MB": lambda: _book(_people("", after=f"<!--{' ' * 15_000_000}-->")),
    "content at XFD": lambda: _book(_people(_text("XFD3", "y"))),
}
HARMLESS = {
    "plain": lambda: _book(_people(_text("B3", "1"))),
    "dimension": lambda: _book(_people(_text("B3", "1"), before='<dimension ref="A1:XFD1048576"/>')),
    "empty cells at XFD": lambda: _book(_people(_text("B3", "1") + '<c r="XFD3"/>', *(
        f'<row r="{row}">{_text(f"A{row}", f"p{row}@x.org")}<c r="XFD{row}"/></row>'
        for row in range(900, 900_000, 900)))),
    "marks": lambda: _book(_people(_text("B3", "a" + "\u0301" * 100_000))),
}  # fmt: skip


def _checked(campaign_factory: CampaignFactory, content: bytes) -> Campaign:
    campaign_factory({"body.txt": "Hello {{ name }}", "people.csv": None}, data='source = "people.xlsx"')
    (campaign_factory.folder / "people.xlsx").write_bytes(content)
    return campaign_factory.open()


@pytest.mark.parametrize("case", OF_ONE_ROW)
def test_d7_a_hostile_cell_of_a_workbook_costs_its_row(campaign_factory: CampaignFactory, case: str) -> None:
    """What the reader cannot make sense of is that row's problem; the others can be sent."""
    plan = _checked(campaign_factory, OF_ONE_ROW[case]()).check()

    assert (plan.statuses[Status.INVALID], plan.statuses[Status.PENDING]) == (1, 2)


RUNS = "<r><t>a</t></r>" * 100_000


@pytest.mark.parametrize(
    ("cell", "strings"),
    [
        (f'<c r="B3" t="inlineStr"><is>{RUNS}</is></c>', ""),
        ('<c r="B3" t="s"><v>0</v></c>', f"<si>{RUNS}</si>"),
    ],
    ids=["inline", "shared"],
)
def test_d7_a_text_of_many_formats_is_its_letters(
    campaign_factory: CampaignFactory, cell: str, strings: str
) -> None:
    """A hundred thousand stretches of letters that look different are one text."""
    _checked(campaign_factory, _book(_people(cell), strings))
    people = list(open_list(campaign_factory.folder / "people.xlsx"))

    assert people[1].values == ("b@x.org", "a" * 100_000)


@pytest.mark.parametrize(
    ("html", "cell", "code"),
    [
        ("<img src='{{ x }}' alt=''>", "a" * 5000, "D166"),
        ("<img src='{{ x }}' alt=''>", "../" * 40_000, "D166"),
        ("{{ x|wordwrap(1) }}", "x" + " " * 131_000 + "x", "D117"),
        ("{{ x|wordwrap(20) }}", "a " * 20_000, "D117"),
        ("{{ x|urlize }}", "http://e.org " * 9_000, "D117"),
        ("{{ x|urlize }}", "e.org " * 20_000, "D117"),
        ("{{ x|urlencode }}", "\U0001f600" * 40_000, "D117"),
    ],
)
def test_d5_what_would_take_long_with_a_cell_is_refused(
    campaign_factory: CampaignFactory, html: str, cell: str, code: str
) -> None:
    """A path of more than 4,096 characters, or text too long to be wrapped, makes the row invalid."""
    campaign = campaign_factory(
        {"body.html": html, "body.txt": "Hello", "a.png": "x"}, heading="email,name,x",
        rows=[f"a@x.org,Ann,{cell}"],
    )  # fmt: skip
    plan = campaign.check()

    assert code in {group.first.code for group in plan.problems}
    assert plan.statuses[Status.INVALID] == 1


@pytest.mark.parametrize("case", OF_THE_FILE)
def test_d7_a_hostile_workbook_is_refused_in_words(campaign_factory: CampaignFactory, case: str) -> None:
    """And soon, whatever it unpacks to."""
    content = OF_THE_FILE[case]()
    campaign = _checked(campaign_factory, content)
    started = time.monotonic()

    with pytest.raises(ListError) as caught:
        campaign.check()
    assert caught.value.exit_code == 2
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("case", HARMLESS)
def test_d7_a_workbook_that_only_claims_to_be_large_is_read(
    campaign_factory: CampaignFactory, case: str
) -> None:
    """A million empty rows and columns cost nothing: only what is there is looked at."""
    campaign = _checked(campaign_factory, HARMLESS[case]())
    started = time.monotonic()
    plan = campaign.check()

    assert plan.statuses[Status.INVALID] == 0
    assert time.monotonic() - started < 20
