"""The preview page in a real browser, as a file on a disk."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import struct
import threading
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import pytest

from browser.pixels import Pixels
from faultd import FaultServer, drop, say
from mailmerge.ledger.attempts import Settlement
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Attempt, Outcome, Phase, Reply, Scope, Status
from servers.command import CAMPAIGN, Mailmerge, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from faultd import Fault

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.program("chromium")
REFUSED = "violates the following Content Security Policy"
STOPPED = "Failed to load resource: net::ERR_"
WAIT = 15_000
"""Milliseconds for what a watching process has to notice first."""

TOML = """\
name = "spring"
account = "test"
vars = { club = "Garden Club" }

[data]
source = "people.csv"
suppress = ["stop.txt"]

[message]
from = "{{ club }} <news@club.example>"
to = "{{ name }} <{{ email }}>"
bcc = "archive@club.example"
subject = "{{ name }}, your {{ plan }} letter"
text = "body.txt"
html = "body.html"

[[attach]]
path = "terms.txt"

[[attach]]
path = "map.pdf"
"""
HTML = """\
<style>body { background: #fff } @media (prefers-color-scheme: dark) { body { background: #102030 } }</style>
<img src="logo.png" alt="Logo" width="20" height="20">
<p>Dear {{ name }},</p>
<p id="plan">your {{ plan }} plan{% if plan == "gold" %}, our best,{% endif %} starts on {{ start }}.</p>
{% if plan == "bronze" %}<p>You are one of few.</p>{% endif %}
<p>{{ note|safe }}</p>
<p><a href="https://club.example/leave?who={{ email|urlencode }}">Leave the club</a></p>
"""
TEXT = "Dear {{ name }},\n\nyour {{ plan }} plan starts on {{ start }}.\n"
BY_THE_SYSTEM = "<style>:root { color-scheme: light dark } body { background: none !important }</style>"
HOSTILE = (
    "<script>top.location='%HOME%/top'; parent.hacked=1</script>"
    "<img src='%HOME%/pixel.gif' onerror='parent.hacked=2'>"
    "<form action='%HOME%/form'><input name=a autofocus onfocus='parent.hacked=3'></form>"
    "<meta http-equiv=refresh content='0;url=%HOME%/refresh'>"
    "<a id=bait href='javascript:parent.hacked=4'>click</a><base href='%HOME%/'>"
    "<link rel=stylesheet href='%HOME%/style.css'><link rel=dns-prefetch href='%HOME%'>"
    "<iframe src='%HOME%/frame'></iframe><object data='%HOME%/object'></object>"
    "<div style='background:url(%HOME%/background)'>x</div>"
    "<style>@import '%HOME%/import.css'; p { background: url(%HOME%/p) }</style>"
    "<svg><image href='%HOME%/svg'/><script>parent.hacked=5</script></svg>"
    "<video src='%HOME%/video' poster='%HOME%/poster' autoplay></video>"
    "</iframe></script>--><b><i><table><tr><td>never closed"
)


MORE = {
    "error": "row=5&tab=checks",
    "warning": "row=9&tab=checks",
    "compare": "row=4&tab=row&compare=20",
    "phone": "row=20&width=375&dark=dark",
    "unusual": "q=is:unusual&row=20",
    "nothing": "q=nobody+at+all",
}


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"\0\x0b\x6b\x59" * 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def people(home: str, rows: int = 40) -> str:
    """Write a list whose rows 5, 8, 9, 11 and 12 have something to show."""
    lines = ["email,name,plan,start,note,Internal id"]
    for row in range(2, rows + 2):
        plan = "bronze" if row == 20 else "gold" if row % 3 else "silver"
        lines.append(
            f"person{row}@example{row % 4}.com,Person {row},{plan},2026-05-{row % 28 + 1:02},,X{row}"
        )
    lines[5 - 1] = "nobody at example,Broken,gold,2026-05-01,,X5"
    lines[8 - 1] = "person3@example3.com,Again,gold,2026-05-02,,X8"
    lines[9 - 1] = "person9@example1.com,,gold,2026-05-03,,X9"
    lines[11 - 1] = "gone@example.org,Zoë Gone,gold,2026-05-04,,X11"
    lines[13 - 1] = f"person13@example13.com,Person 13,gold,2026-05-06,{BY_THE_SYSTEM},X13"
    lines[12 - 1] = f'person12@example.org,Mallory,silver,2026-05-05,"{HOSTILE.replace("%HOME%", home)}",X12'
    return "\n".join(lines) + "\n"


class Listener:
    """Represents the world outside: listens on this machine and records the first line of every call."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.home = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.calls: list[str] = []
        threading.Thread(target=self._count, daemon=True).start()
        return self

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                with self._socket.accept()[0] as caller:
                    caller.settimeout(2)
                    said = b""
                    with contextlib.suppress(OSError):  # a browser that connects ahead says nothing
                        said = caller.recv(200)
                    self.calls.append(said.decode("ascii", "replace").partition("\r\n")[0])

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def write_campaign(mailmerge: Mailmerge, home: str = "https://evil.example") -> Path:
    folder = mailmerge.campaign(
        campaign_toml=TOML,
        people_csv=people(home),
        body_txt=TEXT,
        body_html=HTML,
        stop_txt="gone@example.org\n",
    )
    (folder / "logo.png").write_bytes(png())
    (folder / "terms.txt").write_text("Be kind.\n", "utf-8")
    (folder / "map.pdf").write_bytes(b"%PDF-1.4\n" + bytes(range(256)) * 40)
    return folder


@pytest.fixture(scope="module")
def outside() -> Iterator[Listener]:
    """Where everything in the hostile row leads."""
    with Listener() as listener:
        yield listener


@pytest.fixture(scope="module")
def written(tmp_path_factory, outside) -> str:
    """The address of a page with 40 rows, among them every kind of problem."""
    mailmerge = Mailmerge(tmp_path_factory.mktemp("preview"))
    folder = write_campaign(mailmerge, home=outside.home)
    done = mailmerge("preview", "spring", "--no-open")
    assert done.code == 0, done
    page = folder / "out" / "preview.html"
    assert page.stat().st_mode & 0o777 == 0o600
    return page.as_uri()


@pytest.fixture
def browse(open_page) -> Iterator[Callable[..., Page]]:
    """Open an address; at the end no page may have complained, or have asked for what is not *allowed*."""
    opened = []

    def start(url: str, *, dark: bool = False, allowed: str = "", **options) -> Page:
        options.setdefault("scheme", "dark" if dark else "light")
        one = open_page(url, **options)
        opened.append((one, allowed))
        page: Page = one.page
        return page

    yield start
    for one, allowed in opened:
        one.page.wait_for_timeout(0)  # lets the last events in
        assert [url for url in one.requests if not allowed or not url.startswith(allowed)] == []
        # What the policy refused to a message is not a fault of the page, nor is a stopped server.
        expected = STOPPED if allowed else REFUSED
        assert [text for text in one.complaints if expected not in text] == []


@pytest.fixture
def look(browse, written):
    """Open the page at a state: ``look("row=4&tab=text")``."""

    def at(state: str = "", **options) -> Page:
        return ready(browse(f"{written}#{state}", **options))

    return at


def ready(page: Page) -> Page:
    page.wait_for_selector("html[data-ready]", state="attached")
    return page


def frame_text(page: Page, index: int = 0) -> str:
    return page.frame_locator("iframe.message-frame").nth(index).locator("body").inner_text()


def rows_found(page: Page) -> list[int]:
    numbers = page.evaluate("shown.map((item) => item.row)")
    assert isinstance(numbers, list)
    return numbers


# --- what is shown --------------------------------------------------------------------------------------


def test_opens_from_disk_with_problems_first(look):
    """The page opens without asking for anything: errors first, then warnings, then the list's order."""
    page = look()

    assert page.title() == "spring · preview"
    found = rows_found(page)
    assert found[0] == 5
    assert found[:4] == [5, 12, 8, 9]
    assert sorted(found) == list(range(2, 42))
    expect(page.locator("#row-title")).to_have_text("Row 5")
    assert "No message for this row" in page.locator("#panel").inner_text()
    page.keyboard.press("7")
    assert "D110" in page.locator("#panel").inner_text()
    assert "nobody at example" in page.locator("#panel").inner_text()


def test_messages_are_those_that_were_sent(mailmerge, sandbox, browse):
    """After a run, the bytes inside the page are the bytes that the server took."""
    write_campaign(mailmerge)
    mailmerge.account(sandbox)
    assert mailmerge(
        "send", "spring", "--yes", "--skip-invalid", "--rate", "1000/s", "--rows", "2-4,20"
    ).code in (0, 3)
    assert mailmerge("preview", "spring", "--no-open").code == 0

    page = ready(browse((mailmerge.folder / "spring/out/preview.html").as_uri()))

    shown = page.evaluate(
        "Promise.all([2, 3, 4, 20].map(async (row) => btoa((await details(page.byRow.get(row))).raw)))"
    )
    assert [base64.b64decode(text) for text in shown] == [message.content for message in sandbox.messages]


def test_a_message_with_its_picture_and_header(look):
    """Message, inline picture, inbox line, recipients and blind copies are there."""
    page = look("row=4")

    assert "Dear Person 4," in frame_text(page)
    image = page.frame_locator("iframe.message-frame").locator("img[alt=Logo]")
    assert image.evaluate("(image) => image.naturalWidth") == 1
    head = page.locator("#heads").inner_text()
    assert "Person 4, your gold letter" in head
    assert "Person 4 <person4@example0.com>" in head
    assert "archive@club.example" in head
    assert "terms.txt" in head


def test_tabs_show_the_same_message_from_every_side(look):
    """Text and source mark the merged values, headers are decoded and raw, the row says what is unused."""
    page = look("row=4&tab=text")
    panel = page.locator("#panel")

    assert "your gold plan starts on 2026-05-05." in panel.inner_text()
    marks = panel.locator("mark.value")
    assert marks.all_inner_texts() == ["Person 4", "gold", "2026-05-05"]
    assert marks.first.get_attribute("title") == "column name"
    page.keyboard.press("h")
    expect(marks).to_have_count(0)
    page.keyboard.press("h")
    page.keyboard.press("3")
    assert '<p id="plan">your gold plan, our best, starts on 2026-05-05.</p>' in panel.inner_text()
    expect(panel.locator("mark.value", has_text="Person 4")).to_have_count(1)
    page.keyboard.press("4")
    assert re.search(r"Subject\s+Person 4, your gold letter", panel.inner_text())
    assert re.search(r"RCPT TO\s+person4@example0.com\s+RCPT TO\s+archive@club.example", panel.inner_text())
    page.keyboard.press("6")
    assert panel.locator("tr.unused").all_inner_texts() == ["Internal id\tinternal_id\tX4\ttext\tunused"]
    page.keyboard.press("7")
    assert "No findings in this row" in panel.inner_text()


def test_attachments_open_and_are_saved_as_they_are(look):
    """The MIME tree has sizes; text opens in place, a file is saved with its own bytes."""
    page = look("row=4&tab=structure")
    panel = page.locator("#panel")

    types = "multipart/mixed multipart/alternative text/plain multipart/related text/html image/png"
    assert panel.locator("code").all_inner_texts() == [*types.split(), "text/plain", "application/pdf"]
    panel.get_by_role("button", name="Open terms.txt").click()
    assert "Be kind." in panel.inner_text()
    with page.expect_download() as download:
        panel.get_by_role("button", name="Save map.pdf").click()
    assert download.value.suggested_filename == "map.pdf"
    assert download.value.path().read_bytes() == b"%PDF-1.4\n" + bytes(range(256)) * 40


def test_f41_what_cannot_be_shown_leaves_no_other_row_under_its_title(mailmerge, browse):
    """An image source that is not an address costs that picture; damage to the file costs the rows in it."""
    sources = ["cid:%zz", "cid:%", "cid:nobody@nowhere", "https://x.example/a.png"]
    lines = [f"p{row}@example.org,Person {row},{source}" for row, source in enumerate(sources, 2)]
    mailmerge.campaign(
        campaign_toml=CAMPAIGN + 'html = "body.html"\n',
        people_csv="email,name,photo\n" + "\n".join(lines) + "\n",
        body_txt="Dear {{ name }}\n",
        body_html="<p>Dear {{ name }}</p><div>{{ ('<img src=\"' ~ photo ~ '\">')|safe }}</div>",
    )
    assert mailmerge("preview", "spring", "--no-open").code == 0
    file = mailmerge.folder / "spring/out/preview.html"

    page = ready(browse(f"{file.as_uri()}#row=5"))
    for row in (4, 3, 2):
        page.evaluate(f"goTo({row})")
        expect(page.locator("#row-title")).to_have_text(f"Row {row}")
        expect(page.frame_locator("iframe.message-frame").locator("p")).to_have_text(f"Dear Person {row}")
        assert "1 image cannot be shown" in page.locator("#panel").inner_text()

    page.evaluate(
        "document.querySelector('script[data-block=rows]').textContent = 'damaged'; openedBlocks.clear()"
    )
    page.evaluate("goTo(3)")

    expect(page.locator("#row-title")).to_have_text("Row 3")
    expect(page.locator("#panel")).to_contain_text("This row cannot be shown")
    assert "Person" not in page.locator("#panel").inner_text() + page.locator("#heads").inner_text()
    expect(page.locator("iframe.message-frame")).to_have_count(0)


# --- the status of rows ---------------------------------------------------------------------------------

STANDING = """\
email,name
ana@example.com,Ana
bo@example.net,Bo
cy@example.org,Cy
di@example.org,Di
ed@example.org,Ed
ana@example.com,Ana again
gone@example.org,Gone
nobody,Nobody
fay@example.org,Fay
gil@example.org,Gil
hal@example.org,Hal
"""
LINES = {
    2: r"Accepted \d\d:\d\d; this went out",
    3: r"Rejected \d\d:\d\d: 550 5\.1\.1 no such user",
    4: r"Deferred until \d\d:\d\d: 451 4\.7\.1 try later",
    5: r"In doubt since \d\d:\d\d: see `resolve`",
    6: r"Accepted \d\d:\d\d; changed since; the message that was sent is not kept",
    7: r"Not sent: repeats row 2",
    8: r"Not sent: gone@example\.org is suppressed",
    9: r"Not sent: `email` is not an address: \"nobody\" \(it has no @\)",
    10: r"Pending: not sent yet",
    11: r"Handing over since \d\d:\d\d: no reply yet",
    12: r"Expired \d\d:\d\d: 451 wait",
}


def test_a_message_for_several_rows_names_them(browse, tmp_path):
    """It is one entry, whose data are those of all its rows, and whose title has their numbers."""
    mailmerge = Mailmerge(tmp_path)
    toml = CAMPAIGN.replace('source = "people.csv"', 'source = "people.csv"\ngroup_by = "email"')
    people = "email,name,n\nana@example.com,Ana,one\nbo@example.net,Bo,two\nana@example.com,Ana,three\n"
    body = "{{ rows|map(attribute='n')|join }}"
    folder = mailmerge.campaign(campaign_toml=toml, people_csv=people, body_txt=body)
    assert mailmerge("preview", "spring", "--no-open").code == 0

    page = ready(browse(f"{(folder / 'out' / 'preview.html').as_uri()}#row=2&tab=row"))

    expect(page.locator("#row-title")).to_have_text("Rows 2, 4")
    assert rows_found(page) == [2, 3]
    assert "one · three" in page.locator("#panel").inner_text()


@pytest.fixture(scope="module")
def contacted(tmp_path_factory) -> str:
    """The address of a page after a run in which everything happened, and an edit of the list."""
    mailmerge = Mailmerge(tmp_path_factory.mktemp("contacted"))
    toml = CAMPAIGN.replace('source = "people.csv"', 'source = "people.csv"\nsuppress = ["stop.txt"]')
    assert "suppress" in toml
    folder = mailmerge.campaign(campaign_toml=toml, people_csv=STANDING, stop_txt="gone@example.org\n")
    faults: dict[str, dict[int, Fault]] = {
        "RCPT": {2: say("550 5.1.1 no such user"), 3: say("451 4.7.1 try later")},
        "content": {2: drop},
    }
    with FaultServer(faults, extensions=()) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes", "--skip-invalid", "--rows", "2-9")
    assert done.code == 4, done
    with Ledger.open(folder / ".mailmerge/ledger.db", "spring") as ledger:
        for row, name in ((11, "gil"), (12, "hal")):
            happened(ledger, row, f"{name}@example.org", expired=row == 12)
    people = folder / "people.csv"
    people.write_text(people.read_text("utf-8").replace(",Ed", ",Eduard"), "utf-8")
    assert mailmerge("preview", "spring", "--no-open").code == 0
    return (folder / "out/preview.html").as_uri()


def happened(ledger: Ledger, row: int, address: str, *, expired: bool) -> None:
    """Record that a row was handed over, and that its tries were used up then."""
    now = datetime.now(UTC)
    attempt = Attempt(
        key=address,
        row=row,
        address=address,
        number=8,
        message_id=f"<{row}@example.org>",
        date=now,
        recipients=1,
        size=1000,
        digest="d" * 64,
        frozen="f" * 64,
        row_digest="",
        version="v1",
        connection="c1",
    )
    ledger.note_version("v1", {})
    ledger.attempts.record_intent([attempt])
    if expired:
        outcome = Outcome(Status.DEFERRED, Scope.ROW, Phase.RCPT, Reply(451, ("wait",)))
        ledger.attempts.record_outcomes([Settlement(attempt, outcome, Status.EXPIRED, now, None)])


@pytest.mark.parametrize("row", LINES)
def test_every_tab_says_where_the_row_stands(browse, contacted, row):
    """One line above the message, the same on all seven tabs."""
    page = ready(browse(f"{contacted}#row={row}"))

    for number in range(1, 8):
        page.keyboard.press(str(number))
        line = page.locator("#row .standing")
        expect(line).to_have_count(1)
        expect(line).to_be_visible()
        assert re.fullmatch(LINES[row], line.inner_text()), line.inner_text()


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("is:accepted", [2, 6]),
        ("is:rejected", [3]),
        ("is:expired", [12]),
        ("is:deferred", [4]),
        ("is:in_doubt", [5]),
        ('is:"in doubt"', [5]),
        ("is:handing_over", [11]),
        ("is:pending", [10]),
        ("is:ready", []),
        ("-is:pending is:duplicate", [7]),
    ],
)
def test_states_are_searched_by_their_words(browse, contacted, query, rows):
    """The words are those of results.csv and of the terminal."""
    page = ready(browse(contacted))

    page.locator("#search").fill(query)

    expect(page.locator("#found")).to_have_text(f"{len(rows)} of 11 rows")
    assert sorted(rows_found(page)) == rows


def test_states_have_filters_and_are_counted(browse, contacted):
    """What happened to rows can be chosen with one click, and is counted at the top."""
    page = ready(browse(contacted))

    assert "1 pending · 2 accepted · 1 rejected · 1 expired · 1 deferred · 1 in doubt" in (
        page.locator("#facts").inner_text()
    )
    page.get_by_role("button", name=re.compile("^In doubt")).click()
    assert rows_found(page) == [5]
    assert page.locator("#badges").inner_text().startswith("in doubt")


def test_two_rows_side_by_side_have_a_line_each(browse, contacted):
    """Comparing does not hide the status of either row."""
    page = ready(browse(f"{contacted}#row=2&compare=3"))

    lines = page.locator("#row .standing")
    expect(lines).to_have_count(2)
    assert re.fullmatch(LINES[3], lines.nth(1).inner_text())


MADE = "Date: made when sent\nMessage-ID: made when sent\nX-Mailmerge-ID: made when sent\n"


def test_what_is_made_when_sent_is_not_made_up(look, browse, contacted):
    """Before the first run that is Date and Message-ID, after it the Date of what has not gone out."""
    panel = look("row=4&tab=headers").locator("#panel")
    assert "Date, Message-ID and X-Mailmerge-ID are made when" in panel.inner_text()
    assert re.search(r"Date\s+made when sent\s", panel.inner_text())
    assert re.search(r"Message-ID\s+made when sent\s", panel.inner_text())
    assert panel.locator("pre").inner_text().startswith(MADE)

    pending = ready(browse(f"{contacted}#row=10&tab=headers")).locator("#panel pre").inner_text()
    assert pending.startswith("Date: made when sent\nMessage-ID: <")
    gone = ready(browse(f"{contacted}#row=2&tab=headers")).locator("#panel pre").inner_text()
    assert "made when sent" not in gone
    assert re.match(r"Date: \w{3}, ", gone)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_are_accessible(open_page, contacted, scheme):
    """Axe finds nothing in any kind of line, and pictures are kept."""
    opened = open_page(contacted, scheme=scheme)
    page = ready(opened.page)
    for row in LINES:
        page.evaluate("(state) => { location.hash = state; }", f"row={row}")
        expect(page.locator("#row-title")).to_have_text(f"Row {row}")
        opened.screenshot(f"preview-standing-{row}-{scheme}", whole=False)
        assert opened.violations() == []
        assert opened.overflow == 0


# --- finding rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("zoe", [11]),
        ("row:17", [17]),
        ("row:17-19", [17, 18, 19]),
        ("plan:bronze", [20]),
        ("plan:=silver row:2-8", [3, 6]),
        ('subject:"Person 21,"', [21]),
        ("to:example3 row:2-12", [3, 7, 8]),
        ("person -gold -silver", [20]),
        ("is:error", [5, 12]),
        ("is:duplicate", [8]),
        ("is:suppressed", [11]),
        ("is:nameless", [9]),
        ("code:D204", [9]),
        ("code:D110", [5]),
        ("is:rare", [20]),
        ("is:biggest row:12", [12]),
        ("has:attachment row:2-5", [2, 3, 4]),
        ("larger:90k", []),
        ("nothing like this", []),
    ],
)  # fmt: skip
def test_search(look, query, rows):
    """Words, columns, numbers, states and their negations find the right rows."""
    page = look()

    page.locator("#search").fill(query)

    expect(page.locator("#found")).to_have_text(re.compile(f"^{len(rows)} of 40 rows"))
    assert sorted(rows_found(page)) == rows
    if rows:
        expect(page.locator("#row-title")).to_have_text(re.compile("|".join(f"^Row {row}$" for row in rows)))


def test_filters_are_search_terms(look):
    """A chip puts its term into the search and takes it out again; the strip below filters by code."""
    page = look()

    page.get_by_role("button", name=re.compile("^Duplicates")).click()
    expect(page.locator("#search")).to_have_value("is:duplicate")
    expect(page.locator("#found")).to_have_text(re.compile("^1 of 40 rows"))
    assert rows_found(page) == [8]
    assert look("row=8&tab=checks").locator(".standing").inner_text() == "Not sent: repeats row 3"
    page.get_by_role("button", name=re.compile("^Duplicates")).click()
    assert len(rows_found(page)) == 40
    page.locator("#strip").get_by_role("button", name=re.compile("D204")).click()
    assert rows_found(page) == [9]
    page.keyboard.press("Escape")
    page.locator("#search").fill("")
    page.get_by_role("button", name="problems first").click()
    assert rows_found(page) == list(range(2, 42))


def test_keys(look):
    """Rows, problems, tabs, width, colours and images change by one key each, but not while typing."""
    page = look("row=2")

    page.keyboard.press("j")
    expect(page.locator("#row-title")).not_to_have_text("Row 2")
    page.keyboard.press("k")
    expect(page.locator("#row-title")).to_have_text("Row 2")
    page.keyboard.press("p")
    expect(page.locator("#row-title")).to_have_text("Row 9")
    page.keyboard.press("w")
    expect(page.locator("#panel .device-320")).to_have_count(1)
    page.goto(page.url.split("#")[0] + "#row=4")
    page.keyboard.press("d")
    page.wait_for_function("state.dark === 'dark'")
    page.keyboard.press("i")
    page.wait_for_function("state.images === false")
    page.keyboard.press("/")
    page.keyboard.type("wdij")
    page.wait_for_function("state.query === 'wdij'")
    page.wait_for_function("state.dark === 'dark'")
    page.keyboard.press("Escape")
    page.wait_for_function("state.query === ''")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).not_to_be_visible()


def test_list_and_tabs_follow_the_arrow_keys(look):
    """The list and the tabs work as their ARIA patterns say, and what was chosen is announced."""
    page = look("row=4&order=list")

    page.locator("#list").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#row-title")).to_have_text("Row 6")
    expect(page.locator("#list")).to_have_attribute("aria-activedescendant", "row-6")
    expect(page.locator("#live")).to_have_text("Row 6 of 40, no problems")
    page.keyboard.press("End")
    expect(page.locator("#row-title")).to_have_text("Row 41")
    page.keyboard.press("Home")
    expect(page.locator("#row-title")).to_have_text("Row 2")
    page.get_by_role("tab", name="Message").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", selected=True)).to_have_text("Text")
    expect(page.locator("#tab-text")).to_be_focused()
    page.keyboard.press("End")
    expect(page.get_by_role("tab", selected=True)).to_have_text("Checks")


def test_a_link_shows_a_colleague_the_same(look):
    """Row, tab, search and width are in the address."""
    page = look("row=17&tab=headers&q=person&width=375")

    expect(page.locator("#row-title")).to_have_text("Row 17")
    expect(page.get_by_role("tab", selected=True)).to_have_text("Headers")
    expect(page.locator("#search")).to_have_value("person")
    page.keyboard.press("j")
    page.keyboard.press("6")
    assert "tab=row" in page.url
    assert "row=18" in page.url


# --- looking closer -------------------------------------------------------------------------------------


def test_widths(look):
    """The frame is as wide as the phone or window that it represents; in full, as wide as the pane."""
    page = look("row=4")

    for width in ("320", "375", "414", "600", "768"):
        page.locator("#panel").get_by_role("button", name=width, exact=True).click()
        assert page.locator("iframe.message-frame").bounding_box()["width"] == int(width)
    page.locator("#panel").get_by_role("button", name="Full").click()
    assert page.locator("iframe.message-frame").bounding_box()["width"] > 800


def test_dark_modes_and_images(look):
    """Dark answers the message's own media query, forced dark turns it round, images can be left out."""
    page = look("row=4", scheme="null")  # the browser's own: an emulated one would apply inside frames too
    body = page.frame_locator("iframe.message-frame").locator("body")
    expect(body).to_have_css("background-color", "rgb(255, 255, 255)")
    page.get_by_role("button", name="Dark", exact=True).click()
    expect(body).to_have_css("background-color", "rgb(16, 32, 48)")
    page.get_by_role("button", name="Forced dark").click()
    root = page.frame_locator("iframe.message-frame").locator("html")
    expect(root).to_have_css("filter", "invert(1) hue-rotate(180deg)")
    page.get_by_role("button", name="Images").click()
    image = page.frame_locator("iframe.message-frame").locator("img[alt=Logo]")
    expect(image).not_to_have_attribute("src", re.compile("."))


def test_a_message_without_background_is_readable_in_every_mode(look):
    """What is painted behind a message that follows the system is what a dark program paints: no white."""
    page = look("row=13", scheme="null")  # an emulated one would apply inside frames too
    seen = {}
    for mode in ("Light", "Dark", "Forced dark"):
        page.get_by_role("button", name=mode, exact=True).click()
        text = page.frame_locator("iframe.message-frame").locator("#plan")
        expect(text).to_be_visible()
        box = text.bounding_box()
        seen[mode] = Pixels(page.screenshot()).ink(box["x"], box["y"], box["width"], box["height"])

    assert all(ink.contrast > 12 for ink in seen.values()), seen
    assert seen["Light"].background == (255, 255, 255)
    assert max(seen["Dark"].background + seen["Forced dark"].background) < 40


def test_compare_two_rows(look):
    """Two rows are side by side in every tab, and what differs is marked."""
    page = look("row=4&tab=text")

    page.keyboard.press("c")
    page.locator("#compare-row").fill("20")
    marks = page.locator("mark[class*=differs]")
    expect(marks.nth(3)).to_be_visible()
    assert {"4", "gold", "20", "bronze"} <= set(" ".join(marks.all_inner_texts()).replace("-", " ").split())
    page.get_by_role("tab", name="Message").click()
    assert "Person 4" in frame_text(page, 0)
    assert "You are one of few." in frame_text(page, 1)
    assert "compare=20" in page.url
    page.get_by_role("button", name="Compare", exact=False).first.click()
    expect(page.locator("iframe.message-frame")).to_have_count(1)


def test_the_drawer_on_a_phone(look):
    """On a narrow screen the list is a drawer, and nothing is wider than the screen."""
    page = look("row=4", width=390, height=844)

    expect(page.locator("#list")).not_to_be_visible()
    page.get_by_role("button", name="Rows", exact=True).click()
    page.locator("#search").fill("row:7")
    page.locator(".list-row").first.click()
    expect(page.locator("#row-title")).to_have_text("Row 7")
    expect(page.locator("#list")).not_to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_print_shows_the_message_alone(look):
    """On paper there is the message and whom it is for, without list, tabs or buttons."""
    page = look("row=4")

    page.emulate_media(media="print")

    expect(page.locator("iframe.message-frame")).to_be_visible()
    expect(page.locator(".who")).to_be_visible()
    for name in ("#side", "#tabs", ".toolbar", "#strip", "#next"):
        expect(page.locator(name).first).not_to_be_visible()


# --- hostile rows, large lists, live reload -------------------------------------------------------------


def test_a_hostile_row_does_nothing(look, outside):
    """Scripts, forms, refreshes, frames, remote pictures and javascript: links neither run nor load."""
    page = look("row=12")
    url = page.url.split("#")[0]

    frame = page.frame_locator("iframe.message-frame")
    assert "Dear Mallory," in frame.locator("body").inner_text()
    assert page.locator("iframe.message-frame").get_attribute("sandbox") == ""
    frame.locator("#bait").click()
    for tab in ("2", "3", "4", "5", "6", "7", "8", "1"):
        page.locator("#row-title").focus()  # a click into the message took the keys with it
        page.keyboard.press(tab)
    page.wait_for_timeout(500)
    assert outside.calls == []  # not even a connection
    assert page.evaluate("window.hacked") is None
    assert page.url.split("#")[0] == url
    assert page.evaluate("document.querySelectorAll('iframe').length") == 1
    source = page.locator("iframe.message-frame").get_attribute("srcdoc")
    assert source.startswith(
        '<!doctype html><html><head><meta http-equiv="Content-Security-Policy" content="default-src \'none\''
    )
    page.get_by_text("links in this message").click()
    assert "javascript:parent.hacked=4" in page.locator(".links").inner_text()


def test_the_walls_hold_without_each_other(open_page, written, outside):
    """Even if nothing were taken out of a message, sandbox and policy keep it from running and loading."""
    page = ready(open_page(f"{written}#row=12").page)

    page.evaluate(
        """async () => {
            const found = await details(page.byRow.get(12));
            const policy = `<meta http-equiv="Content-Security-Policy" content="${FRAME_POLICY}">`;
            document.querySelector("iframe.message-frame").srcdoc = policy + partText(found.htmlPart);
        }"""
    )
    page.frame_locator("iframe.message-frame").locator("#bait").click()
    page.wait_for_timeout(500)

    assert page.evaluate("window.hacked") is None
    assert page.url.startswith("file:")
    assert [call for call in outside.calls if call] == []
    outside.calls.clear()


def test_links_show_where_they_lead(look):
    """A click on a link leaves the message where it is; its target is listed and can be copied."""
    page = look("row=4")

    page.frame_locator("iframe.message-frame").get_by_text("Leave the club").click()
    page.wait_for_timeout(200)

    assert "Dear Person 4," in frame_text(page)
    page.get_by_text("1 link in this message").click()
    assert "https://club.example/leave?who=person4%40example0.com" in page.locator(".links").inner_text()


def test_links_files_and_differences(open_page, written):
    """Links are listed dead with their values marked, a PDF opens apart, and differences where they are."""
    opened = open_page(f"{written}#row=4", scheme="dark", whole=True)
    page = ready(opened.page)
    panel = page.locator("#panel")
    body = page.frame_locator("iframe.message-frame").locator("body")
    expect(body).to_have_css("background-color", "rgb(255, 255, 255)")  # "Light" is light on a dark desk, too

    page.keyboard.press("8")
    expect(panel.locator(".link")).to_have_text(re.compile(r"Leave the club.*In the HTML"))
    expect(panel.locator("mark.value")).to_have_text("person4%40example0.com")
    page.keyboard.press("c")
    expect(page.locator("#compare-hint")).to_have_text("Differences are marked.")
    page.keyboard.press("1")
    expect(page.locator("#compare-hint")).to_have_text(re.compile("^Differences are marked in Text, Source"))
    page.keyboard.press("c")
    page.keyboard.press("j")
    with page.context.expect_page() as shown:
        page.locator("#heads").get_by_role("button", name="map.pdf").click()
    assert shown.value.url.startswith("blob:")
    assert page.evaluate("isQuietPdf({encoding: '7bit', body: '%PDF-1.7 <</S/J#61vaScript>>'})") is False
    assert page.evaluate("isQuietPdf({encoding: '7bit', body: '<script>1</script>'})") is False
    page.locator("#heads").get_by_role("button", name="terms.txt").click()
    expect(panel.locator(".tree-opened")).to_have_text("Be kind.")

    page.evaluate("location.hash = 'row=12&tab=links'")
    bait = panel.locator(".link", has_text="javascript:parent.hacked=4")
    expect(bait.locator(".link-finding")).to_have_text(re.compile("H302"))
    assert panel.locator("a, iframe").count() == 0
    assert [text for text in opened.complaints if REFUSED not in text] == []
    assert {url.partition("://")[0] for url in opened.requests} <= {"chrome", "chrome-extension"}


def test_a_long_list_draws_few_rows(mailmerge, browse):
    """Of 3,000 rows only those in sight exist as elements, and the last one opens as fast as the first."""
    lines = [f"p{n}@example.com,P{n}" for n in range(3000)]
    mailmerge.campaign(people_csv="\n".join(["email,name", *lines]) + "\n")
    mailmerge.account(type("Nobody", (), {"port": 25})())
    assert mailmerge("preview", "spring", "--no-open").code == 0

    page = ready(browse((mailmerge.folder / "spring/out/preview.html").as_uri()))

    assert page.locator(".list-row").count() < 40
    page.locator("#list").focus()
    page.keyboard.press("End")
    expect(page.locator("#row-title")).to_have_text("Row 3001")
    expect(page.locator("#panel")).to_contain_text("Dear P2999")
    expect(page.locator("#row-3001")).to_be_visible()


def test_live_reload_keeps_row_and_tab(mailmerge, browse):
    """A page that is watched follows its templates, shows errors, comes back, and stays where it was."""
    folder = write_campaign(mailmerge)
    process = mailmerge.start("preview", "spring", "--watch", "--no-open")
    try:
        address = process.stdout.readline().decode().split(" is shown at ")[1].split()[0]
        page = ready(browse(f"{address}#row=17&tab=text&q=person", allowed=address))
        expect(page.locator("#live-state")).to_have_text("live", timeout=WAIT)

        (folder / "body.txt").write_text(TEXT + "A new last line.\n", "utf-8")
        expect(page.locator("#panel")).to_contain_text("A new last line.", timeout=WAIT)
        expect(page.locator("#row-title")).to_have_text("Row 17")
        expect(page.get_by_role("tab", selected=True)).to_have_text("Text")
        expect(page.locator("#search")).to_have_value("person")

        (folder / "body.txt").write_text("Dear {{ nme }},\n", "utf-8")
        expect(page.locator("#empty")).to_contain_text("unknown name `nme`", timeout=WAIT)
        (folder / "body.txt").write_text(TEXT + "Mended.\n", "utf-8")
        expect(page.locator("#panel")).to_contain_text("Mended.", timeout=WAIT)
        expect(page.locator("#row-title")).to_have_text("Row 17")
    finally:
        process.send_signal(2)
        done = mailmerge.finish(process)
    assert done.code == 0, done
    expect(page.locator("#live-state")).to_have_text("stopped", timeout=WAIT)
    assert not (folder / "out").exists()


# --- for everybody --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])  # axe takes its time
def test_accessible_and_pictured(open_page, written, width, scheme):
    """Axe finds nothing in any tab, in light and dark, on a phone and a desk; pictures are kept."""
    opened = open_page(f"{written}#row=4", width=width, height=844 if width < 700 else 860, scheme=scheme)
    page = ready(opened.page)

    def look_at(name: str) -> None:
        page.wait_for_timeout(100)
        opened.screenshot(f"preview-{name}-{width}-{scheme}", whole=False)
        assert opened.violations() == []
        assert opened.overflow == 0

    tabs = ("message", "text", "source", "headers", "structure", "row", "checks", "links")
    for number, tab in enumerate(tabs, 1):
        page.keyboard.press(str(number))
        look_at(tab)
    for name, state in MORE.items():
        page.evaluate("(state) => { location.hash = state; }", state)
        look_at(name)
    page.keyboard.press("?")
    look_at("help")
    if width < 700:
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Rows", exact=True).click()
        look_at("list")


def test_the_sample_newsletter(tmp_path, open_page):
    """The newsletter that comes with the tool looks as its author meant it."""
    mailmerge = Mailmerge(tmp_path)
    folder = sample("newsletter", tmp_path)
    assert mailmerge("preview", "newsletter", "--no-open").code == 0

    opened = open_page(folder / "out/preview.html")

    assert "Dear Ana," in frame_text(ready(opened.page))
    opened.screenshot("preview-newsletter", whole=False)
