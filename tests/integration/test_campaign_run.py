"""Runs in this process against the sandbox server: what ends them, and what is recorded and said of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import pandas as pd
import pytest

from mailmerge import Campaign, InputError, SendRequest
from mailmerge.campaign.connect import find_account
from mailmerge.campaign.opening import Access, open_run
from mailmerge.campaign.run import Run
from mailmerge.clock import SystemClock, VirtualClock
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Status
from mailmerge.sandbox import FaultPlan
from mailmerge.sandbox.faults import Command, Refusal
from mailmerge.sending.runs import NeverStop, Reason
from reliability.invariants import attempts_of
from servers.kept import KeepingSandbox

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge import Plan
    from mailmerge.ledger.attempts import Settlement
    from mailmerge.sending.runs import Progress
    from servers.command import Mailmerge

NAME = "spring"


class StopAfter:
    """A stop flag that is set once a server has taken so many messages."""

    def __init__(self, server: KeepingSandbox, messages: int) -> None:
        self._server = server
        self._messages = messages

    def is_set(self) -> bool:
        return len(self._server.messages) >= self._messages


@pytest.fixture
def campaign(mailmerge: Mailmerge, sandbox: KeepingSandbox) -> Campaign:
    """Open a campaign of three rows with the sandbox server as its account."""
    mailmerge.account(sandbox)
    return Campaign.load(mailmerge.campaign(NAME), environ=mailmerge.environ)


def people() -> pd.DataFrame:
    """Return a list of three."""
    return pd.DataFrame({"email": ["a@example.org", "b@example.org", "c@example.org"]})


def from_frame(mailmerge: Mailmerge, sandbox: KeepingSandbox, frame: pd.DataFrame | None = None) -> Campaign:
    """Make a campaign whose list is a data frame."""
    mailmerge.account(sandbox)
    options = {"message.from": "me@example.org", "account": "test"}
    campaign = Campaign.from_dataframe(
        people() if frame is None else frame,
        name=NAME,
        subject="Hi",
        text="Hello",
        folder=mailmerge.folder,
        options=options,
    )
    environment = Campaign.load(mailmerge.campaign("other"), environ=mailmerge.environ).environment
    return Campaign(campaign.file, environment=environment, recipients=campaign.definition.given_list)


def last_run(campaign: Campaign, kind: str) -> tuple[str | None, dict[str, int]]:
    """Return how the latest run ended, according to the ledger."""
    with Ledger.open_read_only(campaign.workspace.ledger_path, campaign.name) as ledger:
        run = ledger.last_run(kind)
    assert run is not None
    assert run.ended is not None
    return run.reason, dict(run.counts)


def test_a_test_that_meets_the_quota_reports_what_it_sent(mailmerge, sandbox):
    """One message went out, two did not: both are said, and the run is recorded with its end."""
    mailmerge.account(sandbox, quota="1/d")
    campaign = Campaign.load(mailmerge.campaign(NAME), environ=mailmerge.environ)

    report = campaign.test("me@example.net", SendRequest(rows="2-4"))

    assert [(result.row, result.status) for result in report.results] == [(2, Status.ACCEPTED)]
    assert len(sandbox.messages) == 1
    assert (report.end.reason, report.left) == (Reason.QUOTA, 2)
    assert report.end.next_at is not None
    assert last_run(campaign, "test") == ("quota", {"accepted": 1})


def test_a_test_that_is_stopped_reports_what_it_sent(campaign, sandbox):
    """What has been handed over is waited for."""
    report = campaign.test("me@example.net", SendRequest(rows="2-4"), stop=StopAfter(sandbox, 2))

    assert [result.row for result in report.results] == [2, 3]
    assert len(sandbox.messages) == 2
    assert (report.end.reason, report.left) == (Reason.INTERRUPTED, 1)
    assert last_run(campaign, "test") == ("interrupted", {"accepted": 2})


def test_a_list_that_changes_while_it_is_sent_changes_nothing(mailmerge, sandbox):
    """What was shown is what is sent, whatever becomes of the list meanwhile."""
    frame = people()
    campaign = from_frame(mailmerge, sandbox, frame)

    def edit(_plan: Any) -> bool:
        frame.loc[2, "email"] = "z@example.org"
        return True

    report = campaign.send(request=SendRequest(), confirm=edit)

    assert report is not None
    assert (report.exit_code, report.reason) == (0, "finished")
    assert "z@example.org" not in [message.rcpt_to[0] for message in sandbox.messages]
    assert len(sandbox.messages) == report.sent_now == len(frame)


@pytest.mark.parametrize("becomes", ["another letter", None])
def test_a_file_that_changes_while_it_is_sent_leaves_the_rest_pending(mailmerge, sandbox, becomes):
    """Nobody gets a file that was not looked at: the rows are named, and the run ends with exit code 5."""
    mailmerge.account(sandbox)
    folder = mailmerge.campaign(NAME)
    letter = folder / "letter.txt"
    letter.write_text("the letter")
    with (folder / "campaign.toml").open("a") as file:
        file.write('[[attach]]\npath = "letter.txt"\n')
    campaign = Campaign.load(folder, environ=mailmerge.environ)

    def change(_plan: Any) -> bool:
        letter.unlink() if becomes is None else letter.write_text(becomes)
        return True

    report = campaign.send(request=SendRequest(), confirm=change)

    assert report is not None
    assert (report.exit_code, report.sent_now, report.counts[Status.PENDING]) == (5, 0, 3)
    what = "was removed" if becomes is None else "changed"
    words = f'not sent, the attachment "letter.txt" {what} after the message was planned'
    assert report.notes == tuple(f"row {row}: {words}" for row in (2, 3, 4))
    assert sandbox.messages == []
    letter.write_text("the letter")
    again = campaign.send(request=SendRequest(), confirm=lambda _plan: True)
    assert again is not None
    assert (again.exit_code, again.sent_now) == (0, 3)


NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
LONG = timedelta(hours=10)


def one_row(mailmerge: Mailmerge, server: KeepingSandbox) -> Path:
    """Make a campaign of one row."""
    mailmerge.account(server)
    return mailmerge.campaign(NAME, people_csv="email,name\nana@example.com,Ana\n")


def tried(folder: Path) -> list[tuple[Any, ...]]:
    """Return Message-ID, Date, frozen digest and digest of every attempt."""
    path = Campaign.load(folder, environ={}).workspace.ledger_path
    return attempts_of(path, NAME, "message_id", "date", "frozen", "digest")


def test_a_retry_is_the_same_message_unless_it_says_something_else(mailmerge):
    """Date and Message-ID are repeated as long as the content is; what was sent before is known again."""
    refusing = FaultPlan((Refusal(451, 1.0, Command.CONTENT),))
    with KeepingSandbox(faults=refusing) as server:
        folder = one_row(mailmerge, server)
        body = folder / "body.txt"
        first, other = body.read_text(), "Something else\n"
        for turn, text in enumerate((first, first, other, first)):
            body.write_text(text)
            campaign = Campaign.load(folder, environ=mailmerge.environ)
            campaign.send(clock=VirtualClock(NOW + turn * LONG))

    attempts = tried(folder)
    assert len(attempts) == 4
    one, again, changed, back = attempts
    assert one == again == back
    assert all(part != before for part, before in zip(changed, one, strict=True))


def test_a_requeued_row_gets_a_new_message(mailmerge):
    """The same content has another Date and Message-ID: no server takes it for the one it rejected."""
    refusing = FaultPlan((Refusal(550, 1.0, Command.CONTENT),))
    with KeepingSandbox(faults=refusing) as server:
        folder = one_row(mailmerge, server)
        campaign = Campaign.load(folder, environ=mailmerge.environ)
        campaign.send(clock=VirtualClock(NOW))
        assert campaign.requeue() == 1
        campaign.send(clock=VirtualClock(NOW + LONG))

    one, two = tried(folder)
    assert one[2] == two[2]
    assert all(two[place] != one[place] for place in (0, 1, 3))


def test_a_preview_shows_the_message_that_went_out_or_the_one_that_would(mailmerge, sandbox):
    """The Date and Message-ID of what was accepted; after a requeue, those of a new message."""
    folder = one_row(mailmerge, sandbox)
    campaign = Campaign.load(folder, environ=mailmerge.environ)
    campaign.send(clock=VirtualClock(NOW))

    (shown,) = campaign.messages()
    assert shown.content == sandbox.messages[0].content
    campaign.requeue(accepted=True)
    (new,) = campaign.messages()
    assert new.message_id != shown.message_id
    assert b"\r\nDate: Sun, 22 Nov 2026" not in b"\r\n" + new.content
    (folder / "body.txt").write_text("Something else\n")
    campaign.send(request=SendRequest(accept_changes=True))
    assert [message.content for message in campaign.messages()] == [sandbox.messages[1].content]


def test_an_error_of_set_up_ends_the_run_as_failed(campaign):
    """Where no connection can be made at all, the run has its end, with the error, and no row has moved."""
    definition = campaign.definition
    account = find_account(definition)

    def connect() -> NoReturn:
        raise InputError("the user name holds a line break or control character", code="S640")

    with open_run(definition, Access.SEND) as opened:
        run = Run(
            opened, SendRequest(), account, clock=SystemClock(), stop=NeverStop(), observe=lambda _: None
        )
        end = run.execute(run.plan(), connect)

    assert (end.reason, end.counts.total) == (Reason.FAILED, 0)
    assert end.error is not None
    assert end.error.code == "S640"
    assert last_run(campaign, "send") == ("failed", {})


def test_a_page_that_fails_because_of_us_comes_after_the_results(mailmerge, sandbox):
    """Results, summary and the ledger's record are complete; the report carries the exception and says 1."""
    campaign = from_frame(mailmerge, sandbox)

    def spoil(_plan: Any) -> bool:
        recipients = campaign.definition.given_list
        assert recipients is not None
        recipients.shown = None  # type: ignore[assignment]  # no name, as only the page finds out
        return True

    report = campaign.send(confirm=spoil)

    assert report is not None
    assert isinstance(report.bug, TypeError)
    assert (report.exit_code, report.page, report.counts[Status.ACCEPTED]) == (1, None, 3)
    assert report.folder is not None
    assert sorted(path.name for path in report.folder.glob("re*")) == ["results.csv", "results.jsonl"]
    assert last_run(campaign, "send") == ("finished", {"accepted": 3})


def test_a_page_that_the_disk_refuses_is_no_bug(campaign):
    """A folder in the page's place does not affect the run, and the reason for the missing page is known."""
    (campaign.workspace.out / "report.html").mkdir(parents=True)

    report = campaign.send()

    assert report is not None
    assert (report.exit_code, report.page, report.bug) == (0, None, None)
    assert isinstance(report.page_error, OSError)


def test_a31_an_opt_out_during_the_run_counts_from_the_next_message_on(mailmerge, campaign, sandbox):
    """Whoever opts out while others are written to gets nothing: the row is suppressed, the run continues."""
    never = campaign.workspace.folder / "never.txt"
    never.write_text("# nobody so far\n")
    told = []

    def opt_out(settlement: Settlement) -> None:
        told.append(settlement.attempt.address)
        if len(told) == 1:
            never.write_text("bo@example.net\n@example.org\n")

    again = Campaign.load(
        campaign.workspace.folder,
        {"data.suppress": [str(never)], "send.rate": ["30/m"]},
        environ=mailmerge.environ,
    )
    report = again.send(request=SendRequest(), clock=VirtualClock(SystemClock().now()), on_outcome=opt_out)

    assert report is not None
    assert [message.rcpt_to[0] for message in sandbox.messages] == ["ana@example.com"]
    assert (report.exit_code, report.counts[Status.SUPPRESSED], report.counts[Status.PENDING]) == (0, 2, 0)
    assert campaign.status().counts == report.counts


@pytest.mark.parametrize(
    ("broken", "code"), [(None, "D150"), ("nobody@\n", "D151")], ids=["gone", "with a mistake"]
)
def test_d3_an_opt_out_list_that_cannot_be_read_any_more_stops_the_run(
    mailmerge, campaign, sandbox, broken, code
):
    """Nobody is written to who may have asked not to be: after a minute it ends, and says why."""
    never = campaign.workspace.folder / "never.txt"
    never.write_text("# nobody so far\n")
    said: list[str] = []

    def spoil(_told: Settlement) -> None:
        never.unlink(missing_ok=True)
        if broken is not None:
            never.write_text(broken)

    again = Campaign.load(
        campaign.workspace.folder,
        {"data.suppress": [str(never)], "send.rate": ["30/m"]},
        environ=mailmerge.environ,
    )
    report = again.send(
        request=SendRequest(),
        clock=VirtualClock(SystemClock().now()),
        on_outcome=spoil,
        observe=lambda progress: said.append(progress.waiting),
    )

    assert report is not None
    assert len(sandbox.messages) == 1
    assert (report.exit_code, report.counts[Status.ACCEPTED], report.counts[Status.PENDING]) == (5, 1, 2)
    assert report.error is not None
    assert report.error.code == code
    assert said.count("opt-outs") == 1


def test_d3_an_opt_out_list_that_reads_well_again_lets_the_run_go_on(mailmerge, campaign, sandbox):
    """Whoever was on it before it vanished, and whoever is on it now, is not written to."""
    never = campaign.workspace.folder / "never.txt"
    never.write_text("# nobody so far\n")
    again = Campaign.load(
        campaign.workspace.folder,
        {"data.suppress": [str(never)], "send.rate": ["30/m"]},
        environ=mailmerge.environ,
    )

    def restore(progress: Progress) -> None:
        if progress.waiting == "opt-outs":
            never.write_text("bo@example.net\n")

    report = again.send(
        request=SendRequest(),
        clock=VirtualClock(SystemClock().now()),
        on_outcome=lambda _told: never.unlink(missing_ok=True),
        observe=restore,
    )

    assert report is not None
    # The second hand-over removes it once more, and the observer restores it: each wait is told once.
    assert (report.exit_code, report.counts[Status.SUPPRESSED], report.counts[Status.ACCEPTED]) == (0, 1, 2)


def test_people_whom_another_campaign_wrote_to_are_counted(mailmerge: Mailmerge, sandbox: KeepingSandbox):
    """Check and plan say how many there are and which campaign was the last; their own rows do not count."""
    mailmerge.account(sandbox)

    def campaign(name: str, subject: str, people_csv: str) -> Campaign:
        folder = mailmerge.campaign(name, people_csv=people_csv, body_txt=f"{subject}\n")
        return Campaign.load(folder, {"name": name}, environ=mailmerge.environ)

    campaign("spring", "one", "email,name\na@example.org,A\nb@example.org,B\n").send(clock=VirtualClock(NOW))
    campaign("summer", "two", "email,name\nB@example.org,B\n").send(clock=VirtualClock(NOW + LONG))
    autumn = campaign("autumn", "three", "email,name\na@example.org,A\nb@example.org,B\nc@example.org,C\n")
    seen: list[Plan] = []

    def agree(plan: Plan) -> bool:
        seen.append(plan)
        return True

    checked = autumn.check()
    autumn.send(confirm=agree)

    told = "2 of these people were written to before, last in 'summer'"
    assert told in checked.notices
    assert told in seen[0].notices
    assert not any("written to before" in notice for notice in autumn.check().notices)
