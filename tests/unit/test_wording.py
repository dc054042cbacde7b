"""The exact words of diagnostics, as ``check`` prints them: small campaigns, each with something wrong.

Expected texts are in ``tests/data/wording.txt``. After a change that is meant, look at the difference that
``UPDATE_WORDING=1 pytest tests/unit/test_wording.py`` makes, and commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from campaigns import write_campaign
from mailmerge import Campaign
from mailmerge.check.diagnostics import diagnostic_lines, listing
from mailmerge.errors import MailmergeError

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parents[1] / "data" / "wording.txt"

BODY = {"body.txt": "Hello, this is the news.\n"}
LIST = "email,first,plan,amount,due,link\nana@example.org,Ana,gold,12.50,2026-12-01,https://example.org/a\n"
PAGE = '<html lang="en"><body>\n{}\n</body></html>\n'


def body(html: str, text: str = "Hello Ana, https://example.org/a\n", **more: str) -> dict[str, str]:
    """Return the files of a campaign with this HTML."""
    return {"body.html": PAGE.format(html), "body.txt": text, **more}


def text(source: str, **more: str) -> dict[str, str]:
    """Return the files of a campaign with this text body."""
    return {"body.txt": source, **more}


def rows(*cells: str, heading: str = "email,first") -> dict[str, str]:
    """Return the files of a campaign with this list."""
    return {"list.csv": "\n".join((heading, *cells)) + "\n"}


def message(**options: str) -> dict[str, str]:
    """Return the files of a campaign with these options under ``[message]``."""
    return {"options": "\n".join(f"{name} = {value}" for name, value in options.items())}


CASES: dict[str, dict[str, str]] = {
    # templates
    "misspelt column": text("Dear {{ frist }},\nhi\n"),
    "misspelt column with a filter": text('hi\n  you owe {{ amout|money("EUR") }} now\n'),
    "misspelt column that the text around it names too": text("amout: {{ amout }}\n"),
    "misspelt column in an included macro": body(
        '{% from "parts/lines.html" import line with context %}\n{{ line("x") }}',
        **{
            "parts/lines.html": "{% macro line(label) %}\n"
            '<p>{{ label }}: {{ amout|money("EUR") }}</p>\n{% endmacro %}\n'
        },
    ),
    "macro that does not see the row": body(
        '{% from "parts.html" import line %}\n{{ line() }}',
        **{"parts.html": "{% macro line() %}<p>{{ first }}</p>{% endmacro %}\n"},
    ),
    "misspelt heading of row": text('Dear {{ row["Frist"] }},\n'),
    "misspelt attribute": text("{{ shop.nmae }} greets you\n", options='vars = { shop = "x" }') | {},
    "unknown filter": text("{{ amount|mony }}\n"),
    "tag that is not closed": text("Dear {{ first,\nhi\n"),
    "block that is not closed": text("{% if plan %}\nhi\n"),
    "include that is missing": text('{% include "foot.txt" %}\nhi\n'),
    "include that leads out": text('{% include "../secret.txt" %}\nhi\n'),
    "sandbox": text("{{ ''.__class__ }}\n"),
    "division by zero": text("{{ 1 / 0 }}\n"),
    "date that is none": text("due {{ plan|date }}\n"),
    "money that is none": text('{{ plan|money("EUR") }}\n'),
    "template that is missing": {"body.txt": ""},
    "safe and bare attributes": body("<p>{{ first|safe }}</p>\n<p title={{ plan }}>x</p>"),
    # list
    "row with a cell too many": rows("ana@example.org,Ana,gold"),
    "no address": rows("kim@gmial,Kim", "bo@x.org,Bo"),
    "address with a comma": rows('"kim@gmail,com",Kim'),
    "nobody to send to": rows(",Kim"),
    "several addresses": {**rows('"a@x.org, b@x.org",Kim'), **message(to='"{{ first }} <{{ email }}>"')},
    "line break in the subject": rows('ana@example.org,"Ana\nBcc: v@x.org"'),
    "same heading twice": rows("a@x.org,Ann", heading="email,Email"),
    "headings missing": rows("bo@x.org,Bo", heading="ana@x.org,Ann"),
    "greeting nobody": {**rows("ana@example.org,", "bo@x.org,Bo"), "body.txt": "Dear {{ first }},\nhi\n"},
    "markup in a cell": {**rows("ana@example.org,{{ plan }}"), "body.txt": "Hello {{ first }}!\n"},
    "empty subject": message(subject="\"{{ first if first == 'x' }}\""),
    "function without brackets": text("a\n{{ plan.upper }}\n"),
    "misspelt attribute beside the same name": text("nmae {{ first.nmae }}\n"),
    "number after a conversion": text("{{ amount|date }}\n"),
    "empty body": text("{% if plan == 'x' %}hi{% endif %}\n"),
    # values
    "text where a number is needed": text("hi\n{% if plan > 10 %}x{% endif %}\n"),
    "nothing where a number is needed": {
        **rows("ana@example.org,Ana,", heading="email,first,amount"),
        **text("hi\n{% if amount > 10 %}x{% endif %}\n"),
    },
    "day compared with a moment": {
        **text("{% if due == '2026-12-01 00:00' %}x{% endif %}hi\n"),
        "data": 'types = { due = "date" }',
    },
    "sum of a text": text("hi {{ amount + 1 }}\n"),
    "sum of two texts that are numbers": text("hi {{ amount + amount }}\n"),
    "number written differently": {
        **text("{% if amount == '12.500' %}x{% endif %}hi\n"),
        "data": 'types = { amount = "decimal" }',
    },
    "number that is another text": text("{% if amount == 12.5 %}x{% endif %}hi\n"),
    "date compared with a number": {
        **text("{% if due > 5 %}x{% endif %}hi\n"),
        "data": 'types = { due = "date" }',
    },
    "no as a condition": {
        **rows("ana@example.org,Ana,no", heading="email,first,paid"),
        **text("{% if paid %}Thank you{% else %}Please pay{% endif %}\n"),
    },
    "no as a condition of where": {
        **rows("ana@example.org,Ana,no", "bo@example.org,Bo,yes", heading="email,first,paid"),
        "data": 'where = "paid"',
    },
    "yes or no written differently": {
        **rows("ana@example.org,Ana,yes", heading="email,first,paid"),
        **text("{% if paid == 'TRUE' %}x{% endif %}{% if paid == true %}x{% endif %}hi\n"),
    },
    "looked up in vain": text("hi {{ {'silver': 1}[plan] }}\n"),
    "part of another type": text("hi {{ due.year }}\n"),
    # campaign file
    "where names no column": {"data": "where = \"plam == 'gold'\""},
    "where is a bare text": {"data": 'where = "plan"'},
    "key that is no column": {"data": 'key = "id"'},
    "header that is ours": message(headers='{ Bcc = "x@x.org" }'),
    "to that is two mailboxes": message(to='"a@x.org, b@x.org"'),
    "unknown key": message(subjekt='"x"'),
    # message
    "subject that shouts": message(subject='"BUY NOW AND SAVE!!!"'),
    "subject that pretends": message(subject='"Re: our talk"'),
    "long subject": message(subject=f'"{"news " * 20}"'),
    "name that is an address": message(**{"from": '"boss@bank.example <me@example.org>"'}),
    "answers to a free mailbox": message(reply_to='"me@gmail.com"'),
    "invisible mark in a name": {
        **rows("ana@example.org,Ana\u202e"),
        **message(to='"{{ first }} <{{ email }}>"'),
    },
    "precedence": message(headers='{ Precedence = "bulk" }'),
    "unsubscribing without a header": text("hi\nUnsubscribe: https://example.org/u/1\n"),
    "one click that is missing": {
        **text("hi\nleave: https://example.org/u/ana@example.org\n"),
        **message(headers='{ List-Unsubscribe = "<https://example.org/u/{{ email }}>" }'),
    },
    "no visible way out": {
        **text("hi\n"),
        **message(headers='{ List-Unsubscribe = "<mailto:leave@example.org>" }'),
    },
    "same unsubscribe link": {
        **rows(*(f"a{n}@x.org,Ann" for n in range(4))),
        **message(
            headers='{ List-Unsubscribe = "<https://example.org/{{ first }}>", '
            'List-Unsubscribe-Post = "List-Unsubscribe=One-Click" }'
        ),
        "body.txt": "hi\nunsubscribe: https://example.org/\n",
    },
    "forgotten text": text("Dear Ana, TODO: the news\n"),
    "attachment that is refused": {"attach": 'path = "setup.exe"', "setup.exe": "MZ"},
    "attachment that is missing": {"attach": 'path = "{{ plan }}.pdf"'},
    # links
    "link without scheme": body('<a href="www.example.org/x">the shop</a>'),
    "relative link": body('<p>\n<a href="page.html">the shop</a></p>'),
    "script in a cell": {
        **rows("ana@example.org,javascript:alert(1)"),
        **body('<a href="{{ first }}">the shop</a>'),
    },
    "empty link": {**rows("ana@example.org,"), **body('<a href="{{ first }}">the shop</a>')},
    "blank in a link": body('<a href="https://example.org/{{ first }} {{ plan }}">the shop</a>'),
    "link to this machine": body('<a href="http://localhost:8000/x">the shop</a>'),
    "cid written by hand": body('<img src="cid:logo" width="3" alt="">'),
    "plain http, shortener, bare address": body(
        '<a href="http://example.org/">shop</a> <a href="https://bit.ly/x">news</a>\n'
        '<a href="https://93.184.215.14/">map</a>'
    ),
    "disguised link": body('<a href="https://click.example/x">www.bank.example</a>'),
    # HTML
    "form and script": body('<form action="https://example.org/f">x</form>\n<script>x</script>'),
    "style sheet outside": {
        **body("x"),
        "body.html": '<html lang="en"><head><link rel="stylesheet" href="https://x.org/x.css">\n'
        '<meta charset="latin-1"></head><body>x</body></html>\n',
    },
    "one picture": body('<img src="https://example.org/a.png">', text="see https://example.org/a.png\n"),
    "accessibility": {
        "body.html": "<html><body>\n<table><tr><td><h1>News</h1><h3>More</h3></td></tr></table>\n"
        '<p style="color:#999; background:#fff">grey</p><a href="https://example.org/a">click here</a>\n'
        "</body></html>\n",
        "body.txt": "see https://example.org/a\n",
    },
    "mail programs": {
        **rows("a@gmail.com,Ann", "b@gmx.de,Bo", "c@web.de,Cy"),
        **body('<div style="display:grid; gap:1em"><p style="display: flex">a</p></div>'),
    },
    "text that leaves out the links": body('<a href="https://example.org/a">the shop</a>', text="hi\n"),
}


def make(folder: Path, case: dict[str, str]) -> None:
    """Write the campaign of one case."""
    files: dict[str, str | bytes | None] = {"people.csv": None, "list.csv": LIST, **BODY, **case}
    options, data, attach = (str(files.pop(name, "")) for name in ("options", "data", "attach"))
    top, message = (options, 'subject = "News"') if options.startswith("vars") else ("", options)
    for key, value in (("from", "me@example.org"), ("subject", "News for {{ first }}")):
        message += f'\n{key} = "{value}"' if f"{key} =" not in message else ""
    if not files["body.txt"]:
        files["body.txt"] = None
        message += '\ntext = "boby.txt"'
    data = f'source = "list.csv"\n{data}'
    rest = f"\n[[attach]]\n{attach}\n" if attach else ""
    write_campaign(folder, files, top=top, data=data, message=message, rest=rest)


def said(folder: Path) -> str:
    """Check the campaign and give what a terminal would show."""
    try:
        problems = (
            Campaign.load(folder, environ={"MAILMERGE_STATE_DIR": str(folder / "state")}).check().problems
        )
    except MailmergeError as error:
        return "\n".join(line for diagnostic in error.diagnostics for line in diagnostic_lines(diagnostic))
    return "\n".join(listing(problems))


def golden() -> dict[str, str]:
    """Read the expected texts."""
    parts = re.split(r"^=== (.*)\n", GOLDEN.read_text("utf-8"), flags=re.MULTILINE) if GOLDEN.exists() else []
    return dict(zip(parts[1::2], (text.rstrip("\n") for text in parts[2::2]), strict=True))


@pytest.fixture(scope="module")
def expected() -> Iterator[dict[str, str]]:
    """Return the expected texts; with UPDATE_WORDING, write them again."""
    texts = golden()
    yield texts
    if os.environ.get("UPDATE_WORDING"):
        GOLDEN.write_text("".join(f"=== {name}\n{texts[name]}\n\n" for name in CASES), encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_every_diagnostic_says_what_where_and_what_next(
    name: str, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words, the place and the caret are those in the golden file."""
    monkeypatch.chdir(tmp_path)
    make(Path("spring"), CASES[name])
    shown = said(Path("spring"))
    if os.environ.get("UPDATE_WORDING"):
        expected[name] = shown
    assert shown == expected.get(name)


def test_the_golden_file_has_no_texts_that_nobody_asks_for() -> None:
    """Each expected text belongs to a case, and most codes of lists, templates and messages occur."""
    texts = golden()
    assert set(texts) == set(CASES)
    assert len(set(re.findall(r"\[([A-Z]\d{3})\]", "\n".join(texts.values())))) >= 45
