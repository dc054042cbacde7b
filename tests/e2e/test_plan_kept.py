"""A plan is kept between two commands, and says what it was made of."""

from __future__ import annotations

import re

PEOPLE = "email,name\nann@example.org,Ann\nbo@example.net,Bo\n"


def test_the_second_command_finds_the_plan_of_the_first(mailmerge):
    """Nothing is rendered again while nothing has changed; what has changed is named."""
    folder = mailmerge.campaign(people_csv=PEOPLE)
    first = mailmerge("check", "spring")
    second = mailmerge("check", "spring")
    (folder / "people.csv").write_text(PEOPLE + "cy@example.com,Cy\n", "utf-8")
    third = mailmerge("check", "spring")

    assert "planned now\n" in first.err
    assert re.search(r"planned \d\d:\d\d, nothing has changed since\n", second.err)
    assert "planned now (people.csv changed)\n" in third.err
    assert "3 of 3 rows can be sent." in third.out


def test_an_option_that_changed_is_named(mailmerge):
    """In the campaign's file and on the command line; back to what it was, its plan is found again."""
    folder = mailmerge.campaign(people_csv=PEOPLE)
    mailmerge("check", "spring")
    chosen = mailmerge("check", "spring", "--where", "name == 'Bo'")
    again = mailmerge("check", "spring")
    config = folder / "campaign.toml"
    config.write_text(re.sub(r'subject = "[^"]*', 'subject = "Another', config.read_text("utf-8")), "utf-8")
    renamed = mailmerge("check", "spring")

    assert "planned now (option data.where changed)\n" in chosen.err
    assert re.search(r"planned \d\d:\d\d, nothing has changed since\n", again.err)
    assert "planned now (option message.subject changed)\n" in renamed.err


def test_verbose_check_says_what_the_plan_was_made_of(mailmerge):
    """Where it is kept, its options, the files that were looked at, and the versions of what made it."""
    mailmerge.campaign(people_csv=PEOPLE)
    done = mailmerge("check", "spring", "-v")

    kept = re.search(r"^  kept in (\S+\.plan)$", done.err, re.MULTILINE)
    assert kept
    assert mailmerge.folder in type(mailmerge.folder)(kept[1]).parents
    assert "  people.csv: 49 octets\n" in done.err
    assert "  option message.subject = " in done.err
    assert re.search(r"^  .*Jinja2 \d", done.err, re.MULTILINE)


def test_finished_messages_go_when_nothing_is_left_to_send(mailmerge, sandbox):
    """Not while a row waits, and not where they are to be kept; the rows stay known."""
    mailmerge.campaign(people_csv=PEOPLE)
    mailmerge.account(sandbox)
    cache = mailmerge.folder / "home" / "cache"

    def kept() -> list[str]:
        return sorted(path.suffix for path in cache.iterdir() if path.name != ".gitignore")

    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    assert kept() == [".messages", ".plan"]
    assert mailmerge("send", "spring", "--yes", "--keep-plan").code == 0
    assert kept() == [".messages", ".plan"]
    assert mailmerge("send", "spring", "--yes").code == 0
    assert kept() == [".plan"]
    assert "2 accepted" in mailmerge("report", "spring").out
    assert mailmerge("preview", "spring", "--no-open").code == 0
    assert ".messages" in kept()
