"""Copies of accepted messages in the user's own mail: on a real IMAP server, in a maildir, in an mbox."""

from __future__ import annotations

import contextlib
import mailbox
import signal
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest

from campaigns import TO_PEOPLE, campaign_toml
from mailmerge.sandbox import FaultPlan
from servers.command import EVERYBODY, one_error, statuses, subjects
from servers.dovecot import FULL, SPECIAL_USE, DovecotImap, ImapFront
from servers.kept import KeepingSandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SENT = "Gesendete Objekte"


@pytest.fixture
def dovecot(certificates) -> Iterator[Callable[..., DovecotImap]]:
    """Start a real IMAP server."""
    running: list[DovecotImap] = []

    def start(more: str = SPECIAL_USE) -> DovecotImap:
        running.append(DovecotImap(certificates, more))
        return running[-1]

    yield start
    for server in running:
        server.stop()


def account(mailmerge, relay, imap: DovecotImap | ImapFront, /, **more: object) -> None:
    """Make the relay the account, and *imap* its mailbox."""
    mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = DovecotImap.password
    if isinstance(imap, DovecotImap):
        place, ca_file = f"imaps://ann@localhost:{imap.tls_port}", str(imap.ca_file)
    else:
        place, ca_file = f"imap://ann@localhost:{imap.port}", None
    values = {"imap": place, "ca_file": ca_file, "copy_to": "imap:Sent", **more}
    mailmerge.account(relay, **values)


def subjects_in(imap: DovecotImap, folder: str = SENT) -> list[str]:
    """Return the subjects of a folder's messages, in their order."""
    return [message_from_bytes(content)["Subject"] for _, content in imap.messages(folder)]


BCC = campaign_toml(top='account = "test"', message=f'{TO_PEOPLE}\nbcc = "boss@example.org"')


def test_each_accepted_message_is_in_the_sent_folder_once(mailmerge, relay, dovecot):
    """Found by its use, whatever its name: the bytes that were sent, and the Bcc that nobody else got."""
    imap = dovecot()
    mailmerge.campaign(campaign_toml=BCC)
    account(mailmerge, relay, imap)

    shown = mailmerge("send", "spring", "--dry-run")
    done = mailmerge("send", "spring", "--yes")

    assert "a copy of each accepted message goes to Sent at localhost" in shown.err, shown
    assert done.code == 0, done
    sent = {message.content for message in relay.messages}
    kept = imap.messages(SENT)
    assert {flags for flags, _ in kept} == {r"\Seen"}
    assert {content for _, content in kept} == {b"Bcc: boss@example.org\r\n" + content for content in sent}
    assert len(kept) == len(sent) == 3
    assert not any(b"\r\nBcc:" in content for content in sent)
    again = mailmerge("send", "spring", "--yes")
    assert (again.code, len(imap.messages(SENT))) == (0, 3), again


def test_f14_a_run_that_is_killed_or_cut_off_makes_each_copy_once(mailmerge, relay, dovecot):
    """The answer to a copy never comes: it is there, and the next connection finds it first."""
    imap = dovecot()
    campaign = mailmerge.campaign()
    front = ImapFront(imap, 1, cut=False)
    account(mailmerge, relay, front)
    process = mailmerge.start("send", "spring", "--yes")
    assert front.reached.wait(20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    front.stop()
    assert len(subjects_in(imap)) == 2

    front = ImapFront(imap, 0, cut=True)
    account(mailmerge, relay, front)
    dropped = mailmerge("send", "spring", "--yes")
    front.stop()
    account(mailmerge, relay, imap)
    after = mailmerge("send", "spring", "--yes")

    assert (dropped.code, after.code) == (0, 0), dropped
    assert front.reached.is_set()
    assert "missing at Sent" not in dropped.out + dropped.err, dropped
    assert "missing" not in mailmerge("send", "spring", "--dry-run").err
    assert statuses(campaign) == ["accepted"] * 3
    assert sorted(subjects_in(imap)) == sorted(EVERYBODY.values())
    assert subjects(relay.messages) == EVERYBODY


def test_f14_a_mailbox_that_does_not_answer_is_left_when_asked_to_stop(mailmerge, relay, dovecot):
    """The run ends within seconds, every row with its outcome; the next one makes the copies."""
    imap = dovecot()
    mailmerge.campaign()
    front = ImapFront(imap, 0, cut=False)
    account(mailmerge, relay, front)
    process = mailmerge.start("send", "spring", "--yes")
    assert front.reached.wait(20)
    process.send_signal(signal.SIGTERM)
    done = mailmerge.finish(process, timeout=20)
    front.stop()
    account(mailmerge, relay, imap)
    after = mailmerge("send", "spring", "--yes")

    assert "3 copies are missing" in done.out + done.err, done
    assert after.code == 0, after
    assert sorted(subjects_in(imap)) == sorted(EVERYBODY.values())


def test_f14_a_mailbox_that_is_full_or_away_changes_no_row(mailmerge, relay, dovecot):
    """It is said once, the exit code is that of the rows, and the next run makes the copies."""
    full, imap = dovecot(SPECIAL_USE + FULL), dovecot("")
    campaign = mailmerge.campaign()
    account(mailmerge, relay, full)
    refused = mailmerge("send", "spring", "--yes")
    account(mailmerge, relay, imap, imap="imaps://ann@localhost:1")
    away = mailmerge("send", "spring", "--yes")
    account(mailmerge, relay, imap, copy_to="imap:Nowhere")
    unknown = mailmerge("send", "spring", "--yes")
    account(mailmerge, relay, imap)
    made = mailmerge("send", "spring", "--yes")

    assert [done.code for done in (refused, away, unknown, made)] == [0, 0, 0, 0], (refused, away, unknown)
    assert "uota" in refused.out + refused.err, refused
    assert "cannot be reached" in away.out + away.err, away
    assert 'has no folder "Nowhere"' in unknown.out + unknown.err, unknown
    assert statuses(campaign) == ["accepted"] * 3
    assert sorted(subjects_in(full) + subjects_in(imap, "Sent")) == sorted(EVERYBODY.values())
    assert len(relay.messages) == 3


def test_copies_in_files_of_this_machine(mailmerge, relay):
    """A maildir of the account, an mbox in the campaign's folder; none of these where it could do harm."""
    campaign = mailmerge.campaign()
    box = mailmerge.folder / "Mail" / "sent"
    mailmerge.account(relay, copy_to=f"maildir:{box}")
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    mbox = ("--set", "send.copy_to=mbox:sent.mbox")
    done = mailmerge("send", "spring", "--yes", *mbox)
    outside = mailmerge("send", "spring", "--yes", "--set", "send.copy_to=mbox:../sent.mbox")
    (campaign / "notes.txt").write_text("mine\n")
    foreign = mailmerge("send", "spring", "--yes", "--set", "send.copy_to=mbox:notes.txt", "--accept-repeats")

    assert (done.code, foreign.code) == (0, 0), done
    (first,) = mailbox.Maildir(box, create=False)
    assert (first["Subject"], first.get_flags()) == ("Hello Ana", "S")
    with contextlib.closing(mailbox.mbox(campaign / "sent.mbox", create=False)) as rest:
        assert [message["Subject"] for message in rest] == ["Hello Bo", "Hello Cy"]
    assert outside.code == 2
    one_error(outside, "B841", "out of its folder")
    assert (campaign / "notes.txt").read_text() == "mine\n"


def test_a_doubt_that_was_settled_as_accepted_has_its_copy(mailmerge):
    """Nobody knew at the time; once a person says that it arrived, the next run copies it, once."""
    campaign = mailmerge.campaign()
    box = mailmerge.folder / "Mail" / "sent"
    with KeepingSandbox(tls="none", user=None, faults=FaultPlan(drop_after_data=1.0)) as lossy:
        mailmerge.account(lossy, copy_to=f"maildir:{box}")
        assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 4
    before = len(mailbox.Maildir(box, create=False)) if box.exists() else 0
    assert mailmerge("resolve", "spring", "--as-accepted").code == 0
    with KeepingSandbox(tls="none", user=None) as relay:
        mailmerge.account(relay, copy_to=f"maildir:{box}")
        done = mailmerge("send", "spring", "--yes")
        again = mailmerge("send", "spring", "--yes")
    assert (before, done.code, again.code) == (0, 0, 0), done
    assert statuses(campaign) == ["accepted"] * 3
    found = sorted(message["Subject"] for message in mailbox.Maildir(box, create=False))
    assert found == sorted(EVERYBODY.values())


def test_unsent_messages_are_drafts_for_a_mail_program(mailmerge):
    """X-Unsent and Bcc are in the files; Date and Message-ID are made by the program that sends them."""
    made = {"Date", "Message-ID", "X-Mailmerge-ID"}
    mailmerge.campaign(campaign_toml=BCC)
    drafts, plain = mailmerge.folder / "drafts", mailmerge.folder / "plain"
    assert mailmerge("preview", "spring", "--eml", plain).code == 0
    done = mailmerge("preview", "spring", "--eml", drafts, "--unsent")

    assert done.code == 0, done
    for path in sorted(plain.glob("*.eml")):
        message, draft = (message_from_bytes((folder / path.name).read_bytes()) for folder in (plain, drafts))
        expected = [pair for pair in message.items() if pair[0] not in made]
        assert draft.items() == [("X-Unsent", "1"), ("Bcc", "boss@example.org"), *expected]
        assert draft.get_payload() == message.get_payload()
    assert "X-Unsent" not in next(plain.glob("*.eml")).read_text()
    assert mailmerge("preview", "spring", "--unsent").code == 2


# --- drafts -----------------------------------------------------------------------------------------------

DRAFTS = "Entwuerfe"


def test_messages_become_drafts_and_are_not_sent_again(mailmerge, relay, dovecot):
    """Plan, limit, results and suggestion are those of a run; `send` leaves drafted rows alone."""
    imap = dovecot()
    campaign = mailmerge.campaign(campaign_toml=BCC)
    account(mailmerge, relay, imap)

    first = mailmerge("drafts", "spring", "--yes", "--rows", "2")
    done = mailmerge("drafts", "spring", "--yes")
    sent = mailmerge("send", "spring", "--yes")

    assert (first.code, done.code, sent.code) == (0, 0, 0), first
    assert "Drafts at localhost" in first.err
    assert "1 drafted" in first.out, first
    assert statuses(campaign) == ["drafted"] * 3
    kept = imap.messages(DRAFTS)
    assert {frozenset(flags.split()) for flags, _ in kept} == {frozenset({r"\Draft", r"\Seen"})}
    assert [message_from_bytes(content)["Subject"] for _, content in kept] == list(EVERYBODY.values())
    assert {message_from_bytes(content)["Bcc"] for _, content in kept} == {"boss@example.org"}
    assert imap.messages(SENT) == []
    assert relay.messages == []
    assert "3  drafted" in mailmerge("status", "spring").out
    (campaign / "people.csv").write_text("email,name\nana@example.com,Ana\n")
    renamed = mailmerge("send", "spring", "--yes", "--name", "other", "--set", "message.bcc=boss@example.org")
    one_error(renamed, "C472")


def test_f15_drafts_of_a_killed_run_are_looked_up_in_the_folder(mailmerge, relay, dovecot):
    """One got no answer and is there: it is drafted. One that a person has sent since stays in doubt."""
    imap = dovecot()
    campaign = mailmerge.campaign()
    front = ImapFront(imap, 1, cut=False)
    account(mailmerge, relay, front)
    process = mailmerge.start("drafts", "spring", "--yes")
    assert front.reached.wait(20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    front.stop()

    front = ImapFront(imap, 0, cut=True)
    account(mailmerge, relay, front)
    dropped = mailmerge("drafts", "spring", "--yes")
    front.stop()
    assert dropped.code == 4, dropped
    assert statuses(campaign) == ["drafted", "drafted", "in_doubt"]
    account(mailmerge, relay, imap)
    after = mailmerge("drafts", "spring", "--yes")

    assert after.code == 0, after
    assert statuses(campaign) == ["drafted"] * 3
    assert subjects_in(imap, DRAFTS) == list(EVERYBODY.values())


@pytest.mark.parametrize("ends", ["unanswered", "expired"])
def test_f15_a_session_that_ends_early_is_followed_by_another(mailmerge, relay, dovecot, ends):
    """Drafts and copies continue on a new connection, each is there once, and no row is in doubt."""
    imap = dovecot()
    drafts = mailmerge.campaign()
    front = ImapFront(imap, 1, ends=ends)
    account(mailmerge, relay, front)
    drafted = mailmerge("drafts", "spring", "--yes")
    front.stop()
    summer = campaign_toml(top='name = "summer"\naccount = "test"', message=TO_PEOPLE)
    sent = mailmerge.campaign("summer", campaign_toml=summer)
    front = ImapFront(imap, 1, ends=ends)
    account(mailmerge, relay, front)
    copied = mailmerge("send", "summer", "--yes", "--accept-repeats")
    front.stop()

    assert (drafted.code, copied.code, front.reached.is_set()) == (0, 0, True), copied
    assert statuses(drafts) == ["drafted"] * 3
    assert "missing" not in copied.out + copied.err, copied
    assert statuses(sent) == ["accepted"] * 3
    assert subjects_in(imap, DRAFTS) == list(EVERYBODY.values())
    assert sorted(subjects_in(imap)) == sorted(EVERYBODY.values())


def test_f15_a_mailbox_that_takes_no_more_drafts_ends_the_run(mailmerge, relay, dovecot):
    """What it did not accept is pending, and the same command resumes."""
    full, imap = dovecot(SPECIAL_USE + FULL), dovecot("")
    campaign = mailmerge.campaign()
    account(mailmerge, relay, full)
    stopped = mailmerge("drafts", "spring", "--yes")
    assert stopped.code == 5, stopped
    assert statuses(campaign) == ["drafted", "pending", "pending"]
    assert "mailmerge drafts spring" in stopped.out, stopped
    account(mailmerge, relay, imap, imap=None)
    one_error(mailmerge("drafts", "spring", "--yes"), "B840")
    account(mailmerge, relay, imap)
    done = mailmerge("drafts", "spring", "--yes")

    assert done.code == 0, done
    assert subjects_in(imap, "Drafts") == ["Hello Bo", "Hello Cy"]
