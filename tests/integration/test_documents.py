"""Files that are made for rows: what is in them, that the same row makes the same, and what is refused."""

from __future__ import annotations

import base64
import csv
import io
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from email import message_from_bytes, policy
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.errors import CampaignFileError, MailmergeError
from mailmerge.model import Status
from mailmerge.plan.cache import PlanCache, PlanOwner
from mailmerge.render.delimited import printed_in_field, quoted_fields
from servers import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from campaigns import CampaignFactory
    from mailmerge import Campaign, Plan

ATTACH = '\n[[attach]]\ntemplate = "{}"\n{}'
TYPST = "#set page(width: 8cm, height: 4cm)\nDear #sys.inputs.name"
PAGE = "<!doctype html><title>R</title><style>@page { size: 18cm 4cm }</style><p>Dear {{ name }}</p>"
LOGO = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\nIDATx\x9cc\0\1"
    b"\0\0\5\0\1\r\n-\xb4\0\0\0\0IEND\xaeB`\x82"
)


@pytest.fixture
def made(campaign_factory: CampaignFactory) -> Callable[..., Campaign]:
    """Write a campaign with one rule that makes a file: ``made("r.typ", TYPST)``, and open it."""

    def write(
        template: str,
        content: str,
        *rows: str,
        rule: str = "",
        files: dict[str, str | bytes] | None = None,
        **sections: str,
    ) -> Campaign:
        rest = ATTACH.format(template, rule)
        wanted = {"rows": rows or ("ana@example.com,Ana",), **sections}
        return campaign_factory({template: content, **(files or {})}, rest=rest, **wanted)

    return write


def attached(plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each attachment of the planned messages, as a mail program reads them."""
    for message in plan.messages():
        parsed = message_from_bytes(message.content, policy=policy.default)
        for part in parsed.iter_attachments():
            yield part.get_filename() or "", bytes(part.get_payload(decode=True))


def text_of(pdf: bytes, *options: str) -> str:
    """Read a PDF as Poppler does."""
    programs.require("pdftotext")
    return subprocess.run(
        ["pdftotext", *options, "-", "-"], input=pdf, capture_output=True, check=True
    ).stdout.decode()


def the_error(plan: Plan) -> tuple[str, str, str]:
    """Return message, hint and place of the one error."""
    [found] = [group.first for group in plan.problems if group.first.code == "A351"]
    place = found.place
    return found.message, found.hint or "", f"{place.path}:{place.line}:{place.column}" if place else ""


# --- tables and texts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "value", "line"),
    [
        ("{},x", "a", "a,x"),
        ("{},x", "a,b", '"a,b",x'),
        ("{};x", "a,b", '"a,b";x'),
        ('"{}",x', 'a "b"', '"a ""b""",x'),
        ("{},x", 'a "b"', '"a ""b""",x'),
        ("Dear {}!,x", "a\nb", '"Dear a\nb!",x'),
        ('"{}, {}",x', 'a"', '"a"", a""",x'),
        ("{},x", "=1+1", "'=1+1,x"),
        ("{},x", "@SUM(A1)", "'@SUM(A1),x"),
        ("{},x", '=cmd|"/c calc"!A1', '"\'=cmd|""/c calc""!A1",x'),
        ("{},x", "+cmd", "'+cmd,x"),
        ("{},x", "-5", "-5,x"),
        ("{},x", "-1,5 %", '"-1,5 %",x'),
        ("{},x", "+49 (30) 12-34", "+49 (30) 12-34,x"),
        ("{},x", "\uff1d1", "'\uff1d1,x"),
        ("n = {},x", "=1", "n = =1,x"),
        ('"a ""b"" c",{}', "=", '"a ""b"" c",\'='),
        ("{},x", "", ",x"),
    ],
)
def test_a_value_is_one_field(template: str, value: str, line: str) -> None:
    """Whatever a cell contains is one field's content, quoted if it has to be, and no formula."""
    separator = ";" if ";" in template else ","
    text = f"a{separator}b\n" + template.replace("{}", printed_in_field(value)) + "\n"
    assert quoted_fields(text) == f"a{separator}b\r\n{line}\r\n"


@given(st.lists(st.text(alphabet='a,;"\r\n\t |é=', max_size=6), min_size=3, max_size=3))
def test_a_reader_gets_the_cells_back(cells: list[str]) -> None:
    """Python's csv module reads what the cells were, whatever is in them."""
    marked = [printed_in_field(cell) for cell in cells]
    text = quoted_fields(f'a,b,c\n{marked[0]},"{marked[1]}",<{marked[2]}>')
    [_, fields] = csv.reader(io.StringIO(text, newline=""))
    assert [field.removeprefix("'") for field in fields] == [*cells[:2], f"<{cells[2]}>"]


def test_a_table_and_a_text_are_attached(made: Callable[..., Campaign]) -> None:
    """A table has its mark of UTF-8 where it needs one, and lines that end as those of CSV files do."""
    rule = 'name = "Data for {{ name }}"\n[[attach]]\ntemplate = "note.txt"\n'
    table = "name,mail\n{{ name }},{{ email }}\n"
    campaign = made(
        "cells.csv", table, 'ana@example.com,"É, =Ana"', rule=rule, files={"note.txt": "Hi {{ name }} <b>"}
    )
    assert list(attached(campaign.plan())) == [
        ("Data for É, =Ana.csv", '\ufeffname,mail\r\n"É, =Ana",ana@example.com\r\n'.encode()),
        ("note.txt", "Hi É, =Ana <b>".encode()),
    ]


# --- Typst ------------------------------------------------------------------------------------------------


def test_a_cell_is_data_for_typst(made: Callable[..., Campaign]) -> None:
    """What would be markup or code in a Typst file is printed as it is."""
    cell = "#panic(1) *b* $1$ <a> // @b"
    [(name, pdf)] = attached(made("r.typ", TYPST, f"ana@example.com,{cell}").plan())
    assert (name, cell in text_of(pdf).replace("\n", " ")) == ("r.pdf", True)


def test_typst_gets_typed_values_and_headings(made: Callable[..., Campaign]) -> None:
    """Numbers can be calculated with, and any heading can be asked for."""
    source = (
        "#let row = json(bytes(sys.inputs.row))\n#let v = json(bytes(sys.inputs.values))\n"
        '#(v.amount * 2) #row.at("Full Name") #sys.inputs.company'
    )
    campaign = made(
        "r.typ",
        source,
        "ana@example.com,Ana,1.25,Ana Ma",
        heading="email,name,amount,Full Name",
        data='types = { amount = "decimal" }',
        top='vars = { company = "Us" }',
    )
    [(_, pdf)] = attached(campaign.plan())
    assert text_of(pdf).split() == ["2.5", "Ana", "Ma", "Us"]


@pytest.mark.parametrize(
    ("source", "told", "where"),
    [
        ("\n\nDear #sys.inputs.nam", 'r.pdf cannot be made: sys.inputs has no value "nam"', "r.typ:3:18"),
        ("#let x = (1\n", "r.pdf cannot be made: unclosed delimiter", "r.typ:1:10"),
        ('#image("people.csv".replace(".csv", ".png"))', "file not found", "r.typ:1:8"),
        ('#read(sys.inputs.name + ".txt")', "file not found", "r.typ:1:7"),
        ('#read("people.csv")', "file not found", "r.typ:1:7"),
    ],
)
def test_a_row_without_its_document_is_invalid(
    made: Callable[..., Campaign], source: str, told: str, where: str
) -> None:
    """What is wrong for one row is told at the line of the template, and the row is not sent."""
    plan = made("r.typ", source, "ana@example.com,body").plan()
    message, hint, place = the_error(plan)
    assert (plan.counts[Status.INVALID], told in message, place.endswith(where)) == (1, True, True), message
    assert hint or "unclosed" in message


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('#import "@preview/cetz:0.3.0": *', 'imports the package "@preview/cetz:0.3.0"'),
        ("#datetime.today().display()", "uses today's date"),
        ('#read("sub.typ")\n', "uses today's date"),
    ],
)
def test_a_template_that_would_not_stay_the_same_is_refused(
    made: Callable[..., Campaign], source: str, told: str
) -> None:
    """No package is fetched, no day is asked for, and no file of the campaign's own is read."""
    with pytest.raises(MailmergeError) as failed:
        made("r.typ", source, files={".env": "X=1", "sub.typ": "#datetime.today()"}).plan()
    assert (failed.value.code, told in str(failed.value)) == ("A351", True), failed.value


def test_comments_may_say_what_is_refused(made: Callable[..., Campaign]) -> None:
    """A package or the day in a comment is not asked for."""
    source = f'// "@preview/x:1" datetime.today()\n/* datetime.today */{TYPST}'
    assert made("r.typ", source).plan().ready == 1


# --- pages ------------------------------------------------------------------------------------------------


def test_a_page_shows_values_as_text_and_files_of_the_folder(made: Callable[..., Campaign]) -> None:
    """A cell is not HTML; a style and a picture of the folder are used; another style makes a new page."""
    page = PAGE.replace("<style>", '<link rel=stylesheet href="s/a.css"><img src="logo.png" alt=""><style>')
    files = {"logo.png": LOGO, "s/a.css": "p::before { content: 'styled ' }"}
    campaign = made("r.html", page, "ana@example.com,<b>Ana</b> & Co", files=files)
    [(name, first)] = attached(campaign.plan())
    assert (name, text_of(first).strip()) == ("r.pdf", "styled Dear <b>Ana</b> & Co")
    [(_, again)] = attached(made("r.html", page, "ana@example.com,<b>Ana</b> & Co", files=files).plan())
    files["s/a.css"] = "p::before { content: 'new ' }"
    [(_, other)] = attached(made("r.html", page, "ana@example.com,<b>Ana</b> & Co", files=files).plan())
    assert (again == first, text_of(other).strip()) == (True, "new Dear <b>Ana</b> & Co")


def test_a_page_may_have_its_picture_inside(made: Callable[..., Campaign]) -> None:
    """A data address needs no file; one that is damaged is told, as nothing may be missing from a page."""
    picture = base64.b64encode(LOGO).decode("ascii")
    page = PAGE.replace("<p>", f'<img src="data:image/png;base64,{picture}" alt=""><p>')
    assert made("r.html", page).plan().ready == 1
    plan = made("r.html", PAGE.replace("<p>", '<img src="data:image/png;base64,AAAA" alt=""><p>')).plan()
    assert "something would be missing in the page" in the_error(plan)[0]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("file:///etc/passwd", "not a file of the campaign's folder"),
        ("http://127.0.0.1:9/x.png", "not a file of the campaign's folder"),
        ("../x.png", "not a file of the campaign's folder"),
        (".env", "hidden file"),
        ("people.csv", "the list"),
        ("body.txt", "a template"),
        ("gone.png", "which does not exist"),
        ("notes.txt", "which is none of these"),
    ],
)
def test_a_page_shows_nothing_else(made: Callable[..., Campaign], cell: str, told: str) -> None:
    """Neither the network nor another file gets into a page, whatever a cell names; the row is invalid."""
    page = PAGE.replace("<p>", '<img src="{{ name }}" alt=""><p>')
    campaign = made("r.html", page, f"ana@example.com,{cell}", files={".env": "X=1", "notes.txt": "x"})
    message, _, place = the_error(campaign.plan())
    assert (told in message, "campaign.toml" in place) == (True, True), message


# --- passwords --------------------------------------------------------------------------------------------


def opened(pdf: bytes, password: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Look whether a password opens a PDF, as qpdf does."""
    programs.require("qpdf")
    (tmp_path / "x.pdf").write_bytes(pdf)
    command = ["qpdf", f"--password={password}", "--check", str(tmp_path / "x.pdf")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_password_opens_the_pdf(made: Callable[..., Campaign], tmp_path: Path) -> None:
    """AES-256 with the row's own password; the same row makes the same file in another cache, too."""
    rule = 'password = "{{ name }}"\n'
    campaign = made("r.typ", TYPST, "ana@example.com,Zoë 1", "bo@example.com,Bo", rule=rule)
    (_, pdf), (_, other) = attached(campaign.plan())
    done = opened(pdf, "Zoë 1", tmp_path)
    assert (done.returncode, "AESv3" in done.stdout) == (0, True), done
    assert opened(pdf, "Bo", tmp_path).returncode == 2
    assert opened(other, "Bo", tmp_path).returncode == 0
    assert text_of(pdf, "-upw", "Zoë 1").strip() == "Dear Zoë 1"
    shutil.rmtree(tmp_path / "cache")
    assert [content for _, content in attached(campaign.plan())] == [pdf, other]


@pytest.mark.parametrize("password", ["", "x" * 128])
def test_no_pdf_without_its_password(made: Callable[..., Campaign], password: str) -> None:
    """An empty or impossible password makes the row invalid: the file would be open to anybody."""
    rule = 'password = "{{ pw }}"\n'
    row = f"ana@example.com,Ana,{password}"
    plan = made("r.typ", TYPST, row, heading="email,name,pw", rule=rule).plan()
    assert (plan.counts[Status.INVALID], [group.first.code for group in plan.problems]) == (1, ["A352"])


# --- kept files -------------------------------------------------------------------------------------------


def test_the_same_row_is_the_same_file(made: Callable[..., Campaign], tmp_path: Path) -> None:
    """Two plans in two caches have the same bytes, for each kind."""
    rest = "".join(ATTACH.format(name, "") for name in ("r.html", "c.csv", "t.txt"))
    files = {"r.html": PAGE, "c.csv": "a,{{ name }}", "t.txt": "{{ name }}"}
    campaign = made("r.typ", TYPST, rule=rest, files=files)
    first = list(attached(campaign.plan()))
    shutil.rmtree(tmp_path / "cache")
    time.sleep(1.1)
    assert (len(first), list(attached(campaign.plan()))) == (4, first)


def test_files_are_made_once(made: Callable[..., Campaign], tmp_path: Path) -> None:
    """A plan made again for another reason finds the existing files, also those of a killed one."""
    campaign = made("r.typ", TYPST, "ana@example.com,Ana", "bo@example.com,Bo")
    campaign.plan()
    kept = {path: path.stat().st_ino for path in (tmp_path / "cache" / "documents").rglob("*.pdf")}
    for plan in (tmp_path / "cache").glob("*.plan"):
        plan.unlink()
    made("r.typ", TYPST, "ana@example.com,Ana", "bo@example.com,Bo", "cy@example.com,Cy").plan()
    now = {path: path.stat().st_ino for path in (tmp_path / "cache" / "documents").rglob("*.pdf")}
    assert (len(kept), len(now), now.items() >= kept.items()) == (2, 3, True)


def test_a_file_that_is_gone_is_made_again(made: Callable[..., Campaign], tmp_path: Path) -> None:
    """The cache may be emptied at any time: the next command plans those rows again."""
    campaign = made("t.txt", "Hi {{ name }}", "ana@example.com,Ana", "bo@example.com,Bo")
    before = list(attached(campaign.plan()))
    first = next((tmp_path / "cache" / "documents").rglob("*.txt"))
    first.unlink()
    plan = campaign.plan()
    assert (list(attached(plan)), plan.anew) == (before, 1)


def test_an_empty_leftover_is_made_again(made: Callable[..., Campaign], tmp_path: Path) -> None:
    """A power cut can leave a file without content: it is not taken for the real one."""
    campaign = made("t.txt", "Hi {{ name }}")
    before = list(attached(campaign.plan()))
    next((tmp_path / "cache" / "documents").rglob("*.txt")).write_bytes(b"")
    assert list(attached(campaign.plan())) == before


def test_purge_removes_them(made: Callable[..., Campaign], tmp_path: Path) -> None:
    """Files made for people are personal data."""
    campaign = made("t.txt", "Hi {{ name }}")
    campaign.plan()
    campaign.purge()
    assert list((tmp_path / "cache" / "documents").rglob("*.txt")) == []


def test_old_files_of_no_plan_are_swept(made: Callable[..., Campaign], tmp_path: Path) -> None:
    """What no plan has is removed after two weeks; what one has stays, however old it is."""
    campaign = made("t.txt", "Hi {{ name }}")
    campaign.plan()
    [folder] = (path for path in (tmp_path / "cache" / "documents").iterdir() if path.is_dir())
    [planned] = folder.glob("*.txt")
    leftover = folder / ("0" * 64 + ".txt")
    leftover.write_bytes(b"x")
    for path in (planned, leftover, folder):
        os.utime(path, (1, 1))
    cache = PlanCache(tmp_path / "cache", PlanOwner("/elsewhere", "other"))
    cache.sweep(datetime.now(UTC))
    assert list(folder.glob("*.txt")) == [planned]


def test_the_time_is_told_where_it_is_long(
    made: Callable[..., Campaign], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks is told once how long the files will take; loading what makes them does not count."""
    told: list[float] = []

    class Asks:
        def __call__(self, rows: int) -> None: ...

        def takes(self, seconds: float) -> None:
            told.append(seconds)

    ticks = chain([0, 60], range(60, 10**9, 2))
    monkeypatch.setattr("mailmerge.documents.maker.time.monotonic", lambda: next(ticks))
    rows = [f"p{n}@example.com,P{n}" for n in range(11)]
    made("t.txt", "Hi {{ name }}", *rows).plan(progress=Asks())
    assert told == [18.0]


@pytest.mark.parametrize(
    ("template", "module"), [("r.html", "weasyprint"), ("r.typ", "typst"), ("r.typ", "pypdf")]
)
def test_a_missing_extra_is_told_before_the_first_row(
    made: Callable[..., Campaign], monkeypatch: pytest.MonkeyPatch, template: str, module: str
) -> None:
    """What has to be installed is reported immediately, with the place that asks for it."""
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(CampaignFileError) as failed:
        made(template, TYPST).plan()
    extra = "typst" if template.endswith("typ") else "pdf"
    assert (failed.value.code, f"mailmerge-kit[{extra}]" in (failed.value.hint or "")) == ("X902", True)
    assert failed.value.line is not None


def test_a_missing_pango_is_told(made: Callable[..., Campaign], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where WeasyPrint cannot load the system's library, the command to install it is named."""
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "weasyprint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("cffi.FFI.dlopen", _without_libraries)
    with pytest.raises(CampaignFileError) as failed:
        made("r.html", PAGE).plan()
    assert (failed.value.code, "libpango" in (failed.value.hint or "")) == ("X902", True)


def _without_libraries(*_: object) -> None:
    raise OSError("cannot load library 'libpango-1.0-0'")


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ('template = "x.ics"', "C40"),
        ('template = "x.docx"', "C40"),
        ('template = "x.txt"\npath = "y"', "C405"),
        ('template = "x.txt"\nmissing = "skip"', "C405"),
        ('template = "x.txt"\npassword = "{{ name }}"', "C405"),
        ('template = "x.typ"\npassword = "secret"', "C409"),
    ],
)
def test_rules_that_make_no_sense_are_refused(
    campaign_factory: CampaignFactory, rule: str, code: str
) -> None:
    """A rule either finds a file or makes one; a password is each row's own."""
    with pytest.raises(CampaignFileError) as failed:
        campaign_factory(rest=f"\n[[attach]]\n{rule}\n")
    assert (failed.value.code or "").startswith(code)
