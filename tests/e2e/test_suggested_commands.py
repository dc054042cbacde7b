"""Every command that the program and its pages suggest is pasted into a real shell, and means this run."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import subprocess
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest

import faultd
from faultd import FaultServer, say
from servers.command import CAMPAIGN, Done, Mailmerge

if TYPE_CHECKING:
    from pathlib import Path

    from faultd import Fault

PEOPLE = "email,name\nana@example.com,Ana\nbo@example.net,Bo\ncy@example.org,Cy\ndi@example.com,Di\n"
HOSTILE = (
    "spring; touch PWNED #",
    'it\'s "two"  words!!',
    "$(touch PWNED) `touch PWNED`",
    "-x",
    "--help",
    "line\nbreak, tab\t, it's 50%s \\n",
    "fr\u00fch\u2060ling \u6625",
    "~",
    "*",
)


class Shell:
    """A POSIX shell in the test's folder; the program under test gets the words that it makes of a line."""

    def __init__(self, mailmerge: Mailmerge) -> None:
        self.mailmerge = mailmerge
        programs = mailmerge.folder / "home" / "bin"
        programs.mkdir()
        program = programs / "mailmerge"
        program.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
        program.chmod(0o755)
        self._path = f"{programs}{os.pathsep}{os.environ['PATH']}"

    def paste(self, line: str, *, cwd: Path | None = None) -> Done:
        """Run one line as it is."""
        assert line.startswith("mailmerge ")
        assert "\n" not in line
        shell = subprocess.run(
            ["sh", "-c", line],
            cwd=cwd or self.mailmerge.folder,
            env={**self.mailmerge.environ, "PATH": self._path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert not shell.stderr, shell
        done = self.mailmerge(*os.fsdecode(shell.stdout).split("\0")[:-1], cwd=cwd)
        assert not list(self.mailmerge.folder.rglob("PWNED")), line
        return done


@pytest.fixture
def shell(mailmerge: Mailmerge) -> Shell:
    return Shell(mailmerge)


def suggestions(done: Done, command: str) -> list[str]:
    """Return the lines of that command in what was printed, without the text around them."""
    found = re.findall(rf"mailmerge {command}\b.*?(?=   |$)", done.out + done.err, re.MULTILINE)
    assert found, (command, done)
    return found


def suggestion(done: Done, command: str) -> str:
    """Return the only one."""
    (line,) = suggestions(done, command)
    return line


def on_page(path: Path) -> list[str]:
    """Return the commands of a report page."""
    return [
        html.unescape(text)
        for text in re.findall(r'<code class="command">(.*?)</code>', path.read_text("utf-8"))
    ]


def to(server: FaultServer) -> list[str]:
    """Return who got a message, in the order of arrival."""
    return [message.recipients[0].decode() for message in server.accepted]


def counts(mailmerge: Mailmerge, *arguments: str) -> dict[str, int]:
    """Ask the ledger."""
    (values,) = mailmerge("status", *arguments, "--json").objects
    found: dict[str, int] = values["statuses"]
    return found


SOON = ("--set", "send.retry=1s", "--set", "send.max_rejected=100%")


@pytest.mark.parametrize("folder", HOSTILE, ids=ascii)
def test_a_folder_of_any_name_is_named_again(mailmerge, shell, folder):
    """What is printed before, during and after a run with rows in doubt means that folder and no other."""
    campaign = mailmerge.campaign(folder)
    given = f"./{folder}"
    with FaultServer({"content": {3: faultd.drop}}, extensions=()) as server:
        mailmerge.account(server)
        checked = mailmerge("check", given)
        looked = shell.paste(suggestion(checked, "preview"))
        assert looked.code == 0, looked
        assert (campaign / "out/preview.html").exists()
        assert shell.paste(suggestion(checked, "test").replace("YOU", "me@example.org")).code == 0
        assert to(server) == ["me@example.org"]
        sent = shell.paste(f"{suggestions(checked, 'send')[1]} --yes")
        assert sent.code == 4, sent
        told = shell.paste(suggestion(sent, "resolve"))
        assert "1 row may or may not have been sent" in told.out, told
        assert shell.paste(suggestion(mailmerge("status", given), "resolve")).out == told.out
        first, accept, again = on_page(campaign / "out/report.html")
        assert shell.paste(first).out == told.out
        assert suggestions(told, "resolve") == [accept, again]
        resent = shell.paste(again)
        assert resent.out.startswith("1 row will be sent again"), resent
        done = shell.paste(f"{suggestion(resent, 'send')} --yes")
        assert done.code == 0, done
    assert counts(mailmerge, given) == {"accepted": 3}


def test_a_pages_buttons_name_a_folder_of_any_name(mailmerge, shell):
    """What the preview page puts together for a row is sent to the shell, and shows that row."""
    campaign = mailmerge.campaign("spring; touch PWNED #'")
    mailmerge("preview", campaign.name, "--set", "message.subject=It's {{ name }}")
    commands = page_commands(campaign / "out/preview.html")

    shown = shell.paste("3".join(commands["eml"]).replace("DIR", "mails"))

    assert shown.code == 0, shown
    (message,) = (mailmerge.folder / "mails").glob("*.eml")
    assert b"Subject: It's Bo" in message.read_bytes()
    assert "3 of 3 rows can be sent" in shell.paste(commands["check"]).out
    assert shell.paste(commands["others"]).code == 0
    with FaultServer({}, extensions=()) as server:
        mailmerge.account(server)
        assert shell.paste("4".join(commands["test"])).code == 0
    assert to(server) == ["YOU@example.org"]
    assert b"X-Mailmerge-Test: row 4" in server.accepted[0].content


def page_commands(path: Path) -> dict[str, Any]:
    """Return the commands in a preview page."""
    found = re.findall(r'<script type="[^"]*"[^>]*>([A-Za-z0-9+/=]{40,})</script>', path.read_text("utf-8"))
    values = [json.loads(zlib.decompress(base64.b64decode(text))) for text in found]
    (commands,) = (value["commands"] for value in values if isinstance(value, dict) and "commands" in value)
    return dict(commands)


# --- the options that say who gets what -------------------------------------------------------------------

WHERE = "name in ['Bo', \"Cy\", 'Di']"
"""Everybody but Ana; with quotes of both kinds."""


@pytest.fixture
def chosen(mailmerge: Mailmerge) -> list[str]:
    """A campaign in a file of another name, whose list, account and name come from the command line."""
    mailmerge.campaign("spring", people_csv="email,name\nnobody@example.com,Nobody\n")
    folder = mailmerge.folder / "spring"
    (folder / "campaign.toml").rename(folder / "my campaign.toml")
    text = CAMPAIGN.replace('account = "test"', 'account = "other"')
    (folder / "my campaign.toml").write_text(text)
    (mailmerge.folder / "the list.csv").write_text(PEOPLE)
    return [
        *("spring/my campaign.toml", "--list", "the list.csv", "--name", "it's", "--account", "test"),
        *("--where", WHERE, "--hidden", "skip", "--out", "my reports", "--to", "{{ name }} <{{ email }}>"),
        *("--set", "send.retry=1s", "--set", "send.max_rejected=100%", "--from", "Me & You <me@example.org>"),
    ]


ALL = ["bo@example.net", "cy@example.org", "di@example.com"]
LEDGER = ("spring/my campaign.toml", "--name", "it's", "--list", "the list.csv")


def test_the_way_to_a_run_keeps_all_options(mailmerge, shell, chosen):
    """check, preview, test, rehearse and the first send mean the list, rows and account that were given."""
    with FaultServer({}, extensions=()) as server:
        mailmerge.account(server)
        checked = mailmerge("check", *chosen)
        assert shell.paste(suggestion(checked, "preview")).out.startswith("No problems. Wrote my reports/")
        assert shell.paste(suggestion(checked, "test").replace("YOU", "me@example.org")).code == 0
        few, whole = suggestions(checked, "send")
        rehearsed = mailmerge("rehearse", *chosen)
        assert "(3 rows" in shell.paste(suggestion(rehearsed, "preview")).out
        assert to(server) == ["me@example.org"]
        done = shell.paste(f"{few.replace('5', '1')} --yes")
        assert to(server)[1:] == ALL[:1], done
        done = shell.paste(f"{whole} --yes")
    assert to(server)[1:] == ALL, done
    assert (mailmerge.folder / "my reports/results.csv").exists()


@pytest.mark.parametrize("asked", ["send", "report", "status", "page", "elsewhere"])
def test_deferred_rows_are_continued_with_all_options(mailmerge, shell, chosen, asked):
    """Whichever command tells of rows that are left: the rows that were excluded stay excluded."""
    with FaultServer({"RCPT": {2: say("450 4.2.1 later")}}, extensions=()) as server:
        mailmerge.account(server)
        sent = mailmerge("send", *chosen, "--yes")
        assert sent.code == 5, sent
        assert to(server) == ["bo@example.net", "di@example.com"]
        cwd = mailmerge.folder
        if asked == "page":
            (line,) = on_page(mailmerge.folder / "my reports/report.html")
        elif asked == "elsewhere":
            cwd = mailmerge.folder / "spring"
            told = mailmerge(
                "status", "my campaign.toml", "--name", "it's", "--list", "../the list.csv", cwd=cwd
            )
            line = suggestion(told, "send")
        else:
            line = suggestion(sent if asked == "send" else mailmerge(asked, *LEDGER), "send")
        wait()
        done = shell.paste(f"{line} --yes", cwd=cwd)
    assert (done.code, to(server)) == (0, ["bo@example.net", "di@example.com", "cy@example.org"]), done


def test_settled_and_requeued_rows_are_continued_with_all_options(mailmerge, shell, chosen):
    """After resolve and requeue the next send is that of the run before."""
    faults: dict[str, dict[int, Fault]] = {"RCPT": {1: say("550 5.1.1 no")}, "content": {2: faultd.drop}}
    with FaultServer(faults, extensions=()) as server:
        mailmerge.account(server)
        sent = mailmerge("send", *chosen, "--yes")
        assert sent.code == 4, sent
        told = shell.paste(suggestion(sent, "resolve"))
        resent = shell.paste(suggestions(told, "resolve")[1])
        assert "1 row will be sent again" in resent.out
        done = shell.paste(f"{suggestion(resent, 'send')} --yes")
        assert to(server) == ["cy@example.org", "di@example.com"], done
        requeued = mailmerge("requeue", *LEDGER, "--rows", "3")
        done = shell.paste(f"{suggestion(requeued, 'send')} --yes")
        assert to(server) == ["cy@example.org", "di@example.com", "bo@example.net"], done


def test_nothing_is_sent_twice_after_a_name_of_its_own(mailmerge, shell):
    """What continues a campaign with ``--name`` has that name: under another one everybody is new."""
    mailmerge.campaign("spring")
    with FaultServer({"RCPT": {3: say("450 4.2.1 later")}}, extensions=()) as server:
        mailmerge.account(server)
        sent = mailmerge("send", "spring", "--yes", "--name", "two", *SOON)
        wait()
        done = shell.paste(f"{suggestion(sent, 'send')} --yes")
    assert (done.code, len(to(server)), {*to(server)}) == (0, 3, {*to(server)}), done


def test_without_a_campaign_file_everything_is_said_again(mailmerge, shell):
    """A campaign of options alone is continued by the same options."""
    (mailmerge.folder / "it's a list.csv").write_text(PEOPLE)
    (mailmerge.folder / "a text.txt").write_text("Dear {{ name }},\n")
    with FaultServer({"RCPT": {2: say("450 4.2.1 later")}}, extensions=()) as server:
        mailmerge.account(server)
        given = ["--list", "it's a list.csv", "--text", "a text.txt", "--subject", "$(touch PWNED) `x`"]
        given += ["--from", "me@example.org", "--account", "test", *SOON]
        sent = mailmerge("send", *given, "--yes")
        assert sent.code == 5, sent
        wait()
        done = shell.paste(f"{suggestion(sent, 'send')} --yes")
    assert (done.code, sorted(to(server))) == (
        0,
        sorted(line.split(",")[0] for line in PEOPLE.split()[1:]),
    ), done


def wait() -> None:
    """Let the pause of one second pass that a deferred row has."""
    time.sleep(1.3)


# --- which rows -------------------------------------------------------------------------------------------


def test_a_run_for_some_rows_is_continued_for_these(mailmerge, shell):
    """As long as one of them is left, no other row is written to; then all that are left are meant."""
    mailmerge.campaign("spring", people_csv=PEOPLE)
    with FaultServer({"RCPT": {2: say("450 4.2.1 later")}}, extensions=()) as server:
        mailmerge.account(server)
        sent = mailmerge("send", "spring", "--yes", "--rows", "2-3,4", *SOON)
        assert "   1 row left" in sent.out
        wait()
        done = shell.paste(f"{suggestion(sent, 'send')} --yes")
        assert to(server) == ["ana@example.com", "cy@example.org", "bo@example.net"], done
        assert "   1 row left" in done.out
        shell.paste(f"{suggestion(done, 'send')} --yes")
    assert to(server)[3:] == ["di@example.com"]


def test_a_stopped_run_keeps_the_rest_of_its_limit(mailmerge, shell):
    """Of ``--limit 3`` one row was handled before the quota was used up: two are left to do."""
    mailmerge.campaign("spring", people_csv=PEOPLE)
    with FaultServer({}, extensions=()) as server:
        mailmerge.account(server, quota="1/day")
        sent = mailmerge("send", "spring", "--yes", "--limit", "3")
        assert "   2 rows left" in sent.out, sent
        mailmerge.account(server)
        done = shell.paste(f"{suggestion(sent, 'send')} --yes")
    assert to(server) == ["ana@example.com", "bo@example.net", "cy@example.org"], done


def test_a_new_campaign_is_checked_where_it_was_made(mailmerge, shell):
    """The folder that init has made is named as it is."""
    made = mailmerge("init", "./-my; touch PWNED #")

    checked = shell.paste(suggestion(made, "check"))

    assert checked.code == 0, checked
    assert "rows can be sent" in checked.out


def test_a_missing_campaign_is_started_where_it_was_looked_for(mailmerge, shell):
    """The command in the hint makes that folder."""
    missing = mailmerge("check", "it's; touch PWNED")

    assert shell.paste(suggestion(missing, "init")).code == 0
    assert (mailmerge.folder / "it's; touch PWNED/campaign.toml").exists()


def test_nothing_to_show_leads_to_the_check(mailmerge, shell):
    """A preview without rows names the check with the same options, which tells why."""
    mailmerge.campaign("spring")
    for more in ((), ("--terminal",)):
        shown = mailmerge("preview", "spring", "--where", "name == 'x y'", *more)
        assert "3 not selected" in shell.paste(suggestion(shown, "check")).out
