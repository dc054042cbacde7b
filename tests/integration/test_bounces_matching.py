"""Which row a report is about, and what it changes: nobody is suppressed on a guess."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from campaigns import write_campaign
from mailmerge import BounceRequest, Campaign, CampaignFileError, CampaignHalted, Result, Status
from mailmerge.campaign.bounces import SOFT_IN_A_ROW
from mailmerge.campaign.opening import open_standing
from mailmerge.ledger.ledger import Ledger
from mailmerge.ledger.registry import CampaignRegistry
from mailmerge.sandbox import SandboxServer
from reports import answer, complaint, delivery_report
from servers.programs import unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailmerge import Settlement

BO = "bo@example.net"


class Sent:
    """A campaign whose rows were accepted, and the mailbox of whoever sent them."""

    def __init__(self, folder: Path, message: str = "") -> None:
        self.folder = folder
        self.environ = {
            "MAILMERGE_CONFIG": str(folder / "config.toml"),
            "MAILMERGE_STATE_DIR": str(folder / "state"),
            "MAILMERGE_CACHE_DIR": str(folder / "cache"),
        }
        write_campaign(folder / "spring", message=message)
        with SandboxServer(tls="none", user=None) as server:
            (folder / "config.toml").write_text(
                f'[accounts.a]\nhost = "127.0.0.1"\nport = {server.port}\ntls = "none"\nauth = "none"\n'
            )
            self.campaign = Campaign.load(folder / "spring", {"account": "a"}, environ=self.environ)
            report = self.campaign.send()
        assert report is not None
        assert report.counts[Status.ACCEPTED] == report.counts.total
        self.rows = {result.address: result.delivery for result in self.results()}
        self._letters = 0

    def id(self, address: str = BO) -> str:
        """Return the Message-ID of a row."""
        delivery = self.rows[address]
        assert delivery is not None
        return delivery.message_id

    def comes_back(self, *letters: bytes):
        """Put messages into the mailbox, and read all of it."""
        box = self.folder / "box"
        box.mkdir(exist_ok=True)
        for letter in letters:
            self._letters += 1
            (box / f"{self._letters}.eml").write_bytes(letter)
        return self.campaign.bounces(BounceRequest(eml=box))

    def results(self) -> list[Result]:
        """Return each row with what became of it."""
        with open_standing(self.campaign.definition) as standing:
            assert standing is not None
            return list(standing.results())

    def states(self) -> dict[str, Status]:
        """Return the state of each row."""
        return {result.address: result.status for result in self.results()}

    def suppressed(self) -> str:
        """Return the user's suppression store."""
        path = self.folder / "suppressed.csv"
        return path.read_text("utf-8") if path.exists() else ""

    def ledger(self) -> Ledger:
        """Open the ledger, to put rows into states that no server makes on purpose."""
        return Ledger.open(self.campaign.workspace.ledger_path, "spring", create=False)


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    """Three rows, accepted."""
    return Sent(tmp_path)


def test_f8_a_message_id_that_nobody_made_up_counts_wherever_it_is(sent: Sent) -> None:
    """In the header that is returned or in a field of the report; one of another campaign does not."""
    forged = "<" + "ab" * 20 + "@example.org>"
    summary = sent.comes_back(
        delivery_report(forged, number=1),
        delivery_report("", returned="", fields=f"X-Original-Message-ID: {sent.id()}\n", number=2),
        delivery_report("<x@else.example>", address="ana@example.com", number=3),
    )

    assert (summary.foreign, summary.bounced, summary.sorts) == (2, 1, {"hard": 1})
    assert sent.states() == {"ana@example.com": "accepted", BO: "bounced", "cy@example.org": "accepted"}


IN_WORDS = (
    "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example.net (Mail Delivery Subsystem)\nTo: me@example.org\n"
    "Subject: Undelivered mail\n\nYour message could not be delivered:\n\n"
    "{to}\n    550 5.1.1 no such user\n\n--- the message as it came ---\n\n{returned}\nHello\n"
)


def inlined(returned: str, to: str = BO) -> bytes:
    """Make a report in prose with the header of what came back below them."""
    return IN_WORDS.format(to=f"<{to}>:", returned=returned).encode()


@pytest.mark.parametrize(
    "form",
    [
        lambda returned: delivery_report(returned=returned),
        lambda returned: delivery_report(returned=returned).replace(
            b"text/rfc822-headers\n\n", b"message/rfc822\n\n"
        ),
        lambda returned: delivery_report(returned=returned.replace("ID: ", "ID:\n\t").upper()),
        inlined,
        lambda returned: inlined("".join(f"> {line}\n" for line in returned.splitlines())),
        lambda returned: inlined(returned).replace(
            b"\n\nYour", b"\nMIME-Version: 1.0\nContent-Type: text/html\n\n<pre>Your"
        ),
    ],
    ids=["headers", "message", "folded", "in words", "quoted", "html"],
)
def test_f13_our_own_field_tells_which_message_was_given_another_name(sent: Sent, form) -> None:
    """It is enough to suppress, although Message-ID and reply tell nothing; no made-up value counts."""
    header = f"From: me@example.org\nTo: {BO}\nMessage-ID: <x@renamed.example>\nX-Mailmerge-ID: "
    own = sent.id()[1:41]
    for number, made_up in enumerate(["ab" * 20, own[:39], own + "0", own[::-1]]):
        forged = sent.comes_back(form(f"{header}{made_up}\nX-Number: {number}\n"))
        assert (forged.bounced, forged.suppressed) == (0, 0)
    real = sent.comes_back(form(f"{header}{own}\n"))

    assert (real.bounced, real.suppressed, real.sorts) == (1, 1, {"hard": 1})
    assert sent.states() == {"ana@example.com": "accepted", BO: "bounced", "cy@example.org": "accepted"}
    assert BO in sent.suppressed()


def test_f8_what_came_back_counts_before_what_it_mentions(sent: Sent) -> None:
    """Of two ids of the campaign the one in our own field of the message that is returned is meant."""
    other = sent.id("ana@example.com")
    returned = (
        f"To: {BO}\nMessage-ID: <x@new.example>\nX-Mailmerge-ID: {sent.id()[1:41]}\nReferences: {other}\n"
    )
    summary = sent.comes_back(delivery_report(returned=returned))

    assert summary.bounced == 1
    assert sent.states()[BO] == "bounced"


@pytest.mark.parametrize("name", ["x-postfix-queue-id", "message-id"])
def test_f13_a_server_that_renames_messages_is_understood(sent: Sent, name: str) -> None:
    """Its own name for it is in the reply with which it took it, and then in the report: that suppresses."""
    with sent.ledger() as ledger:
        ledger._db.execute("UPDATE attempt SET reply = '2.0.0 Ok 0100018f2a-77aa queued'")
    fields = "X-Postfix-Queue-ID: 0100018f2a-77aa\n" if name.startswith("x-") else ""
    returned = f"From: me@example.org\nTo: {BO}\nMessage-ID: <0100018f2a-77aa@renamed.example>\n"
    summary = sent.comes_back(delivery_report(fields=fields, returned=returned))

    assert (summary.bounced, summary.suppressed) == (1, 1)
    assert BO in sent.suppressed()


@pytest.mark.parametrize(
    ("reply", "received"),
    [
        ("2.0.0 from MTA(smtp:[127.0.0.1]:10025): Ok", "from localhost ([127.0.0.1]) by x id Zq81aa77Ww"),
        (
            "2.0.0 Ok: queued by smtp-out3.example.org",
            "by smtp-out3.example.org with SMTP id smtp-out3.example.org",
        ),
        (
            "Mail OK queued as zwqz-smtp-mta-g1-2,_____wD3T41aQ5_eBg--.1234S3 1764237600",
            "by zwqz-smtp-mta-g1-2 id 1764237600",
        ),
        (
            "Mail OK queued as zwqz-smtp-mta-g1-2,_____wD3T41aQ5_eBg--.1234S3 1764237600",
            "by x with SMTP id zwqz-smtp-mta-g1-2",
        ),
    ],
)
def test_f8_names_of_machines_and_moments_are_no_names_of_messages(
    sent: Sent, reply: str, received: str
) -> None:
    """What a server says to every message proves nothing: the report is foreign."""
    with sent.ledger() as ledger:
        ledger._db.execute("UPDATE attempt SET reply = ?", (reply,))
    returned = (
        f"Received: {received}; Fri, 27 Nov 2026 09:59:00 +0000\nTo: {BO}\nMessage-ID: <x@else.example>\n"
    )
    summary = sent.comes_back(delivery_report(returned=returned))

    assert (summary.foreign, summary.bounced, sent.suppressed()) == (1, 0, "")


def test_f8_the_id_in_the_trace_names_the_message(sent: Sent) -> None:
    """The queue id of the reply is found after "id" in the line that the server wrote."""
    with sent.ledger() as ledger:
        ledger._db.execute(
            "UPDATE attempt SET reply = 'Mail OK queued as smtp-g1-2,_____wD3T41aQ5_eBg--.1234S3 1764237600'"
        )
    received = (
        "by smtp-g1-2 (Coremail) with SMTP id _____wD3T41aQ5_eBg--.1234S3; Fri, 27 Nov 2026 09:59:00 +0000"
    )
    returned = f"Received: {received}\nTo: {BO}\nMessage-ID: <x@renamed.example>\n"
    assert sent.comes_back(delivery_report(returned=returned)).suppressed == 1


def test_an_answer_by_a_person_is_never_a_report(sent: Sent) -> None:
    """A person who answers in the words of reports bounces no row and is not suppressed."""
    summary = sent.comes_back(
        (
            f"Return-Path: <{BO}>\nFrom: Bo <{BO}>\nSubject: Re: Delivery problem with your order\n"
            f"In-Reply-To: {sent.id()}\n\nIt was returned: user unknown, says the parcel service.\n{BO}\n"
        ).encode()
    )

    assert (summary.other, summary.bounced, summary.sorts, sent.suppressed()) == (1, 0, {}, "")


def test_f13_recipient_and_date_bounce_a_row_and_suppress_nobody(sent: Sent) -> None:
    """The Date to the second, where the message was renamed; another second is another message."""
    delivery = sent.rows[BO]
    assert delivery is not None
    assert delivery.date is not None

    def returned(date: datetime) -> str:
        return f"To: {BO}\nMessage-ID: <new@renamed.example>\nDate: {format_datetime(date)}\n"

    other = sent.comes_back(
        delivery_report(returned=returned(delivery.date + timedelta(seconds=1)), number=1)
    )
    same = sent.comes_back(delivery_report(returned=returned(delivery.date), number=2))

    assert (other.foreign, other.bounced) == (1, 0)
    assert (same.bounced, same.suppressed, sent.suppressed()) == (1, 0, "")


def test_recipient_and_time_bounce_a_row_and_suppress_nobody(sent: Sent) -> None:
    """A report of the standard form that names no message; in prose alone it is a note."""
    words = (
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example.net\nTo: me@example.org\nSubject: failure notice\n\n"
        "<ana@example.com>:\n550 user unknown\n"
    )
    summary = sent.comes_back(delivery_report(returned="", number=1), words.encode())

    assert (summary.bounced, summary.suppressed, sent.suppressed()) == (1, 0, "")
    assert sent.states() == {"ana@example.com": "accepted", BO: "bounced", "cy@example.org": "accepted"}


def test_a_report_that_names_another_message_by_our_own_field_alone_is_foreign(sent: Sent) -> None:
    """A message of another campaign, or a test, to the same person: recipient and time prove nothing then."""
    other = f"To: {BO}\nX-Mailmerge-ID: {'ab' * 20}\n"
    summary = sent.comes_back(delivery_report(returned=other))

    assert (summary.foreign, summary.sorts) == (1, {})
    assert sent.states()[BO] == "accepted"


def test_forwarded_mail_bounces_the_row_and_suppresses_nobody(sent: Sent) -> None:
    """The address that failed is not the one that we wrote to."""
    summary = sent.comes_back(delivery_report(sent.id(), address="forwarded@else.example"))

    assert (summary.bounced, summary.suppressed, sent.suppressed()) == (1, 0, "")


def test_a_copy_that_came_back_is_a_note(tmp_path: Path) -> None:
    """The row's own recipient has the message."""
    sent = Sent(tmp_path, message='cc = "boss@example.org"\n')
    summary = sent.comes_back(delivery_report(sent.id(), address="boss@example.org"))

    assert (summary.bounced, summary.suppressed) == (0, 0)
    assert set(sent.states().values()) == {"accepted"}


@pytest.mark.parametrize(
    ("said", "status", "state", "suppresses"),
    [
        ("550 5.1.1 no such user", "5.1.1", "bounced", True),
        ("552 5.2.2 mailbox full", "5.2.2", "accepted", False),
        ("554 5.7.1 rejected as spam", "5.7.1", "bounced", False),
        ("550 no", "5.0.0", "bounced", False),
    ],
)
@pytest.mark.parametrize("before", ["accepted", "in_doubt"])
def test_what_a_failure_means_for_its_row(
    tmp_path: Path, said: str, status: str, state: str, suppresses: bool, before: str
) -> None:
    """A row in doubt is settled by it: the server had taken the message."""
    sent = Sent(tmp_path)
    with sent.ledger() as ledger:
        ledger._db.execute("UPDATE delivery SET status = ? WHERE key = ?", (before, BO))
    sent.comes_back(delivery_report(sent.id(), status=status, said=f"smtp; {said}"))

    assert sent.states()[BO] == state
    assert (BO in sent.suppressed()) is suppresses


def test_an_answer_proves_that_the_message_was_taken(sent: Sent) -> None:
    """It is not a bounce, and settles a row in doubt."""
    with sent.ledger() as ledger:
        ledger._db.execute("UPDATE delivery SET status = 'in_doubt'")
    summary = sent.comes_back(answer(sent.id()))

    assert summary.sorts == {"auto_reply": 1}
    assert sent.states() == {"ana@example.com": "in_doubt", BO: "accepted", "cy@example.org": "in_doubt"}


def test_a_report_about_an_earlier_message_leaves_the_row_alone(sent: Sent) -> None:
    """The row was sent again since, as another message: what came back was the first one."""
    first = sent.id()
    with sent.ledger() as ledger:
        ledger._db.execute(
            "INSERT INTO attempt SELECT id + 10, campaign, id, run, key, row, address, number, at, "
            "'<new@x>', date, utc_offset, recipients, size, digest, frozen, row_digest, version, connection, "
            "status, settled, "
            "scope, phase, reason, code, enhanced, reply, raw, rows FROM attempt WHERE key = ?",
            (BO,),
        )
        ledger._db.execute("UPDATE delivery SET attempt = attempt + 10 WHERE key = ?", (BO,))
    summary = sent.comes_back(delivery_report(first))

    assert (summary.bounced, sent.states()[BO]) == (0, "accepted")


def test_a_message_that_is_being_handed_over_is_read_again_later(sent: Sent) -> None:
    """Another process has the campaign, and waits for the answer: the report is not used up."""
    from mailmerge.ledger.locks import CampaignLock

    with sent.ledger() as ledger:
        ledger._db.execute("UPDATE delivery SET status = 'handing_over' WHERE key = ?", (BO,))
    with CampaignLock(sent.campaign.workspace.state):
        waiting = sent.comes_back(delivery_report(sent.id()))
    later = sent.comes_back()

    assert (waiting.waiting, waiting.bounced) == (1, 0)
    assert (later.waiting, later.bounced, sent.states()[BO]) == (0, 1, "bounced")


def test_a_mark_is_taken_once(sent: Sent) -> None:
    """Whoever records a message second is told so, and changes nothing."""
    with sent.ledger() as ledger, sent.ledger() as other:
        assert ledger.bounces.record("mark", "report", [])
        assert not other.bounces.record("mark", "report", [], halted="no")
        assert other.bounces.halted == ""


READ = """
import os, sys
from pathlib import Path
from mailmerge import BounceRequest, Campaign

campaign = Campaign.load(Path(sys.argv[1]), {"account": "a"}, environ=dict(os.environ))
print(campaign.bounces(BounceRequest(eml=Path(sys.argv[2]))).bounced)
"""


def test_two_processes_count_a_report_once(sent: Sent) -> None:
    """Whoever comes second finds that it is known."""
    box = sent.folder / "box"
    box.mkdir()
    for number, address in enumerate(sent.rows):
        report = delivery_report(sent.id(address), address=address, number=number)
        (box / f"{number}.eml").write_bytes(report)
    command = [sys.executable, "-P", "-c", READ, str(sent.folder / "spring"), str(box)]
    environ = {**unmeasured(), **sent.environ}
    processes = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) for _ in range(2)]

    assert sum(int(process.communicate(timeout=60)[0]) for process in processes) == 3
    assert set(sent.states().values()) == {"bounced"}
    assert sent.suppressed().count("bounces: hard") == 3


def test_a_complaint_needs_our_message_id(sent: Sent) -> None:
    """Who only knows an address cannot have it suppressed."""
    forged = sent.comes_back(complaint("<x@else.example>"))

    assert (forged.foreign, sent.suppressed()) == (1, "")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[CampaignRegistry]:
    """What this machine knows beside the ledgers."""
    with CampaignRegistry(tmp_path / "campaigns.db") as registry:
        yield registry


def test_soft_ones_count_in_a_row_over_all_campaigns(registry: CampaignRegistry) -> None:
    """The same report again does not count twice; a message that did not come back restarts the count."""
    messages = registry.messages
    counts = [messages.came_back(BO, f"<{number}>", number * 100.0) for number in range(SOFT_IN_A_ROW)]
    again = messages.came_back(BO.upper(), "<2>", 200.0)
    digest = messages._hasher()
    messages._db.execute("INSERT INTO person VALUES (?, 7, 450)", (digest(BO),))
    after = messages.came_back(BO, "<5>", 500.0)
    messages.arrived(BO)

    assert counts == [1, 2, 3, 4, 5]
    assert (again, after) == (5, 1)
    assert messages.came_back(BO, "<6>", 600.0) == 1


def test_the_fifth_soft_one_in_a_row_suppresses(sent: Sent) -> None:
    """Whatever campaigns the others were of."""
    at = datetime.now(UTC).timestamp()
    with CampaignRegistry(sent.folder / "state" / "campaigns.db") as registry:
        for number in range(1, SOFT_IN_A_ROW):
            registry.messages.came_back(BO, f"<{number}@x>", at - 1000 * number)
    summary = sent.comes_back(
        delivery_report(sent.id(), status="4.2.2", said="smtp; 452 4.2.2 mailbox full", number=1)
    )

    assert (summary.sorts, summary.bounced, summary.suppressed) == ({"soft": 1}, 0, 1)
    assert BO in sent.suppressed()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (BounceRequest(), "B800"),
        (BounceRequest(imap="imaps://me:secret@imap.example.org"), "B801"),
        (BounceRequest(imap="http://imap.example.org"), "B801"),
        (BounceRequest(imap="imap.example.org"), "B801"),
    ],
    ids=range(4),
)
def test_a_mailbox_that_is_not_named_is_told(sent: Sent, request_: BounceRequest, code: str) -> None:
    """With a hint, and without the password that somebody wrote into it."""
    with pytest.raises(CampaignFileError) as caught:
        sent.campaign.bounces(request_)

    assert caught.value.code == code
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("form", ["maildir", "mbox", "eml"])
def test_a_place_that_is_not_what_it_should_be_is_told(sent: Sent, form: str) -> None:
    """It is not there, or is something else; nothing is recorded."""
    (sent.folder / "file").write_bytes(b"")
    for path in (sent.folder / "nowhere", sent.folder / ("state" if form == "mbox" else "file")):
        if form == "eml" and path.exists():
            continue
        with pytest.raises(CampaignFileError) as caught:
            sent.campaign.bounces(msgspec.structs.replace(BounceRequest(), **{form: path}))
        assert caught.value.code == "B802"
    assert sent.campaign.status().mail.read is None


def test_f12_a_report_stops_the_run_that_is_sending(tmp_path: Path) -> None:
    """The ledger is written beside the run: it ends with what is left pending, and no row is lost."""
    rows = "".join(f"p{number}@example.com,P{number}\n" for number in range(40))
    write_campaign(tmp_path / "spring", {"people.csv": f"email,name\n{rows}"}, send='rate = "10/s"\n')
    environ = {
        "MAILMERGE_CONFIG": str(tmp_path / "config.toml"),
        "MAILMERGE_STATE_DIR": str(tmp_path / "state"),
        "MAILMERGE_CACHE_DIR": str(tmp_path / "cache"),
    }
    with SandboxServer(tls="none", user=None) as server:
        (tmp_path / "config.toml").write_text(
            f'[accounts.a]\nhost = "127.0.0.1"\nport = {server.port}\ntls = "none"\nauth = "none"\n'
        )
        campaign = Campaign.load(tmp_path / "spring", {"account": "a"}, environ=environ)
        box = tmp_path / "box"
        box.mkdir()

        def comes_back(settlement: Settlement) -> None:
            if (box / "1.eml").exists():
                return
            attempt = settlement.attempt
            report = delivery_report(
                attempt.message_id,
                address=attempt.address,
                status="5.4.5",
                said="smtp; 550 5.4.5 You have reached a limit for sending mail",
            )
            (box / "1.eml").write_bytes(report)
            summary = campaign.bounces(BounceRequest(eml=box))
            assert (summary.bounced, bool(summary.halted)) == (1, True)

        report = campaign.send(on_outcome=comes_back)

    assert report is not None
    assert report.exit_code == 5
    assert isinstance(report.error, CampaignHalted)
    assert report.counts[Status.BOUNCED] == 1
    assert report.counts[Status.PENDING] > 0
    assert report.counts.total == 40
    with pytest.raises(CampaignHalted):
        campaign.send()
    assert campaign.requeue() == 1
