"""Whatever a cell contains arrives unchanged, or its row is invalid; it never becomes anything else."""

from __future__ import annotations

import csv
import email.header
import email.parser
import email.policy
import html as entities
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mailmerge import Campaign
from mailmerge.campaign.run import SendRequest
from mailmerge.model import Status
from mailmerge.text import trimmed
from servers.command import CAMPAIGN, Mailmerge
from servers.kept import KeepingSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.sandbox import ReceivedMessage

NASTY = st.sampled_from(
    [
        "\r\nBcc: victim@example.com\r\n",
        "\n.\n",
        "\r\n.\r\nMAIL FROM:<x@example.com>\r\n",
        "=?utf-8?q?=0D=0ABcc:_victim@example.com?=",
        "{{ name }}",
        "{% raw %}",
        "<script>&amp;",
        ", <other@example.com>",
        '"; x="',
        "From ",
        ". . .",
        "\u2028",
        "\u202e",
        "😀" * 30,
        "é" * 80,
        "x" * 1200,
        "=3D=\n",
        "\t",
        " ",
    ]
)
CELLS = st.lists(st.one_of(NASTY, st.text(max_size=40)), min_size=1, max_size=4).map("".join)
TOML = (
    CAMPAIGN.replace('"Hello {{ name }}"', '"About {{ name }}."').replace(
        '"{{ name }} <{{ email }}>"', '"{{ email }}"'
    )
    + 'html = "body.html"\nheaders = { X-Note = "note {{ name }}." }\n'
)


class Bed:
    """One campaign, one server, and any number of lists sent through them."""

    def __init__(self, mailmerge: Mailmerge, server: KeepingSandbox) -> None:
        self.server = server
        self.folder = mailmerge.campaign(
            campaign_toml=TOML, body_txt="[{{ name }}]\n", body_html="<p>[{{ name }}]</p>\n"
        )
        mailmerge.account(server)
        self.environ = mailmerge.environ
        self.count = 0

    def send(self, cells: list[str]) -> dict[str, ReceivedMessage]:
        """Send a list with these cells to numbered addresses, as a campaign of its own."""
        self.count += 1
        self.server.messages.clear()
        with (self.folder / "people.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\r\n")
            writer.writerow(["email", "name"])
            writer.writerows([f"p{number}@example.com", cell] for number, cell in enumerate(cells))
        options = {
            "name": f"run-{self.count}",
            "send.max_rejected": "100%",
            "data.types": {"name": "text"},  # markup is meant literally
        }
        campaign = Campaign.load(self.folder, options, environ=self.environ)
        report = campaign.send(request=SendRequest(accept_repeats=True))
        assert report is not None
        counts = report.counts
        assert counts[Status.ACCEPTED] + counts[Status.INVALID] == len(cells), report
        return {message.rcpt_to[0]: message for message in self.server.messages}


@pytest.fixture
def bed(mailmerge) -> Iterator[Bed]:
    with KeepingSandbox() as server:
        yield Bed(mailmerge, server)


HEADERS = ["Date", "From", "Message-ID", "MIME-Version", "Subject", "To", "X-Note", "Content-Type"]
HEADERS += ["X-Mailmerge-ID"]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(CELLS, min_size=1, max_size=8))
@example(cells=["Eve\nBcc: victim@example.com", "plain", "=?utf-8?q?=0D=0ABcc:_v@example.com?="])
@example(cells=["a" * 2000, "\n.\n", "..", "From here", "x\r\n.\r\nQUIT\r\n"])
def test_any_cell_comes_back(bed, cells):
    """Text, HTML and headers of the received message contain the cell; the set of headers never changes."""
    cells = [cell for cell in cells if not any("\ud800" <= char <= "\udfff" or char == "\0" for char in cell)]
    received = bed.send(cells or ["x"])

    for number, cell in enumerate(cells):
        message = received.get(f"p{number}@example.com")
        if message is None:
            assert may_be_refused(cell), cell
            continue
        assert message.rcpt_to == (f"p{number}@example.com",)
        parsed = email.parser.BytesParser(policy=email.policy.default).parsebytes(message.content)
        raw = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(message.content)
        assert sorted(raw.keys(), key=str.lower) == sorted(HEADERS, key=str.lower)
        text, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
        assert text is not None
        assert html is not None
        meant = trimmed(cell)
        assert lines(text.get_content()) == lines(f"[{meant}]\n")
        shown = str(html.get_content())
        assert "<script>" not in shown
        assert lines(entities.unescape(shown)) == lines(f"<p>[{meant}]</p>\n")
        assert decoded(raw["Subject"]) == f"About {one_line(meant)}."
        assert decoded(raw["X-Note"]) == f"note {one_line(meant)}."


def may_be_refused(cell: str) -> bool:
    """Only control characters, and what readers must not be shown, make a row invalid."""
    return not cell.strip().isprintable() or any(mark in cell for mark in ("{{", "{%", "\ufffd"))


def lines(text: str) -> str:
    """Line ends are CRLF on the wire, whatever the cell had."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def one_line(text: str) -> str:
    """In a header the Unicode line separators are spaces."""
    return text.translate(dict.fromkeys([0x85, 0x2028, 0x2029], " "))


def decoded(header: str) -> str:
    """Decode a header's encoded words without the standard library's newer parser."""
    unfolded = "".join(str(header).splitlines())
    return str(email.header.make_header(email.header.decode_header(unfolded)))
