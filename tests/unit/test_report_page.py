"""The report page as a file; what it looks like is tested in a browser."""

from __future__ import annotations

import base64
import hashlib
import re
import stat
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from ledger_rows import attempt
from mailmerge.history import Answer, Bin, Timeline, Times, Waits
from mailmerge.ledger.attempts import Settlement
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Counts, Delivery, Outcome, Phase, Rate, Result, Scope, Status
from mailmerge.report import charts
from mailmerge.report.report_page import PageFacts, write_page
from mailmerge.report.summary import MOST_ROWS, RowSample
from plans import people, standing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RESOLVE = (
    "mailmerge resolve spring",
    "mailmerge resolve spring --as-accepted",
    "mailmerge resolve spring --resend",
)

ESCAPES = "\x1b]0;owned\x07\x1b[31m\u202egnp.exe\u200b\r\n"


def result(row: int | None, status: Status, reply: str = "", **more: str) -> Result:
    """Make one row's result; with a reply it was contacted."""
    address = more.get("address", f"a{row}@example.org")
    delivery = None
    if reply:
        delivery = Delivery(
            key=f"k{row}",
            row=row or 0,
            address=address,
            status=status,
            attempts=1,
            code=250,
            reply=reply,
            message_id=f"<{row}@example.org>",
            updated=datetime(2026, 11, 22, 10, 0, tzinfo=UTC),
        )
    return Result(row, f"k{row}", address, status, more.get("detail", ""), delivery)


def write(path: Path, results: Iterable[Result], **facts: object) -> str:
    """Write a page about these results over an empty ledger, and give its text."""
    picked, counts, gone = RowSample(), dict[Status, int](), 0
    for one in results:
        picked.add(one)
        counts[one.status] = counts.get(one.status, 0) + 1
        gone += one.row is None
    known = PageFacts(campaign="spring", resolve=RESOLVE, **facts)  # type: ignore[arg-type]
    with Ledger.scratch(None, "spring") as ledger:
        write_page(path, known, Counts(counts), picked, ledger.aggregates(lambda _keys: {}), gone=gone)
    return path.read_text("utf-8")


def test_people_have_their_names_and_one_of_a_kind_is_no_chart(campaign_factory) -> None:
    """Rows have the names of the list, as data; the numbers come first; what says nothing is left out."""
    rows = ["ana@example.com,Ana,</th><script>1</script>"]
    spring = campaign_factory(
        {"body.txt": "Hello\n"},
        rows=rows,
        heading="email,First name,Last name",
        message='to = "{{ email }}"\nsubject = "Hello"',
    )

    page = spring.rehearse().page.read_text("utf-8")

    name = "Ana &lt;/th&gt;&lt;script&gt;1&lt;/script&gt;"
    assert f'<span class="name">{name}</span> ana@example.com<span' in page
    assert page.index('class="tiles"') < page.index('<dl class="facts">')
    assert re.findall(r'<svg id="(.*?)"', page) == []


def test_people_have_the_names_that_their_messages_give_them(campaign_factory) -> None:
    """What is written before the address in To counts more than what the headings suggest."""
    spring = campaign_factory(
        {"body.txt": "Hello\n"},
        rows=["ana@example.com,Ana,Ng,Ltd"],
        heading="email,a,b,company",
        message='to = "{{ a|title }} {{ b }} <{{ email }}>"\nsubject = "Hello"',
    )

    page = spring.rehearse().page.read_text("utf-8")

    assert '<span class="name">Ana Ng</span> ana@example.com<span' in page


def text_of(page: str) -> str:
    """Return what a person reads, with runs of spaces collapsed."""
    texts: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            texts.append(data)

    Reader().feed(page.partition("<body>")[2])
    return " ".join("".join(texts).split())


def test_the_page_is_private_and_holds_no_message(tmp_path):
    """Only its owner can read it."""
    path = tmp_path / "out" / "report.html"
    write(path, [result(2, Status.ACCEPTED, "Ok")])

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".gitignore", "report.html"]


def test_its_policy_lets_in_what_is_in_it_and_nothing_else(tmp_path):
    """The hashes are those of the one style and the one script, and no element has a style of its own."""
    page = write(tmp_path / "report.html", [result(2, Status.ACCEPTED, "Ok")])
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0]
    parts = {tag: re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("style", "script")}
    hashes = {
        tag: base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        for tag, texts in parts.items()
    }

    assert [len(texts) for texts in parts.values()] == [1, 1]
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{hashes['style']}'",
        f"script-src 'sha256-{hashes['script']}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert " style=" not in page
    assert not re.search(r"\son[a-z]+=", page.partition("<body>")[2])
    assert set(re.findall(r'(?:src|href)="([^"#]*)', page)) <= {""}


@pytest.mark.parametrize("where", ["address", "detail", "reply"])
def test_control_characters_and_markup_are_shown_as_text(tmp_path, where):
    """Terminal escapes, bidi marks and tags come out as text, wherever they come from."""
    evil = f"<script>alert(1)</script>{ESCAPES}&amp;"
    one = result(
        2, Status.REJECTED, "no" if where != "reply" else evil, **({where: evil} if where != "reply" else {})
    )
    if where == "detail":
        one = result(2, Status.INVALID, detail=evil)
    page = write(tmp_path / "report.html", [one])

    assert "<script>alert" not in page
    shown = r"<script>alert(1)</script>\x1b]0;owned\x07\x1b[31m\u202egnp.exe\u200b\r\n&amp;"
    assert shown in text_of(page)


def test_tiles_add_up_also_with_rows_that_are_gone(tmp_path):
    """Every state is in exactly one tile."""
    results = [result(row, status, "x" if row % 2 else "") for row, status in enumerate(Status, 2)]
    results.append(result(None, Status.ACCEPTED, "Ok"))
    text = text_of(write(tmp_path / "report.html", results))

    assert (
        "2 + 3 + 3 + 2 + 1 + 3 = 14 rows: 13 in the list and 1 that was contacted but has been removed"
        in text
    )


def test_a_long_list_shows_the_rows_that_matter(tmp_path):
    """Over the limit accepted rows are left out, and what is shown is said."""
    results = [result(row, Status.ACCEPTED, "Ok") for row in range(2, MOST_ROWS + 2)]
    results += [
        result(MOST_ROWS + 2, Status.SKIPPED),
        result(MOST_ROWS + 3, Status.REJECTED, "no"),
        result(None, Status.IN_DOUBT, "lost"),
    ]
    page = write(tmp_path / "report.html", results)

    assert "3 of its 5,003 rows are shown here" in text_of(page)
    assert re.findall(r'<td class="row-number" data-value="(\d+)"', page) == ["5002", "5003", "0"]
    assert len(page) < 60_000


def test_trouble_comes_before_other_rows_that_were_not_accepted():
    """A million rows that were not selected cannot push a refused one out."""
    picked = RowSample(most=3)
    for row in range(2, 12):
        picked.add(result(row, Status.SKIPPED))
    picked.add(result(12, Status.REJECTED, "no"))
    for row in range(13, 20):
        picked.add(result(row, Status.ACCEPTED, "Ok"))

    assert [one.row for one in picked.rows] == [2, 3, 12]
    assert picked.total == 18


def test_nobody_is_asked_to_decide_where_nothing_is_in_doubt(tmp_path):
    """The red box is there only when it is needed; in a rehearsal it has no commands."""
    fine = write(tmp_path / "fine.html", [result(2, Status.ACCEPTED, "Ok")])
    doubt = write(tmp_path / "doubt.html", [result(2, Status.IN_DOUBT, "x")])
    rehearsed = write(tmp_path / "rehearsed.html", [result(2, Status.IN_DOUBT, "x")], rehearsal=True)

    assert "in doubt:" not in text_of(fine)
    assert "mailmerge resolve spring --as-accepted" in text_of(doubt)
    assert "in a real run you would have to decide" in text_of(rehearsed)


# --- shapes of the charts ---------------------------------------------------------------------------------


def timeline(*counts: int, width: float = 60.0) -> Timeline:
    bins = (Bin(1e9 + n * width, {Status.ACCEPTED: count}) for n, count in enumerate(counts))
    return Timeline(width, tuple(bins))


def test_bars_stay_inside_their_chart():
    """Heights fit the scale, columns fill the width from left to right."""
    chart = charts.outcomes(timeline(*range(100)))

    assert [round(column.parts[0].length) for column in chart.columns if column.total == 50] == [95]
    assert max(part.length for column in chart.columns for part in column.parts) <= charts.HEIGHT
    assert chart.columns[-1].x + chart.columns[-1].width == pytest.approx(100, abs=0.1)
    assert chart.grid.lines[-1] == (0.0, "100")


def test_the_rate_is_a_line_where_it_fits():
    """A rate far above what happened would flatten the bars: it is said instead."""
    near = charts.throughput(timeline(50, 60, 55), [Rate(60, 60), Rate(1000, 86_400)])
    far = charts.throughput(timeline(5, 6, 5), [Rate(1000, 60)])

    assert [column.total for column in near.columns] == [50, 60, 55]
    assert near.line == pytest.approx(charts.HEIGHT * (1 - 60 / 80))
    assert near.line_label == "rate 60/m"
    assert far.line is None
    assert "1000/m" in far.line_label


def test_throughput_is_no_spike_of_one_message():
    """Short bins are averaged over ten seconds at least; a short rest joins the bar before."""
    chart = charts.throughput(timeline(*[1] * 24, width=1), ())

    assert [column.total for column in chart.columns] == [60, 60]


def test_replies_are_grouped_by_their_first_digit():
    """What has no code comes last."""
    answers = [
        Answer(Status.IN_DOUBT, None, "", "", 1),
        Answer(Status.REJECTED, 554, "5.7.1", "refused", 1),
        Answer(Status.REJECTED, 550, "5.1.1", "no such user", 4),
        Answer(Status.ACCEPTED, 250, "2.0.0", "Ok", 90),
    ]
    families = charts.families(answers)

    assert [(family.name[:3], family.total) for family in families] == [("2xx", 90), ("5xx", 5), ("No ", 1)]
    assert [length for _, length in families[1].answers] == [25.0, 100.0]


def test_a_server_that_refused_the_sender_has_no_shares():
    """A run that ended before any row was answered has nothing to compare: an empty bar, and a page."""
    assert list(charts.shares({})) == []


def test_waiting_fills_the_bar():
    """The parts touch each other and end where the bar ends."""
    slices = charts.waiting(Waits(answer=1, pace=2, network=1), paced=True)

    assert [(part.series, part.start, part.length) for part in slices] == [
        ("answer", 0, 25),
        ("pace", 25, 50),
        ("network", 75, 25),
    ]
    assert charts.waiting(Waits(), paced=True) == ()


def test_percentiles_are_drawn_against_the_slowest():
    """The longest bar is the slowest message."""
    assert charts.percentiles(Times(10, 0.1, 0.2, 0.5, 1.0)) == (
        ("50 % within", 0.1, 10.0),
        ("95 % within", 0.2, 20.0),
        ("99 % within", 0.5, 50.0),
        ("slowest", 1.0, 100.0),
    )


def test_before_anything_happened_there_is_a_page(tmp_path):
    """A campaign that was only planned has rows and no charts."""
    with Ledger.scratch(None, "spring") as ledger:
        found = standing(ledger, *people("a"))
        picked = RowSample()
        for one in found.results():
            picked.add(one)
        path = tmp_path / "report.html"
        write_page(path, PageFacts("spring"), ledger.counts(), picked, found.aggregates())

    assert "No message has been attempted yet" in text_of(path.read_text("utf-8"))


@pytest.mark.parametrize("status", [Status.DEFERRED, Status.EXPIRED, Status.IN_DOUBT])
def test_an_attempt_that_got_no_reply_is_on_the_page(tmp_path, status):
    """A connection that always ends without a word leaves its row deferred, or expired in the end."""
    date = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    handed_over = attempt(2, key="a", address="a@example.org", message_id="<a@example.org>", date=date)
    path = tmp_path / "report.html"
    with Ledger.scratch(None, "spring") as ledger:
        ledger.note_version("v1", {})
        ledger.attempts.record_intent([handed_over])
        outcome = Outcome(status, Scope.CONNECTION, Phase.RCPT, reason="dropped")
        ledger.attempts.record_outcomes([Settlement(handed_over, outcome, status, date)])
        known = PageFacts(campaign="spring", resolve=RESOLVE)
        write_page(path, known, Counts({status: 1}), RowSample(), ledger.aggregates(lambda _keys: {}), gone=0)
    assert re.search("no answer|the reply was lost", text_of(path.read_text("utf-8")))
