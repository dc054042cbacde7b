"""One way to open a campaign: what is locked, what is made, and that everything is given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mailmerge import Campaign, InUseError, LedgerError
from mailmerge.campaign.connect import find_account
from mailmerge.campaign.opening import Access, open_read_only, open_run
from mailmerge.model import Counts, Status

if TYPE_CHECKING:
    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.opening import OpenCampaign
    from servers.command import Mailmerge
    from servers.kept import KeepingSandbox


@pytest.fixture
def spring(mailmerge: Mailmerge, sandbox: KeepingSandbox) -> Definition:
    """Write a campaign of three rows, and an account."""
    mailmerge.account(sandbox)
    return Campaign.load(mailmerge.campaign(), environ=mailmerge.environ).definition


def test_one_process_works_on_a_campaign(spring):
    """Whoever sends or decides locks it; a copy needs no lock."""
    with open_run(spring, Access.SEND):
        for access in (Access.SEND, Access.DECIDE):
            with pytest.raises(InUseError) as caught, open_run(spring, access):
                pass
            assert caught.value.code == "L707"
        with open_run(spring, Access.COPY) as copied, open_run(spring, Access.EMPTY) as empty:
            assert (copied.ledger.throwaway, empty.ledger.throwaway) == (True, True)


def test_one_process_uses_an_account(spring, mailmerge):
    """Another campaign with the same account has to wait until the first one is closed."""
    other = Campaign.load(mailmerge.campaign("other"), environ=mailmerge.environ).definition
    account = find_account(spring)
    with open_run(spring, Access.SEND) as first, open_run(other, Access.SEND) as second:
        first.lock_account(account)
        with pytest.raises(InUseError) as caught:
            second.lock_account(account)
        assert caught.value.code == "L711"
    with open_run(other, Access.SEND) as second:
        second.lock_account(account)


def test_everything_is_given_back_whatever_happens(spring):
    """After an error within, the campaign and the account can be opened again."""

    def fail(opened: OpenCampaign) -> None:
        opened.lock_account(find_account(spring))
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError), open_run(spring, Access.SEND) as opened:
            fail(opened)


@pytest.mark.parametrize("access", [Access.COPY, Access.EMPTY])
def test_looking_leaves_no_trace(spring, access):
    """A throw-away ledger makes nothing beside the campaign, and there is nothing to be read afterwards."""
    with open_run(spring, access) as opened:
        assert (opened.usage, opened.registry, opened.quota(find_account(spring))) == (None, None, None)
        assert [recipient.row for recipient in opened.open_list()] == [2, 3, 4]
    assert not spring.workspace.state.exists()
    with open_read_only(spring) as ledger:
        assert ledger is None


def test_a_decision_needs_a_ledger(spring):
    """There is nothing to decide about before anything was sent; no ledger is made."""
    with pytest.raises(LedgerError) as caught, open_run(spring, Access.DECIDE):
        pass
    assert caught.value.code == "L705"
    assert not spring.workspace.state.exists()


def test_a_copy_starts_from_what_happened(spring):
    """What was listed and recorded is in the copy, and what is done to the copy is not in the ledger."""
    with open_run(spring, Access.SEND) as opened:
        opened.ledger.note_standing(Counts({Status.PENDING: 1}))
    with open_run(spring, Access.COPY) as copied:
        assert copied.ledger.counts()[Status.PENDING] == 1
        copied.ledger.note_standing(Counts())
        assert copied.ledger.counts().total == 0
    with open_read_only(spring) as ledger:
        assert ledger is not None
        assert ledger.counts()[Status.PENDING] == 1


def test_what_is_sent_comes_from_a_copy_of_the_list(spring):
    """An edit after the campaign was opened does not reach the run; the copy before it is removed."""
    with open_run(spring, Access.SEND) as opened:
        recipients = opened.open_list()
        spring.file.data.source.write_text("email,name\nzoe@example.com,Zoe\n", "utf-8")
        assert [str(recipient.values[0]) for recipient in recipients] == [
            "ana@example.com",
            "bo@example.net",
            "cy@example.org",
        ]
        opened.open_list()
        assert len(list(spring.workspace.state.glob("list-*"))) == 1


def test_an_older_ledger_is_refused(spring):
    """What this machine remembers of the ledger is compared before anything is written to it."""
    with open_run(spring, Access.SEND) as opened:
        opened.note_mark(7)
    with pytest.raises(LedgerError, match="older than it should be") as caught, open_run(spring, Access.SEND):
        pass
    assert caught.value.code == "L705"
