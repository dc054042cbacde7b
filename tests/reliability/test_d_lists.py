"""D. Lists and cells: who opted out, and what hostile lists do, on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servers.command import Mailmerge
    from servers.kept import KeepingSandbox

EXPORT = (
    '"Email Address","First Name",Address,UNSUB_TIME\n'
    'ana@example.com,Ana,,"2026-05-02 10:11:12"\n'
    "gone@example.com,Gone,,\n"
)


def test_d1_d4_who_opted_out_anywhere_gets_nothing(mailmerge: Mailmerge, sandbox: KeepingSandbox) -> None:
    """In an export with an empty postal address, or in the user's store; both are counted in the plan."""
    mailmerge.account(sandbox)
    mailmerge.campaign(unsubscribed_csv=EXPORT)
    added = mailmerge("suppress", "add", "@Example.NET", "somebody@else.example")
    assert added.code == 0, added
    checked = mailmerge("check", "spring", "--suppress", "spring/unsubscribed.csv")
    sent = mailmerge("send", "spring", "--yes", "--suppress", "spring/unsubscribed.csv")

    assert "2 addresses in unsubscribed.csv, 1 in this list" in checked.err
    assert "2 addresses in suppressed.csv, 1 in this list" in sent.err
    assert sent.code == 0, sent
    assert [message.rcpt_to for message in sandbox.messages] == [("cy@example.org",)]
    assert "@example.net" in mailmerge("suppress", "list").out
    assert mailmerge("suppress", "remove", "@example.net").code == 0
    assert "@example.net" not in mailmerge("suppress", "list").out


def test_d2_an_opt_out_that_is_not_understood_stops_all(
    mailmerge: Mailmerge, sandbox: KeepingSandbox
) -> None:
    """Exit 2 with file and line, in a campaign and where it is imported; nothing is sent or added."""
    mailmerge.account(sandbox)
    mailmerge.campaign(unsubscribed_csv="email\nana@example.com\nbo.example.net\n")
    sent = mailmerge("send", "spring", "--yes", "--suppress", "spring/unsubscribed.csv")
    imported = mailmerge("suppress", "import", "spring/unsubscribed.csv")

    for done in (sent, imported):
        assert done.code == 2, done
        assert "D151" in done.err
        assert "unsubscribed.csv:3" in done.err
    assert sandbox.messages == []
    assert "Nobody" in mailmerge("suppress", "list").out
