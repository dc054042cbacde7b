"""Letters of Word, sheets of add-ons and settings of Thunderbird's Mail Merge as campaigns."""

from __future__ import annotations

import io
import tomllib
import zipfile
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest

from mailmerge import Campaign
from mailmerge.cli import run
from mailmerge.convert.sheets import read_status
from mailmerge.convert.taken import attachment_rule, campaign_toml
from mailmerge.convert.thunderbird import is_settings, read_settings
from mailmerge.convert.word import read_letter, source_of
from mailmerge.designs.conversion import convert
from mailmerge.designs.names import ListColumns
from mailmerge.errors import CampaignFileError
from mailmerge.model import Columns
from mailmerge.recipients import from_rows
from servers.mail import Received

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mailmerge.model import Message

COLUMNS = Columns(
    ("Email", "First Name", "Plan", "Amount", "1st"), ("email", "first_name", "plan", "amount", "c_1st")
)
NAMES = ListColumns(COLUMNS)
LIST = "Email,First Name,Plan,Amount\nana@example.com,Ana,gold,5\nbo@example.net,Bo,free,7\n"
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PNG = bytes.fromhex("89504e470d0a1a0a")


def _letter(body: str, **parts: str | bytes) -> bytes:
    """Make a letter; other parts by their names without folder and suffix."""
    stream = io.BytesIO()
    paths = {
        "rels": "word/_rels/document.xml.rels",
        "settings_rels": "word/_rels/settings.xml.rels",
        "dot": "word/media/dot.png",
    }
    with zipfile.ZipFile(stream, "w") as file:
        root = f'xmlns:w="{W}" xmlns:r="{R}" xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
        file.writestr("word/document.xml", f"<w:document {root}><w:body>{body}</w:body></w:document>")
        for name, content in parts.items():
            text = content
            if isinstance(text, str):
                text = text.replace("<w:X", f"<w:{name} {root}").replace("</w:X>", f"</w:{name}>")
            file.writestr(paths.get(name, f"word/{name}.xml"), text)
    return stream.getvalue()


def _run(text: str, look: str = "") -> str:
    return f'<w:r><w:rPr>{look}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def _code(text: str) -> str:
    return f'<w:r><w:instrText xml:space="preserve">{text}</w:instrText></w:r>'


def _mark(kind: str) -> str:
    return f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>'


def _field(code: str, result: str = "x", look: str = "") -> str:
    return f"{_mark('begin')}{code}{_mark('separate')}{_run(result, look)}{_mark('end')}"


def _merge(name: str, switches: str = "", look: str = "") -> str:
    return _field(_code(f" MERGEFIELD {name} {switches}"), f"«{name}»", look)


def _p(*inner: str, style: str = "") -> str:
    return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr>{"".join(inner)}</w:p>'


def _row(*cells: str) -> str:
    return f"<w:tr>{''.join(f'<w:tc>{_p(_run(text))}</w:tc>' for text in cells)}</w:tr>"


def _if(code: str) -> str:
    return _field(code, "shown")


PLAN = (
    f"{_mark('begin')}{_code(' MERGEFIELD Plan ')}{_mark('separate')}{_code('')}{_run('gold')}{_mark('end')}"
)
AMOUNT = PLAN.replace("Plan", "Amount")
LETTERS: dict[str, tuple[str, str]] = {
    "a field": (_p(_run("Dear "), _merge("First_Name"), _run(",")), "Dear {{ first_name }},"),
    "a simple field": (
        _p(f'<w:fldSimple w:instr=" MERGEFIELD Plan \\* MERGEFORMAT ">{_run("«Plan»")}</w:fldSimple>'),
        "{{ plan }}",
    ),
    "a field in quotes": (_p(_merge('"First Name"')), "{{ first_name }}"),
    "a code in pieces": (_p(_field(_code(" MERGE") + _code("FIELD Pl") + _code("an "))), "{{ plan }}"),
    "a bold field": (_p(_run("Hi "), _merge("Plan", look="<w:b/>"), _run("!")), "Hi **{{ plan }}**!"),
    "switches": (_p(_merge("Plan", r"\* Upper \* MERGEFORMAT")), "{{ plan|upper }}"),
    "text before a value": (
        _p(_merge("Plan", r'\b "Plan: " \f "."')), "{% if plan %}Plan: {{ plan }}.{% endif %}"),
    "a condition": (
        _p(_if(_code(" IF ") + PLAN + _code(' = "gold" "Yes" "No" '))),
        "{% if plan == 'gold' %}Yes{% else %}No{% endif %}"),
    "a condition in a condition": (
        _p(_if(_code(" IF ") + PLAN + _code(' = “gold” "Yes" "')
            + _if(_code(" IF ") + AMOUNT + _code(' &lt;&gt; "0" "Some" "None" ')) + _code('" '))),
        "{% if plan == 'gold' %}Yes{% else %}{% if amount != '0' %}Some{% else %}None{% endif %}{% endif %}"),
    "a condition on a number": (
        _p(_if(_code(" IF ") + AMOUNT + _code(' > 5 "much" '))), "{% if amount|float > 5 %}much{% endif %}"),
    "a column in quotes": (
        _p(_if(_code(' IF "') + PLAN + _code('" &lt;&gt; "" "Plan ') + PLAN + _code('" "None" '))),
        "{% if plan != '' %}Plan {{ plan }}{% else %}None{% endif %}"),
    "a condition with a wildcard": (
        _p(_if(_code(" IF ") + PLAN + _code(' = "go*" "Yes" "No" '))), "{{ row['IF plan = go* Yes No'] }}"),
    "a field as text": (
        _p(_run("«First_Name» «No_One» «Nobody»")), '{{ first_name }} {{ row["No_One"] }} «Nobody»'),
    "fields that were typed": (
        _p(_run("{{First Name}} {{ Plan }} &lt;&lt;first_name&gt;&gt; {{ Nobody }} &lt;&lt;No&gt;&gt;")),
        '{{ first_name }} {{ plan }} {{ first_name }} {{ "{" }}{ Nobody }} <\\<No>>'),
    "a column that begins with a number": (_p(_merge("M_1st")), "{{ c_1st }}"),
    "a column that is not there": (_p(_merge("Nothing")), '{{ row["Nothing"] }}'),
    "another field": (_p(_field(_code(" DATE "), "1 May")), "1 May"),
    "looks": (_p(_run("a "), _run("b ", "<w:b/>"), _run("c", '<w:b w:val="0"/><w:i/>')), "a **b** *c*"),
    "signs of Markdown": (_p(_run("2 * 3 * 4, a_b, 1. x")), r"2 \* 3 \* 4, a_b, 1. x"),
    "what begins like a list": (
        _p(_run("1. x")) + _p(_run("# y")) + _p(_run("- z")), "1\\. x\n\n\\# y\n\n\\- z"),
    "tags of Jinja": (_p(_run("{{ 7 * 7 }} {% x %}")), '{{ "{" }}{ 7 \\* 7 }} {{ "{" }}% x %}'),
    "line breaks": (_p(_run("a"), "<w:r><w:br/></w:r>", _run("b")), "a  \nb"),
    "lines that begin like something else": (
        _p("<w:r><w:br/></w:r>".join(map(_run, ["Call:", "+49 1", "- a", "1. b", "---", "="]))),
        "Call:  \n+49 1  \n\\- a  \n1\\. b  \n\\---  \n\\="),
    "other signs": (
        _p(_run("~5 ~~x~~ a&amp;b &amp;lt; [a](b)")), r"~5 \~\~x\~\~ a&b \&lt; [a\](b)"),
    "a page break": (_p(_run("a"), '<w:r><w:br w:type="page"/></w:r>', _run("b")), "ab"),
    "headings": (_p(_run("T"), style="Titel") + _p(_run("H", "<w:b/>"), style="berschrift2"), "# T\n\n## H"),
    "lists": (
        _p(_run("a"), style="LB") + _p(_run("b"), style="LB") + _p(_run("c"), style="LN"), "- a\n- b\n1. c"),
    "a table": (f"<w:tbl>{_row('A', 'B')}{_row('1', '|')}</w:tbl>", "| A | B |\n| --- | --- |\n| 1 | \\| |"),
    "a table of one column": (f"<w:tbl><w:tr><w:tc>{_p(_run('a'))}</w:tc></w:tr></w:tbl>", "a"),
    "a link": (_p(f'<w:hyperlink r:id="r1">{_run("here")}</w:hyperlink>'), "[here](https://example.org/a)"),
    "a link that is none": (_p(f'<w:hyperlink r:id="r2">{_run("here")}</w:hyperlink>'), "here"),
    "a link by field": (
        _p(_field(_code(' HYPERLINK "https://example.org/b" '), "there")), "[there](https://example.org/b)"),
    "what was inserted and deleted": (_p(f"<w:ins>{_run('new')}</w:ins><w:del>{_run('old')}</w:del>"), "new"),
    "a box for contents": (f"<w:sdt><w:sdtContent>{_p(_run('a'))}</w:sdtContent></w:sdt>", "a"),
    "a picture": (
        _p('<w:r><w:drawing><w:docPr descr="A [dot]"/><a:blip r:embed="r3"/></w:drawing></w:r>'),
        "![A dot](images/dot.png)"),
}  # fmt: skip
STYLES = "".join(
    f'<w:style w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
    for key, name in {
        "Titel": "Title",
        "berschrift2": "heading 2",
        "LB": "List Bullet",
        "LN": "List Number",
    }.items()
)
RELS = "".join(
    f'<R Id="{key}" Target="{target}"/>'
    for key, target in {"r1": "https://example.org/a", "r2": "javascript:x", "r3": "media/dot.png"}.items()
)


@pytest.mark.parametrize("name", LETTERS)
def test_a_letter_is_markdown(name: str) -> None:
    """What Word shows is written as Markdown, its fields are columns, its text is never template code."""
    body, wanted = LETTERS[name]
    data = _letter(body, styles=f"<w:X>{STYLES}</w:X>", rels=f"<Rs>{RELS}</Rs>", dot=PNG)
    letter = read_letter(data, "letter.docx", NAMES)
    assert letter.markdown == f"{wanted}\n"
    assert letter.pictures == ({"images/dot.png": PNG} if name == "a picture" else {})
    absent = {"a column that is not there": ["Nothing"], "a field as text": ["No_One"]}
    assert letter.unknown == absent.get(name, [])


def test_numbering_of_its_own() -> None:
    """Bullets, numbers and levels are those of the numbering part."""
    numbering = (
        '<w:X><w:abstractNum w:abstractNumId="7"><w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/></w:lvl>'
        '<w:lvl w:ilvl="1"><w:numFmt w:val="bullet"/></w:lvl></w:abstractNum>'
        '<w:num w:numId="3"><w:abstractNumId w:val="7"/></w:num></w:X>'
    )
    items = "".join(
        f'<w:p><w:pPr><w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="3"/></w:numPr></w:pPr>'
        f"{_run(text)}</w:p>"
        for level, text in ((0, "a"), (1, "b"), (0, "c"))
    )
    assert read_letter(_letter(items, numbering=numbering), "l", NAMES).markdown == "1. a\n    - b\n1. c\n"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("", "footnotes: write them"),
        ("", "a drawing or text box"),
        (" GREETINGLINE \\f x ", "write the greeting yourself"),
        (" ADDRESSBLOCK ", "write the lines of the address yourself"),
        (" NEXT ", "each row has its own message"),
        (" IF odd ", "write {% if %} yourself"),
        (' MERGEFIELD Amount \\# "0.00" ', 'the format "0.00"'),
    ],
)
def test_fields_without_a_counterpart_are_told(code: str, words: str) -> None:
    """Each is left with its reason."""
    more = '<w:r><w:footnoteReference w:id="1"/><w:pict/></w:r>' if not code else ""
    letter = read_letter(_letter(_p(_field(_code(code.replace('"', "&quot;"))), more)), "l", NAMES)
    assert any(words in told for told in letter.left), letter.left


def test_what_a_letter_was_merged_with() -> None:
    """The list's name without its folder, the sheet, the subject and the filter are found."""
    settings = (
        '<w:X><w:mailMerge><w:query w:val="SELECT * FROM `People$` WHERE Plan = 1"/>'
        '<w:dataSource r:id="r1"/><w:mailSubject w:val="Hello"/></w:mailMerge></w:X>'
    )
    target = "file:///C:\\Users\\me\\my%20list.xlsx"
    rels = f'<Rs><R Id="r1" Target="{target}"/></Rs>'
    letter = source_of(_letter(_p(_run("x")), settings=settings, settings_rels=rels), "l")
    assert (letter.source, letter.sheet, letter.subject) == ("my list.xlsx", "People", "Hello")
    assert letter.left == ["the filter of the list Plan = 1: use `where`"]


DOCTYPE = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"\xd0\xcf\x11\xe0 an old .doc",
        _letter("<w:p>"),
        _letter(_p(_run("a")), styles=DOCTYPE),
        _letter(_p(_run("a")), styles=b"\xff\xfe"),
        _letter(_p(_run("a")), numbering=b"<w>" + b" " * (21 << 20)),
    ],
    ids=["empty", "cut", "doc", "not well-formed", "document type", "no XML", "too large"],
)
def test_a_letter_that_is_none(data: bytes) -> None:
    """It is an error with a code; nothing outside of it is read."""
    with pytest.raises(CampaignFileError) as told:
        read_letter(data, "letter.docx", NAMES)
    assert told.value.code == "C543"


# --- sheets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "values", "where", "skipped"),
    [
        ("Merge status", ["EMAIL_SENT", "", "BOUNCED", "UNSUBSCRIBED"], 'merge_status == ""', 3),
        ("Merge status", ["", "", "", ""], 'merge_status == ""', 0),
        ("MailMergeStatus", ["", "x", "", ""], 'mailmergestatus == ""', 1),
        ("Email Sent", ["2026-01-02", "", "", ""], 'email_sent == ""', 1),
        ("Sent", ["TRUE", "FALSE", "FALSE", ""], 'sent in ["", "FALSE"]', 1),
        ("sent", ["yes", "no", "No", "later?"], 'sent in ["", "No", "no"]', 2),
        ("Status", ["EMAIL_OPENED", "", "", ""], 'status == ""', 1),
        ("Status", ["married", "single", "", ""], "", 0),
        ("Absent", ["yes", "", "", ""], "", 0),
        ("Sent", ["yes", "No ", "", ""], 'sent in ["", "No", "No "]', 1),
        ("Merge status [Spring]", ["EMAIL_SENT", "", "", ""], 'merge_status_spring == ""', 1),
        ("Unsubscribe", ["https://example.org/1", "HTTPS://example.org/2", "", ""], "", 0),
        ("Unsubscribe", ["https://example.org/1", "yes", "", ""], 'unsubscribe == ""', 2),
    ],
)
def test_rows_that_were_sent(heading: str, values: Sequence[str], where: str, skipped: int) -> None:
    """A column that says what was sent leaves those rows out, and no other column does."""
    rows = from_rows([{"email": f"a{at}@example.com", heading: value} for at, value in enumerate(values)])
    status = read_status(rows.columns, rows)
    assert (status.where, status.skipped, status.rows) == (where, skipped, 4)


def test_columns_of_copies_and_files_are_told() -> None:
    """Nobody gets a copy, and no file is fetched, because a column is called so."""
    rows = from_rows([{"email": "a@example.com", "CC": "b@example.com", "Attachments": "u", "Send at": "x"}])
    status = read_status(rows.columns, rows)
    assert [told.partition(":")[0] for told in status.left] == [
        "column CC",
        "column Attachments",
        "column Send at",
    ]


# --- Thunderbird -------------------------------------------------------------------------------------------


def _settings(path: Path, **values: str | int) -> Any:
    lines = [
        f'user_pref("extensions.mailmerge.{name}", {written});'
        for name, value in values.items()
        for written in [value if isinstance(value, int) else f'"{value}"']
    ]
    (path / "prefs.js").write_text('user_pref("app.id", "x");\n' + "\n".join(lines))
    return read_settings(path / "prefs.js")


def test_settings_of_thunderbird(tmp_path: Path) -> None:
    """List, encoding, delimiter, files, pause, hours and rows are found; what has no counterpart is told."""
    found = _settings(
        tmp_path, source="CSV", csv="/home/me/p.csv", characterset="windows-1252", fielddelimiter="\\t",
        attachments="file:///home/me/my%20files/{{Plan}}.pdf", pause="10", start="2", stop="5",
        between="0800-1700", only="1 5", at="2026-12-01 09:00", recur="daily", delivermode="SaveAsDraft",
        recipients=1, odd="x",
    )  # fmt: skip
    assert found.source == "/home/me/p.csv"
    assert found.reading == {"encoding": "windows-1252", "delimiter": "tab"}
    assert found.attachments == ["/home/me/my files/{{Plan}}.pdf"]
    assert found.send == {
        "rate": "1/10s",
        "at": "2026-12-01 09:00",
        "window": ["Mon 08:00-17:00", "Fri 08:00-17:00"],
    }
    assert found.drafts
    assert found.left == [
        "from 2 to 5: add --rows 3-6",
        "recurring messages: run the command by cron",
        "the setting odd: it has no counterpart",
    ]


def test_other_settings_of_thunderbird(tmp_path: Path) -> None:
    """A workbook has its sheet; an address book has to be exported; odd times and pauses are told."""
    found = _settings(
        tmp_path, source="XLSX", xlsx="p.xlsx", sheetname="People", fielddelimiter=";", pause="0"
    )
    assert (found.source, found.reading, found.send, found.left) == ("p.xlsx", {"sheet": "People"}, {}, [])
    found = _settings(
        tmp_path, source="AddressBook", csv="p.csv", pause="5-10", at="soon", between="x", start="3"
    )
    assert found.source == ""
    assert [told.split()[:3] for told in found.left] == [
        ["the", "address", "book:"],
        ["the", "pause", '"5-10":'],
        ["from", "3", "to"],
        ["the", "time", '"soon":'],
        ["the", "hours", '"x":'],
    ]


def test_what_is_no_settings(tmp_path: Path) -> None:
    """Only prefs.js with lines of the extension is taken for its settings."""
    (tmp_path / "prefs.js").write_text('user_pref("app.id", "x");\n')
    assert not is_settings(tmp_path / "prefs.js")
    assert not is_settings(tmp_path / "other.js")
    with pytest.raises(CampaignFileError) as told:
        read_settings(tmp_path / "prefs.js")
    assert told.value.code == "C544"


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("{{Plan|gold|dear|good}}", '{{ "dear" if plan == "gold" else "good" }}'),
        ("{{Plan|gold|dear}}", '{{ "dear" if plan == "gold" else "" }}'),
        ("{{Amount|>|5|much|little}}", '{{ "much" if (amount|float) > 5 else "little" }}'),
        ("{{Plan|*|ol|x}}", '{{ "x" if "ol" in (plan|string) else "" }}'),
        ("{{Plan|^|g|x|y}}", '{{ "x" if (plan|string).startswith("g") else "y" }}'),
        ("{{plan|upper|trim}}", "{{plan|upper|trim}}"),
        ('{{plan|default("x")|title}}', '{{plan|default("x")|title}}'),
        ("{{Amount|>|many|a|b}}", "{{Amount|>|many|a|b}}"),
        ('{{Plan|a"b|x|y}}', '{{ "x" if plan == "a\\"b" else "y" }}'),
    ],
)
def test_choices_of_thunderbird(written: str, made: str) -> None:
    """``{{name|if|then|else}}`` is a condition; filters of Jinja stay what they are."""
    assert convert(written, NAMES).text == made


# --- paths and files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("a.pdf", {"path": "a.pdf"}),
        ("x/a[1].pdf", {"path": "x/a[[]1].pdf"}),
        ("{{ n }}.pdf", {"path": "{{ n }}.pdf", "shared": True}),
        ("../a/{{ n }}.pdf", {"path": "{{ n }}.pdf", "base": "../a", "shared": True}),
        ("/a.pdf", {"path": "a.pdf", "base": "/"}),
        ("~/x/a.pdf", {"path": "a.pdf", "base": "~/x"}),
        ("C:/x/{{ n }}/a.pdf", {"path": "{{ n }}/a.pdf", "base": "C:/x", "shared": True}),
        ("{{ n }}/../a.pdf", {"path": "{{ n }}/../a.pdf", "shared": True}),
    ],
)
def test_paths_of_attachments(path: str, rule: dict[str, object]) -> None:
    """What is fixed in front of a path becomes its base; a value leads nowhere else."""
    assert attachment_rule(path) == rule


def test_a_campaign_file_is_read_as_it_was_meant() -> None:
    """Whatever is written, tomllib reads again."""
    tables = {
        "name": 'a "b" \\ \x7f\n',
        "data": {"source": "x.csv", "types": {"a b": "decimal"}},
        "message": {"cc": ["a", "b"], "headers": {"X-Ä": "1"}},
        "attach": [{"path": "a", "shared": True}, {"path": "b"}],
        "send": {"rate": "60/m"},
    }
    assert tomllib.loads(campaign_toml(tables, {"data.source": "the list"})) == tables


def _said(message: Message) -> tuple[str, str]:
    """Return subject and text of a message."""
    parsed = Received("", (), b"".join(message.segments)).parse()
    body = parsed.get_body(("plain",))
    assert body is not None
    return parsed["Subject"], body.get_content().replace("\r\n", "\n")


# --- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAILMERGE_STATE_DIR", str(tmp_path / "home"))
    return tmp_path


def test_a_letter_becomes_a_campaign(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The letter and the list beside it give messages without a finding; nothing is written over."""
    merge = '<w:dataSource r:id="r1"/><w:mailSubject w:val="For «First_Name»"/>'
    settings = f"<w:X><w:mailMerge>{merge}</w:mailMerge></w:X>"
    rels = '<Rs><R Id="r1" Target="file:///C:/far/people.csv"/></Rs>'
    body = _p(_run("Dear "), _merge("First_Name"), _run(",")) + _p(
        _run("your plan is "), _merge("Plan"), _run(".")
    )
    (here / "letter.docx").write_bytes(_letter(body, settings=settings, settings_rels=rels))
    assert run(["convert", "letter.docx"]) == 2
    assert "error[C545]" in capsys.readouterr().err
    (here / "people.csv").write_text(LIST)
    assert run(["convert", "letter.docx", "--from", "Me <me@example.org>"]) == 0
    told = capsys.readouterr().out
    assert "«First_Name» -> {{ first_name }}" in told
    assert "Next: mailmerge check letter" in told
    campaign = Campaign.load(here / "letter")
    plan = campaign.plan()
    assert [group.first.code for group in plan.problems] == []
    first = next(campaign.messages())
    assert _said(first) == ("For Ana", "Dear Ana,\n\nyour plan is gold.\n")
    assert run(["convert", "letter.docx", "--list", "people.csv"]) == 2
    assert "error[C450]" in capsys.readouterr().err


def test_a_sheet_becomes_a_campaign(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that were sent, and rows that a filter hides, are left out; the others are told and sent."""
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in (
        ("First Name", "Email Address", "Sent", "Merge status"),
        ("Ana", "ana@example.com", True, "EMAIL_SENT"),
        ("Bo", "bo@example.net", False, None),
        ("Cy", "cy@example.org", None, "BOUNCED"),
        ("Di", "di@example.org", False, None),
    ):
        sheet.append(row)
    sheet.row_dimensions[5].hidden = True
    book.save(here / "sheet.xlsx")
    draft = "From: Me <me@example.org>\nSubject: Hi {{First Name}}\n\nDear {{First Name}},\n\nall is well.\n"
    (here / "draft.eml").write_text(draft)
    assert run(["convert", "sheet.xlsx", "--from", "draft.eml", "--out", "new"]) == 0
    told = capsys.readouterr().out
    assert "rows with something in column Merge status are skipped: 1 EMAIL_SENT, 1 BOUNCED" in told
    assert "still to be sent: 1 of 3 rows" in told
    campaign = Campaign.load(here / "new")
    assert [group.first.code for group in campaign.plan().problems] == []
    assert [str(message.envelope.rcpt_to[0]) for message in campaign.messages()] == ["bo@example.net"]


def test_settings_become_a_campaign(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """List, files and pace of the settings, and the draft, give messages without a finding."""
    (here / "profile").mkdir()
    (here / "files").mkdir()
    (here / "profile/p.csv").write_text("Name;Email\nÄna;ana@example.com\n", "cp1252")
    (here / "files/Äna.pdf").write_bytes(b"%PDF-1.4")
    _settings(
        here / "profile", source="CSV", csv="C:\\\\x\\\\p.csv", characterset="windows-1252",
        fielddelimiter=";", attachments=f"{here}/files/{{{{Name}}}}.pdf", pause="10", delivermode="Now",
    )  # fmt: skip
    (here / "draft.eml").write_text(
        "From: Me <me@example.org>\nSubject: Hi\n\nDear {{Name|x|you|friend}},\n\nsee the attachment.\n"
    )
    assert run(["convert", "profile", "--from", "draft.eml", "--out", "new"]) == 0
    capsys.readouterr()
    campaign = Campaign.load(here / "new")
    assert [group.first.code for group in campaign.plan().problems] == []
    [message] = campaign.messages()
    assert _said(message) == ("Hi", "Dear friend,\n\nsee the attachment.\n")
    assert str(campaign.file.send.rate[0]) == "1/10s"


def test_a_sheet_without_a_draft_gets_a_stock_letter(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told that the letter is to be written, and where."""
    (here / "sheet.csv").write_text("email,name,Mail Merge Status\nana@example.com,Ana,\n")
    assert run(["convert", "sheet.csv"]) == 0
    told = capsys.readouterr().out
    assert "the letter is a stock template: write yours into body.md" in told
    assert "still to be sent: 1 of 1 row" in told
    assert (
        tomllib.loads((here / "sheet/campaign.toml").read_text())["data"]["where"]
        == 'mail_merge_status == ""'
    )


def test_a_folder_becomes_a_campaign(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An .env and a ledger that are there stay, and are told; list and server may be elsewhere."""
    (here / "old").mkdir()
    (here / "old/letter.txt").write_text("TO: {{Email}}\nSUBJECT: Hi\nFROM: Me <me@example.org>\n\nHi\n")
    (here / "people.csv").write_text("Email\nana@example.com\n")
    (here / "s.conf").write_text("[smtp_server]\nhost = mail.example.org\nport = 25\nratelimit = 9\n")
    (here / "new/.mailmerge").mkdir(parents=True)
    (here / "new/.env").write_text("SMTP_USER=x\n")
    command = ["convert", "old/letter.txt", "--list", "people.csv", "--server-conf", "s.conf", "--out", "new"]
    assert run(command) == 0
    told = capsys.readouterr().out
    assert "rows that were sent from here stay sent" in told
    assert (
        "an .env already exists; add to it: SMTP_SERVER=mail.example.org, SMTP_PORT=25, SMTP_TLS=none" in told
    )
    assert (here / "new/.env").read_text() == "SMTP_USER=x\n"
    made = tomllib.loads((here / "new/campaign.toml").read_text())
    assert made["name"] == "letter"
    assert made["data"] == {"source": "../people.csv"}
    assert made["message"]["to"] == "{{email}}"
    assert made["send"] == {"rate": "9/m"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nothing", "nothing does not exist"),
        ("made", "made is already a campaign: it has a campaign.toml"),
        ("notes.pdf", "name a folder with mailmerge_template.txt"),
        (".", "name a folder with mailmerge_template.txt"),
        ("letter.DOC", "save it as .docx"),
        ("draft.eml", "mailmerge init --list contacts.xlsx --from draft.eml"),
    ],
)
def test_what_cannot_be_converted(
    here: Path, source: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is an error that says what can be."""
    (here / "made").mkdir()
    (here / "made/campaign.toml").touch()
    if "." in source[1:]:
        (here / source).write_bytes(b"x")
    assert run(["convert", source]) == 2
    told = capsys.readouterr().err
    assert "error[C542]" in told
    assert words in told
