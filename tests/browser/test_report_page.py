"""The report page as people meet it: opened from disk in a real browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from mailmerge.ledger.attempts import Settlement
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Attempt, Counts, Outcome, Phase, Rate, Reply, Scope, Status
from mailmerge.plan.store import PlanRow
from mailmerge.report.report_page import PageFacts, write_page
from mailmerge.report.summary import RowSample
from plans import standing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.program("chromium")

RESOLVE = (
    "mailmerge resolve spring",
    "mailmerge resolve spring --as-accepted",
    "mailmerge resolve spring --resend",
)

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
HOSTILE = (
    "</td></tr></table><script>document.title='owned'</script><form action=//evil.test><input>"
    "<meta http-equiv=refresh content='0;url=//evil.test'><img src=//evil.test/x.png onerror=alert(1)>"
    '<a href="javascript:alert(2)">x</a><style>*{display:none}</style><b "\x1b]0;owned\x07\u202e'
)
REPLIES = {
    Status.ACCEPTED: (250, (2, 0, 0), "Ok: queued as 4XkT1p{row}"),
    Status.REJECTED: (550, (5, 1, 1), "no such user"),
    Status.DEFERRED: (451, (4, 7, 1), "Greylisted, please try again in 5 minutes"),
}


def write(path: Path, rows: Iterable[tuple[str, Status, str]], **facts: object) -> Path:
    """Write a page about rows with these addresses, states and replies (empty: a usual one)."""
    with Ledger.scratch(None, "spring", now=lambda: START) as ledger:
        ledger.note_version("c" * 64, {})
        ledger.start_run("send", "c" * 64)
        rows = list(rows)
        planned = []
        for n, (address, status, detail) in enumerate(rows):
            contacted = status in {*REPLIES, Status.IN_DOUBT}
            own = Status.PENDING if contacted else status
            planned.append(PlanRow(n, n + 2, f"k{n + 2}", address, own, "" if contacted else detail))
        found = standing(ledger, *planned)
        for row, (address, status, words) in enumerate(rows, 2):
            if status in {*REPLIES, Status.IN_DOUBT}:
                contact(ledger, row, address, status, words)
        ledger.finish_run("finished", {})
        picked, counts = RowSample(), dict[Status, int]()
        for result in found.results():
            picked.add(result)
            counts[result.status] = counts.get(result.status, 0) + 1
        known = PageFacts(
            campaign="spring-invoices",
            account="smtp.example.org as me@example.org",
            server="smtp.example.org",
            list_name="contacts.xlsx",
            list_digest="a" * 64,
            versions=tuple(ledger.versions()),
            rates=(Rate(60, 60),),
            resolve=RESOLVE,
            again="mailmerge send spring",
            files=("results.csv",),
            **facts,  # type: ignore[arg-type]
        )
        write_page(path, known, Counts(counts), picked, found.aggregates())
    return path


def contact(ledger: Ledger, row: int, address: str, status: Status, words: str) -> None:
    """Record one attempt, a second after the one before, answered after a tenth of a second or more."""
    at = START + timedelta(seconds=row)
    ledger._now = lambda: at
    attempt = Attempt(
        key=f"k{row}",
        row=row,
        address=address,
        number=1,
        message_id=f"<{row}@example.org>",
        date=START,
        recipients=1,
        size=2000,
        digest="d",
        frozen="f",
        row_digest="r",
        version="c" * 64,
        connection="1" if row < 40 else "2",
    )
    ledger.attempts.record_intent([attempt])
    code, enhanced, text = REPLIES.get(status, (0, None, ""))
    said = words or text.format(row=row)
    reply = Reply(code, (said,), enhanced) if code else None
    outcome = Outcome(status, Scope.ROW, Phase.CONTENT, reply)
    answered = at + timedelta(seconds=0.1 + (row % 7) / 20)
    later = at + timedelta(minutes=5) if status is Status.DEFERRED else None
    ledger.attempts.record_outcomes([Settlement(attempt, outcome, status, answered, later)])


def ordinary() -> list[tuple[str, Status, str]]:
    """Sixty rows of all kinds."""
    states = {5: Status.REJECTED, 11: Status.REJECTED, 17: Status.DEFERRED, 23: Status.IN_DOUBT}
    states |= {31: Status.INVALID, 37: Status.DUPLICATE, 41: Status.SUPPRESSED}
    domains = ("example.com", "example.net", "corp.example", "例え.example")
    details = {31: '"kim@gmial,com" is not an address', 37: "repeats row 2", 41: "unsubscribed.txt"}
    return [
        (f"person{row}@{domains[row % 4]}", states.get(row, Status.ACCEPTED), details.get(row, ""))
        for row in range(2, 62)
    ]


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    """A page about sixty rows."""
    return write(tmp_path / "report.html", ordinary())


def test_it_opens_from_disk_and_asks_for_nothing(page_file, open_page):
    """No request leaves, nothing is complained about, and all five charts are there with names."""
    opened = open_page(page_file)

    assert opened.page.title() == "spring-invoices: report"
    assert opened.requests == []
    assert opened.complaints == []
    charts = opened.page.locator("svg[role=img]")
    expect(charts).to_have_count(6)  # time per message is two: the percentiles, and where the time went
    assert all(charts.nth(n).locator("> title").text_content() for n in range(6))
    assert all(charts.nth(n).locator("> desc").text_content() for n in range(6))


def test_tiles_add_up_to_the_list(page_file, open_page):
    """The six numbers are the sum that is written below them."""
    page = open_page(page_file).page
    counts = [int(text.replace(",", "")) for text in page.locator(".tile .count").all_text_contents()]

    assert counts == [53, 2, 1, 1, 1, 2]
    expect(page.locator(".sum")).to_have_text("53 + 2 + 1 + 1 + 1 + 2 = 60 rows of the list")


def test_what_a_person_must_decide_comes_first(page_file, open_page):
    """The box names the row and the exact commands, and links to the row."""
    page = open_page(page_file).page
    box = page.locator("main > *").first

    assert "1 row is in doubt" in box.inner_text()
    assert tuple(box.locator(".command").all_inner_texts()) == RESOLVE
    box.get_by_role("link", name="row 23").click()
    assert page.url.endswith("#row-23")
    assert page.locator("tr:target .who").inner_text().startswith("person23@")


def test_words_are_honest(page_file, open_page):
    """Accepted is never called delivered."""
    text = open_page(page_file).page.locator("body").inner_text()

    assert "accepted by smtp.example.org" in text
    assert "does not prove that the message was delivered" in text
    assert re.findall(r"\b(?:sent|delivered) (?:rows|messages)\b", text) == []


def test_rows_can_be_filtered_and_sorted(page_file, open_page):
    """Words, states and headings work together; a link to a hidden row shows it again."""
    page = open_page(page_file).page
    visible = page.locator("#rows-table tbody tr:visible")
    page.get_by_role("button", name="rejected 2").click()

    expect(visible.locator(".row-number")).to_have_text(["5", "11"])
    expect(page.locator("#shown")).to_have_text("2 of 60 rows shown")
    page.get_by_role("button", name="Row", exact=True).click()
    page.get_by_role("button", name="Row", exact=True).click()
    expect(visible.locator(".row-number")).to_have_text(["11", "5"])
    page.get_by_label("Filter the rows").fill("person5@ NO SUCH")
    expect(visible.locator(".row-number")).to_have_text(["5"])
    page.get_by_label("Filter the rows").fill("nobody at all")
    expect(page.locator("#nothing")).to_be_visible()
    page.get_by_role("link", name="row 23").click()
    expect(page.locator("#row-23")).to_be_visible()
    expect(visible).to_have_count(60)


def test_it_can_be_read_without_script(page_file, open_page):
    """Tiles, charts and rows are there; only what needs the script is not."""
    page = open_page(page_file, scripts=False).page

    expect(page.locator(".tile")).to_have_count(6)
    expect(page.locator("#rows-table tbody tr:visible")).to_have_count(60)
    expect(page.locator("#chart-outcomes")).to_be_visible()
    assert page.locator("#tools").is_hidden()


def test_a_hostile_row_and_reply_do_nothing(tmp_path, open_page):
    """What the list and the server say is shown as text, its control characters as escapes."""
    rows = [
        (HOSTILE, Status.INVALID, HOSTILE),
        ("ana@example.org", Status.REJECTED, HOSTILE),
        (f"{HOSTILE}@example.org", Status.ACCEPTED, f"Ok: queued as {HOSTILE}"),
        (f"bo@{HOSTILE}", Status.IN_DOUBT, ""),
    ]
    opened = open_page(write(tmp_path / "report.html", rows, stopped=HOSTILE))
    page = opened.page
    page.wait_for_timeout(300)

    assert page.title() == "spring-invoices: report"
    assert opened.requests == []
    assert opened.complaints == []
    expect(page.locator("#rows-table tbody tr:visible")).to_have_count(4)
    expect(
        page.locator("main script, form, img, meta[http-equiv=refresh], a[href^=javascript]")
    ).to_have_count(0)
    text = page.locator("body").inner_text()
    assert r"\x1b]0;owned\x07\u202e" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])  # axe takes its time
def test_it_is_accessible_and_fits(page_file, open_page, scheme, width):
    """axe-core finds nothing, also with every table open, and nothing is wider than the window."""
    opened = open_page(page_file, scheme=scheme, width=width)
    opened.screenshot(f"report-{scheme}-{width}")
    opened.page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")

    assert opened.violations() == []
    assert opened.overflow == 0


def test_dark_and_light_differ(page_file, open_page):
    """The system's choice decides."""
    colours = {
        scheme: open_page(page_file, scheme=scheme).page.evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }

    assert colours == {"light": "rgb(246, 245, 242)", "dark": "rgb(20, 23, 27)"}


@pytest.mark.parametrize(
    "rows", [[], [("ana@example.org", Status.PENDING, "")]], ids=["no list", "nothing sent"]
)
def test_before_the_first_message_it_says_so(tmp_path, open_page, rows):
    """Without attempts there are words in place of charts, and they are accessible, too."""
    opened = open_page(write(tmp_path / "report.html", rows))
    opened.screenshot(f"report-empty-{len(rows)}")

    assert "No message has been attempted yet" in opened.page.locator("main").inner_text()
    expect(opened.page.locator("svg[role=img]")).to_have_count(0)
    assert opened.violations() == []


def test_on_paper_the_controls_are_gone(page_file, open_page):
    """Printing hides what only works on a screen."""
    opened = open_page(page_file)
    opened.page.emulate_media(media="print")

    assert opened.page.locator("#tools").is_hidden()
    expect(opened.page.locator("#rows-table")).to_be_visible()
    opened.screenshot("report-print")
