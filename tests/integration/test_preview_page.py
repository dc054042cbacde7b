"""The preview page as a file: what it contains, how large it is, and what its policy says."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import TO_PEOPLE
from mailmerge.campaign import preview
from mailmerge.campaign.preview import PreviewRequest, Watched, write_broken
from mailmerge.errors import CampaignFileError, TemplateError
from mailmerge.model import Severity
from mailmerge.preview.preview_page import Blobs, Folded, Outliers, StringTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from campaigns import CampaignFactory
    from mailmerge import Campaign

BODY = "Dear {{ name }},\n\nwelcome{% if plan == 'gold' %} to the golden few{% endif %}.\n"


@pytest.fixture
def campaign(campaign_factory: CampaignFactory) -> Callable[..., Campaign]:
    """Make a campaign of these rows, with their plan in a column."""

    def make(rows: list[str], *, body: str = BODY, message: str = TO_PEOPLE, **sections: str) -> Campaign:
        files = {"body.txt": body}
        return campaign_factory(files, rows=rows, heading="email,name,plan", message=message, **sections)

    return make


def blocks(path: Path, kind: str) -> list[Any]:
    found = re.findall(
        rf'<script type="text/plain" data-block="{kind}">([^<]*)</script>', path.read_text("utf-8")
    )
    return [json.loads(zlib.decompress(base64.b64decode(text))) for text in found]


def entries(path: Path) -> list[list[Any]]:
    return [entry for block in blocks(path, "entries") for entry in block]


def details(path: Path) -> list[dict[str, Any]]:
    return [row for block in blocks(path, "rows") for row in block]


def unfold(folded: Folded, pieces: list[str]) -> str:
    texts = [one if isinstance(one, str) else "".join(pieces[one[0] : sum(one)]) for one in folded]
    return "".join(texts)


def plain(count: int) -> list[str]:
    return [f"p{number}@example.com,P{number},silver" for number in range(2, count + 2)]


# --- what it contains ---------------------------------------------------------------------------------


def test_holds_the_bytes_of_every_message(campaign, tmp_path):
    """What the page has of a message unfolds to its bytes, but for the Date and the passing secret."""
    spring = campaign(plain(120))
    path = tmp_path / "out/preview.html"

    done = spring.preview(path)

    pieces = [piece for block in blocks(path, "pieces") for piece in block]
    contents = ["".join(unfold(part, pieces) for part in row["content"]) for row in details(path)]
    expected = [message.content.decode("ascii") for message in spring.messages()]
    passing = re.compile(r"(?m)^(Date|Message-ID|X-Mailmerge-ID): .*\r\n")
    assert (done.rows, done.shown) == (120, 120)
    assert [passing.sub("", text) for text in contents] == [passing.sub("", text) for text in expected]
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(item.name for item in path.parent.iterdir()) == [".gitignore", "preview.html"]


def test_marks_what_came_from_the_list(campaign, tmp_path):
    """The marked text has every value between two marks, and is otherwise the text of the message."""
    path = tmp_path / "preview.html"

    campaign(["ana@example.com,Ana,gold", "bo@example.com,Bo,silver"]).preview(path)

    start, end = blocks(path, "facts")[0]["marks"]
    pieces = [piece for block in blocks(path, "pieces") for piece in block]
    texts = [unfold(row["text"], pieces) for row in details(path)]
    assert texts == [
        f"Dear {start}Ana{end},\n\nwelcome to the golden few.",
        f"Dear {start}Bo{end},\n\nwelcome.",
    ]


def test_names_come_from_the_list_where_the_header_has_none(campaign_factory, tmp_path):
    """Which columns make a name is said once for the page, not in every row: people before companies."""
    path = tmp_path / "preview.html"
    rows = ["ana@example.com,ACME,Ana,Souza"]
    heading = "email,Company,First name,Last name"
    message = 'to = "{{ email }}"\nsubject = "Hello"'

    campaign_factory({"body.txt": "Hello\n"}, rows=rows, heading=heading, message=message).preview(path)

    assert blocks(path, "facts")[0]["names"] == [[2, 3], [1]]
    assert entries(path)[0][3] == ""


def test_marks_nothing_where_marks_would_change_the_text(campaign, tmp_path):
    """A template that works on its own output is shown without marks rather than wrongly."""
    body = "{% set greeting %}Dear {{ name }}{% endset %}{{ greeting|length }} {{ greeting }}\n"
    path = tmp_path / "preview.html"

    campaign(["ana@example.com,Ana,gold"], body=body).preview(path)

    assert "text" not in details(path)[0]
    assert "content" in details(path)[0]


def test_rows_with_problems(campaign, campaign_factory, tmp_path):
    """Invalid, duplicate and suppressed rows are there with their reason; rows left out by where are not."""
    rows = [
        "ana@example.com,Ana,gold",
        "nobody,Bo,gold",
        "ANA@example.com,Again,gold",
        "stop@example.com,S,gold",
    ]
    spring = campaign(
        [*rows, "eve@example.com,Eve,none"],
        data='where = "plan != \'none\'"\nsuppress = ["stop.txt"]',
    )
    (campaign_factory.folder / "stop.txt").write_text("stop@example.com\n")
    path = tmp_path / "preview.html"

    done = spring.preview(path)

    assert [(entry[0], entry[1]) for entry in entries(path)] == [
        (2, "pending"),
        (3, "invalid"),
        (4, "duplicate"),
        (5, "suppressed"),
    ]
    assert [row["standing"] for row in details(path)] == [
        "Pending: not sent yet",
        'Not sent: `email` is not an address: "nobody" (it has no @)',
        "Not sent: repeats row 2",
        "Not sent: stop@example.com is suppressed",
    ]
    assert [check["code"] for check in details(path)[1]["checks"]] == ["D110"]
    assert done.counts == {"pending": 1, "invalid": 1, "duplicate": 1, "suppressed": 1, "skipped": 1}
    assert done.problems.count(Severity.ERROR) == 1
    assert [column["used"] for column in blocks(path, "facts")[0]["columns"]] == [True, True, True]


def test_choosing_rows(campaign, tmp_path):
    """Rows, a limit and a sample choose what is shown; a sample has every row with a problem."""
    rows = plain(100)
    rows[40] = "nobody,Bo,gold"
    spring = campaign(rows)
    path = tmp_path / "preview.html"

    def shown(**request: Any) -> list[int]:
        spring.preview(path, PreviewRequest(**request))
        return [entry[0] for entry in entries(path)]

    assert shown(rows="5-7,42") == [5, 6, 7, 42]
    assert shown(limit=3) == [2, 3, 4]
    sample = shown(sample=10)
    assert len(sample) == 11
    assert 42 in sample
    assert blocks(path, "facts")[0]["sampled"] is True
    assert shown(sample=500) == list(range(2, 102))


def test_a_very_long_list_is_sampled_and_says_so(campaign, tmp_path, monkeypatch):
    """Past the most rows of a page it shows all rows with problems that fit, and a sample of the others."""
    monkeypatch.setattr(preview, "MOST_ROWS", 60)
    monkeypatch.setattr(preview, "SAMPLE", 10)
    rows = plain(100)
    rows[70] = "nobody,Bo,gold"
    path = tmp_path / "preview.html"

    done = campaign(rows).preview(path)

    assert done.sampled
    assert (done.rows, done.shown) == (100, 11)
    assert 72 in [entry[0] for entry in entries(path)]
    broken = campaign([f"nobody{number},Bo,gold" for number in range(100)])
    broken.preview(path)
    facts = blocks(path, "facts")[0]
    assert (facts["shown"], facts["left_out"]) == (60, 40)


# --- size, policy, safety -----------------------------------------------------------------------------


def test_many_messages_make_a_small_file(campaign, tmp_path):
    """Five hundred messages of 20 KB take a quarter of a megabyte: 10,000 are a few."""
    lines = [" ".join(f"word{start * step % 997}" for step in range(1, 11)) for start in range(230)]
    path = tmp_path / "preview.html"

    campaign(plain(500), body=BODY + "\n".join(lines) + "\n").preview(path)

    assert entries(path)[0][5] > 15_000
    assert path.stat().st_size < 250_000


def test_the_policy_names_the_only_script(campaign, tmp_path):
    """The hash in the policy is that of the script at the end; nothing may be loaded or connected to."""
    path = tmp_path / "preview.html"
    campaign(plain(1)).preview(path)
    text = path.read_text("utf-8")

    policy = html.unescape(text.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0])
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    assert not re.findall(r"(?:src|href)=\"(?!#)[^\"]*\"", text)
    assert not re.findall(r"url\(", text.split("</style>")[0])


def test_a_hostile_name_stays_text(campaign, tmp_path):
    """Neither the campaign's name nor a cell can end a script or begin an element."""
    name = "</title></script><script>alert(1)</script>"
    path = tmp_path / "preview.html"

    campaign([f"a@example.com,{name},gold"], top=f"name = '{name}'").preview(path)

    text = path.read_text("utf-8")
    assert "alert(1)</script>" not in text
    assert text.count(html.escape(name)) == 2
    assert entries(path)[0][4] == f"Hello {name}"


def test_a_failure_leaves_the_earlier_page(campaign, tmp_path):
    """Where the campaign cannot be rendered, the page of before stays and nothing is left beside it."""
    path = tmp_path / "out/preview.html"
    campaign(plain(1)).preview(path)
    before = path.read_bytes()

    with pytest.raises(TemplateError):
        campaign(plain(1), body="{{ nme }}\n").preview(path)

    assert path.read_bytes() == before
    assert sorted(item.name for item in path.parent.iterdir()) == [".gitignore", "preview.html"]


def test_watching_shows_what_is_broken_and_recovers(campaign, campaign_factory, tmp_path):
    """A watched campaign gives a page in any state, and notices a change once the files are still."""
    campaign(plain(3))
    path = tmp_path / "page/preview.html"
    watched = Watched(lambda: campaign_factory.open().definition, path, PreviewRequest())

    assert getattr(watched.make(), "shown", None) == 3
    assert not watched.changed()
    (campaign_factory.folder / "body.txt").write_text("Dear {{ nme }},\n", "utf-8")
    assert not watched.changed()  # it may still be being written
    assert watched.changed()
    assert isinstance(watched.make(), TemplateError)
    facts = blocks(path, "facts")[0]
    assert facts["broken"] is True
    assert facts["problems"][0]["code"] == "T102"
    assert (facts["problems"][0]["line"], facts["problems"][0]["column"]) == (1, 9)
    (campaign_factory.folder / "campaign.toml").write_text("name = \n", "utf-8")
    assert isinstance(watched.make(), CampaignFileError)
    assert watched.name == "spring"
    assert "connect-src 'self'" in path.read_text("utf-8")


def test_a_broken_page_is_private_too(tmp_path):
    """The page that shows an error is readable by its owner only."""
    path = tmp_path / "preview.html"

    write_broken(path, "spring", CampaignFileError("no", code="C401"))

    assert path.stat().st_mode & 0o777 == 0o600


# --- its parts ----------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.text(max_size=8), max_size=12), max_size=12))
def test_whatever_is_folded_unfolds(texts):
    """Folding loses nothing, whatever recurs."""
    vocabulary = StringTable()

    folded = [vocabulary.fold(pieces) for pieces in texts]

    assert [unfold(one, vocabulary.pieces) for one in folded] == ["".join(pieces) for pieces in texts]


def test_what_recurs_becomes_runs():
    """From its third time on, text that recurs is one pair of numbers."""
    vocabulary = StringTable()
    lines = [f"line {number}\n" for number in range(100)]

    folded = [vocabulary.fold(lines) for _ in range(3)]

    assert folded[0] == ["".join(lines)]
    assert folded[2] == [[0, 100]]


def test_files_are_kept_once_and_not_without_end():
    """The same file is written once, whichever object has it; what does not fit keeps only its header."""
    written: list[bytes] = []
    blobs = Blobs(written.append, room=100)
    part = b"Content-Type: text/plain\r\n\r\n" + b"x" * 40

    assert blobs.reference(part) == {"blob": 0}
    assert blobs.reference(part) == {"blob": 0}
    assert blobs.reference(bytes(bytearray(part))) == {"blob": 0}
    left_out = blobs.reference(part + b"y" * 40)
    assert left_out == {"head": "Content-Type: text/plain\r\n\r\n", "size": 108}
    assert written == [part]


def test_unusual_rows():
    """Longest, shortest and biggest rows and rare branches are found; what all share is not unusual."""
    unusual = Outliers()
    for row in range(2, 102):
        length = {50: 900, 60: 5}.get(row, 100)
        unusual.add(row, length=length, size=2000, chunks=["a", "rare"] if row == 70 else ["a"])

    found = unusual.rows()

    assert found["longest"][0] == 50
    assert found["shortest"][0] == 60
    assert found["biggest"] == []
    assert found["rare"] == [70]


def test_a_row_with_a_wrong_message_shows_it(campaign_factory, tmp_path):
    """What the lint refuses is there to be looked at; what is so in every row is not said of one."""
    path = tmp_path / "preview.html"
    spring = campaign_factory(
        {"body.html": "<p>Dear {{ name }}</p>{{ plan|safe }}\n"},
        rows=["ana@example.com,Ana,gold", "bo@example.com,Bo,<a href='javascript:x'>x</a>"],
        heading="email,name,plan",
        message=TO_PEOPLE,
    )

    spring.preview(path)

    assert [row.get("checks", []) and row["checks"][0]["code"] for row in details(path)] == [[], "H302"]
    assert details(path)[1]["content"]
    assert details(path)[1]["standing"] == "Not sent: " + details(path)[1]["checks"][0]["message"]
    assert spring.check().largest < 700


def test_a_page_after_a_run_says_what_went_out(mailmerge, sandbox):
    """The message of each row as long as it says the same; what it said before an edit is not kept."""
    mailmerge.account(sandbox)
    folder = mailmerge.campaign(people_csv="email,name\na@example.org,Ann\nb@example.org,Bo\n")
    assert mailmerge("send", "spring", "--yes").code == 0
    people = folder / "people.csv"
    people.write_text(people.read_text("utf-8").replace("Bo", "Bob"), "utf-8")

    def lines() -> list[str]:
        assert mailmerge("preview", "spring", "--no-open").code == 0
        return [
            re.sub(r"\d\d:\d\d", "09:41", row["standing"]) for row in details(folder / "out/preview.html")
        ]

    kept = "Accepted 09:41; this went out"
    assert lines() == [kept, "Accepted 09:41; changed since; the message that was sent is not kept"]
    people.write_text(people.read_text("utf-8").replace("Bob", "Bo"), "utf-8")
    assert lines() == [kept, kept]
    assert mailmerge("requeue", "spring", "--accepted", "--rows", "3", "--yes").code == 0
    assert lines() == [kept, "Pending since 09:41: requeued"]
    terminal = mailmerge("preview", "spring", "--terminal", "--rows", "2-3").out
    assert re.search(r"--- row 2 ---\nAccepted \d\d:\d\d; this went out\n", terminal)
    assert re.search(r"--- row 3 ---\nPending since \d\d:\d\d: requeued\n", terminal)
    assert terminal.count("Date: made when sent") == 1
    assert "Message-ID: made when sent" not in terminal


def test_a_terminal_says_what_is_not_known_before_the_first_run(mailmerge):
    """Date and Message-ID are made when a message is sent, and nothing is made to show them."""
    folder = mailmerge.campaign()

    done = mailmerge("preview", "spring", "--terminal", "--eml", "eml")

    assert done.code == 0, done
    assert "        Date: made when sent\n" in done.out
    assert "  Message-ID: made when sent\n" in done.out
    assert not (folder / ".mailmerge").exists()
    assert b"\r\nMessage-ID: <" in next(iter((mailmerge.folder / "eml").iterdir())).read_bytes()


def test_eml_files_are_those_of_this_call(mailmerge):
    """Files of an earlier call go; what else has messages is refused untouched; what is left out is said."""
    folder = mailmerge.campaign(
        people_csv="email,name\nana@example.com,Ana\nbo,Bo\nana@example.com,Ann\ncy@x.org,Cy\n"
    )
    eml = mailmerge.folder / "eml"

    done = mailmerge("preview", "spring", "--eml", "eml")

    assert done.code == 0, done
    assert "Wrote 2 messages to eml/. Left out, as they would not be sent: " in done.out
    assert "sent: 1 invalid (row 3), 1 duplicate (row 4)\n" in done.out
    assert sorted(path.name for path in eml.glob("*.eml")) == [
        "00002-ana@example.com.eml",
        "00005-cy@x.org.eml",
    ]
    (folder / "people.csv").write_text("email,name\ncy@x.org,Cy\n", "utf-8")
    assert mailmerge("preview", "spring", "--eml", "eml").code == 0
    assert [path.name for path in eml.glob("*.eml")] == ["00002-cy@x.org.eml"]

    (eml / "00009-me@x.org.eml").write_text("mine", "utf-8")
    refused = mailmerge("preview", "spring", "--eml", "eml")

    assert refused.code == 2, refused
    assert 'contains messages that were not written by this command: "00009-me@x.org.eml"' in refused.err
    assert sorted(path.name for path in eml.glob("*.eml")) == ["00002-cy@x.org.eml", "00009-me@x.org.eml"]
