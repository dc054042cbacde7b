"""QR codes in messages and PDFs, as zbarimg reads them."""

from __future__ import annotations

import subprocess
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

import pytest

from mailmerge.errors import CampaignFileError
from mailmerge.model import Status
from servers import programs

if TYPE_CHECKING:
    from email.message import EmailMessage
    from pathlib import Path

    from campaigns import CampaignFactory
    from mailmerge import Campaign, Plan

HTML = (
    '<html lang="en"><title>x</title><body><p>Hi {{ name }}, this is your ticket for the concert. Please '
    "bring it on paper or on your telephone.</p>{{ ticket|qr }}</body></html>"
)
TICKET = "https://example.org/t?a=1&b=<ü>"


@pytest.fixture
def campaign(campaign_factory: CampaignFactory) -> Any:
    """Open a campaign with this HTML: ``campaign(HTML, TICKET)``."""

    def write(html: str = HTML, *tickets: str, **files: str) -> Campaign:
        rows = [f'p{n}@example.com,P,"{ticket}"' for n, ticket in enumerate(tickets or (TICKET,))]
        named = {name.replace("_", "."): text for name, text in files.items()}
        return campaign_factory({"body.html": html, **named}, heading="email,name,ticket", rows=rows)

    return write


def messages(plan: Plan) -> list[EmailMessage]:
    """Read the planned messages."""
    return [message_from_bytes(message.content, policy=policy.default) for message in plan.messages()]


def content(part: Any) -> bytes:
    """Return what is in a part."""
    return bytes(part.get_payload(decode=True))


def read(picture: bytes, tmp_path: Path) -> str:
    """Read a code as a camera does."""
    program = programs.require("zbarimg")
    (tmp_path / "x.png").write_bytes(picture)
    command = [program, "-q", "--raw", str(tmp_path / "x.png")]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode().strip()


def test_a_code_is_an_inline_picture(campaign: Any, tmp_path: Path) -> None:
    """The HTML names a PNG of the message, with what it says as its text; the text part has the value."""
    [message] = messages(campaign(HTML, body_txt="Ticket: {{ ticket|qr }}\n").plan())
    [picture] = [part for part in message.walk() if part.get_content_type() == "image/png"]
    text, html = (part.get_content() for part in message.walk() if part.get_content_maintype() == "text")
    assert f'<img src="cid:{picture["Content-ID"][1:-1]}"' in html
    assert 'alt="QR code: https://example.org/t?a=1&amp;b=&lt;ü&gt;"' in html
    assert (picture.get_content_disposition(), picture.get_filename()) == ("inline", "qr-code.png")
    assert text == f"Ticket: {TICKET}\r\n"
    assert read(content(picture), tmp_path) == TICKET


def test_each_row_has_its_own(campaign: Any, tmp_path: Path) -> None:
    """Two rows have two codes, the same text the same file, and what is found is fine."""
    plan = campaign(HTML, "A1", "B2", "A1").plan()
    pictures = [
        content(part)
        for message in messages(plan)
        for part in message.walk()
        if part.get_content_type() == "image/png"
    ]
    assert [read(picture, tmp_path) for picture in pictures[:2]] == ["A1", "B2"]
    assert pictures[0] == pictures[2] != pictures[1]


def test_nothing_is_found_wrong_with_it(campaign: Any) -> None:
    """The checks of the HTML see a picture with alternative text, a width and a height."""
    assert [group.first.code for group in campaign().plan().problems if group.first.code != "M203"] == []


@pytest.mark.parametrize("ticket", ["", "x" * 2332])
def test_a_value_that_is_no_code(campaign: Any, ticket: str) -> None:
    """An empty cell, and one that no code has room for, make the row invalid."""
    plan = campaign(HTML, ticket).plan()
    assert (plan.counts[Status.INVALID], [group.first.code for group in plan.problems]) == (1, ["D114"])


def test_an_address_of_ours_that_is_none(campaign: Any) -> None:
    """An address that the author typed does not represent a picture of ours."""
    plan = campaign(HTML + '<img src="mailmerge-qr:{{ name }}!" alt="">', "A").plan()
    assert (plan.counts[Status.INVALID], [group.first.code for group in plan.problems]) == (1, ["A351"])


def test_a_code_in_a_pdf(campaign_factory: CampaignFactory, tmp_path: Path) -> None:
    """A page that is made for a row shows codes, too."""
    programs.require("pdfimages")
    page = '<!doctype html><title>T</title><style>@page { size: 8cm }</style>{{ name|qr(size=120, alt="") }}'
    rest = '\n[[attach]]\ntemplate = "t.html"\n'
    campaign = campaign_factory({"t.html": page}, rest=rest, rows=["a@example.com,Ticket 7"])
    [message] = messages(campaign.plan())
    [attachment] = message.iter_attachments()
    (tmp_path / "t.pdf").write_bytes(content(attachment))
    subprocess.run(["pdfimages", "-png", tmp_path / "t.pdf", tmp_path / "i"], check=True)
    [picture] = tmp_path.glob("i*.png")
    assert read(picture.read_bytes(), tmp_path) == "Ticket 7"


def test_a_missing_segno_is_told(campaign: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named before the first row."""
    monkeypatch.setitem(__import__("sys").modules, "segno", None)
    with pytest.raises(CampaignFileError) as failed:
        campaign().plan()
    assert (failed.value.code, "mailmerge-kit[qr]" in (failed.value.hint or "")) == ("X902", True)
