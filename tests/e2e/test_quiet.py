"""``--quiet``: commands that run again and again say nothing while there is nothing to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faultd
from faultd import FaultServer, say
from reports import delivery_report
from servers.command import results

if TYPE_CHECKING:
    from servers.command import Mailmerge

SILENT = ("", "")


def test_nothing_new_is_silent(mailmerge: Mailmerge, sandbox) -> None:
    """After a run whose rows were all accepted, nothing is printed; a bounce is told once."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    first = mailmerge("send", "spring", "--yes", "--quiet")
    assert (first.code, "3 accepted" in first.out) == (0, True)
    for folder in ("cur", "new", "tmp"):
        (mailmerge.folder / "box" / folder).mkdir(parents=True)
    (mailmerge.folder / "box" / "new" / "1.test").write_bytes(b"Subject: Lunch?\n\nAt noon?\n")
    commands: tuple[tuple[str, ...], ...] = (
        ("check", "spring", "-q"),
        ("check", "spring", "-q", "--json"),
        ("check", "spring", "-q", "--output-format", "concise"),
        ("send", "spring", "--yes", "--quiet"),
        ("send", "spring", "--yes", "--quiet", "--json"),
        ("status", "spring", "-q"),
        ("status", "spring", "-q", "--json"),
        ("bounces", "spring", "-q", "--maildir", "box"),
    )
    for command in commands:
        done = mailmerge(*command)
        assert (done.code, done.out, done.err) == (0, *SILENT), command
    message_id = next(row["message_id"] for row in results(campaign))
    report = delivery_report(message_id, address="ana@example.com")
    (mailmerge.folder / "box" / "new" / "2.test").write_bytes(report)
    told = mailmerge(*commands[-1])
    assert "1 row bounced." in told.out
    again = mailmerge(*commands[-1])
    assert (again.out, again.err) == SILENT


def test_what_a_person_must_decide_is_told_again(mailmerge: Mailmerge) -> None:
    """Rows in doubt are no news, and still what `status -q` and `send -q` are for."""
    mailmerge.campaign()
    with FaultServer({"content": {1: faultd.drop}}) as server:
        mailmerge.account(server)
        assert mailmerge("send", "spring", "--yes", "--quiet").code == 4
        for command in (("send", "spring", "--yes", "-q"), ("status", "spring", "-q")):
            assert "in doubt" in mailmerge(*command).out


def test_a_deferred_row_is_told_when_it_is_due(mailmerge: Mailmerge) -> None:
    """Until then a run that can do nothing says nothing; its exit code tells that rows are left."""
    mailmerge.campaign()
    with FaultServer({"content": {1: say("450 4.2.1 try later")}}) as server:
        mailmerge.account(server)
        assert mailmerge("send", "spring", "--yes", "-q").code == 5
        for command, code in ((("send", "spring", "--yes", "-q"), 5), (("status", "spring", "-q"), 0)):
            done = mailmerge(*command)
            assert (done.code, done.out, done.err) == (code, *SILENT)


def test_a_row_that_cannot_be_sent_is_told(mailmerge: Mailmerge, sandbox) -> None:
    """One that is added to the list and is invalid is reported in spite of --quiet."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--quiet").code == 0
    (people,) = campaign.glob("*.csv")
    people.write_text(people.read_text("utf-8") + "nobody,Nobody\n", encoding="utf-8")
    told = mailmerge("send", "spring", "--yes", "-q")
    assert (told.code, "D110" in told.err) == (3, True)
