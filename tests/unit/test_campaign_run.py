"""Runs in this process against the sandbox server: what ends them, and what is recorded and said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import pandas as pd
import pytest

from mailmerge import Campaign, InputError, SendRequest
from mailmerge.campaign.connect import find_account
from mailmerge.campaign.opening import Access, open_run
from mailmerge.campaign.run import NeverStop, Run
from mailmerge.clock import SystemClock
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Status
from mailmerge.sending.runs import Reason

if TYPE_CHECKING:
    from servers.command import Mailmerge
    from servers.kept import KeepingSandbox

NAME = "spring"


class StopAfter:
    """A stop flag that is set once it has been asked so often."""

    def __init__(self, times: int) -> None:
        self._left = times

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.fixture
def campaign(mailmerge: Mailmerge, sandbox: KeepingSandbox) -> Campaign:
    """Open a campaign of three rows with the sandbox server as its account."""
    mailmerge.account(sandbox)
    return Campaign.load(mailmerge.campaign(NAME), environ=mailmerge.environ)


def people() -> pd.DataFrame:
    """Give a list of three."""
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
    """Give how the ledger says that the latest run ended."""
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
    """The flag is looked at between two messages."""
    report = campaign.test("me@example.net", SendRequest(rows="2-4"), stop=StopAfter(2))

    assert [result.row for result in report.results] == [2, 3]
    assert len(sandbox.messages) == 2
    assert (report.end.reason, report.left) == (Reason.INTERRUPTED, 1)
    assert last_run(campaign, "test") == ("interrupted", {"accepted": 2})


def test_a_list_that_changes_while_it_is_sent_ends_the_run_as_stopped_early(mailmerge, sandbox):
    """What was accepted before is counted, recorded and reported; the run can be resumed (exit code 5)."""
    frame = people()
    campaign = from_frame(mailmerge, sandbox, frame)

    def edit(_plan: Any) -> bool:
        frame.loc[2, "email"] = "z@example.org"
        return True

    report = campaign.send(SendRequest(), confirm=edit)

    assert report is not None
    assert (report.exit_code, report.reason, report.sent_now) == (5, "failed", 2)
    assert report.error is not None
    assert report.error.code == "D125"
    assert [message.rcpt_to for message in sandbox.messages] == [("a@example.org",), ("b@example.org",)]
    assert last_run(campaign, "send") == ("failed", {"accepted": 2})


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

    report = campaign.send(SendRequest(), confirm=change)

    assert report is not None
    assert (report.exit_code, report.sent_now, report.counts[Status.PENDING]) == (5, 0, 3)
    what = "was removed" if becomes is None else "changed"
    words = f'not sent, the attachment "letter.txt" {what} after the message was planned'
    assert report.notes == tuple(f"row {row}: {words}" for row in (2, 3, 4))
    assert sandbox.messages == []
    letter.write_text("the letter")
    again = campaign.send(SendRequest(), confirm=lambda _plan: True)
    assert again is not None
    assert (again.exit_code, again.sent_now) == (0, 3)


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
    """A folder in the page's place: the run is as good as it was, and why there is no page is known."""
    (campaign.workspace.out / "report.html").mkdir(parents=True)

    report = campaign.send()

    assert report is not None
    assert (report.exit_code, report.page, report.bug) == (0, None, None)
    assert isinstance(report.page_error, OSError)
