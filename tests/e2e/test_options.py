"""Options on their way from the shell to a run: which of them counts, and what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from servers.command import Mailmerge

ACCOUNT = '[accounts.test]\nhost = "127.0.0.1"\nport = 9\ntls = "none"\nauth = "none"\nany_from = true\n'
LETTER = (
    '[data]\nsource = "people.csv"\n[message]\nfrom = "me@example.org"\nsubject = "{}"\ntext = "body.txt"\n'
)


def subject(mailmerge: Mailmerge, *arguments: str, said: str | None = None) -> str:
    """Return the subject of the first message; *said* in the environment."""
    if said:
        mailmerge.environ["MAILMERGE_MESSAGE_SUBJECT"] = said
    done = mailmerge("preview", "spring", "--terminal", *arguments)
    assert done.code == 0, done
    return next(line.partition(" Subject: ")[2] for line in done.out.splitlines() if " Subject: " in line)


def test_the_nearer_to_the_person_the_more_an_option_counts(mailmerge: Mailmerge) -> None:
    """Flag before --set before environment before file."""
    mailmerge.campaign(campaign_toml=LETTER.format("file"))
    setting, flag = ("--set", "message.subject=set"), ("--subject", "flag")

    assert subject(mailmerge) == "file"
    assert subject(mailmerge, said="environment") == "environment"
    assert subject(mailmerge, *setting, said="environment") == "set"
    assert subject(mailmerge, *flag, *setting, said="environment") == "flag"


def test_never_means_that_nothing_is_tried_again(mailmerge: Mailmerge) -> None:
    """A row that the server asked to try later expires with its first refusal; the run ends well."""
    mailmerge.campaign()
    mailmerge.config.write_text(ACCOUNT)

    done = mailmerge("rehearse", "spring", "--set", "send.retry=never", "--fail", "450:100%", "--json")

    assert (done.code, done.objects[-1]["statuses"]) == (3, {"expired": 3})


@pytest.mark.parametrize("share", ["0.33333%", "5.123456%", "0.00001%"])
def test_a_share_keeps_its_decimals(mailmerge: Mailmerge, share: str) -> None:
    """However small a percentage is, the first rejected row of few is more, and it is told as it was said."""
    campaign = mailmerge.campaign()
    rows = "".join(f"p{number}@example.org,P\n" for number in range(100))
    (campaign / "people.csv").write_text("email,name\n" + rows)
    mailmerge.config.write_text(ACCOUNT)

    done = mailmerge(
        *("rehearse", "spring", "--set", f"send.max_rejected={share}", "--fail", "550 5.1.1 no:20%"),
        *("--seed", "3"),
    )

    assert done.code == 5, done
    assert f"more than {share} of the last 200 rows were rejected" in done.out + done.err


def test_a_flag_that_a_command_does_not_have_is_refused(mailmerge: Mailmerge) -> None:
    """What would change nothing cannot be said: the ledger alone knows no templates."""
    mailmerge.campaign()

    done = mailmerge("status", "spring", "--subject", "x")

    assert done.code == 2
    assert "No such option: --subject" in done.err or "No such option '--subject'" in done.err
