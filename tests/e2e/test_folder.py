"""E3, E5, E6, E9: a folder that comes from anybody, through the command line."""

from __future__ import annotations

import json
import os
import sys

import pytest

from servers.command import Mailmerge, typed

posix_only = pytest.mark.skipif("sys.platform == 'win32'")
SECRET = "CorrectHorseBattery"
BROWSER = """
import http.cookiejar, json, os, re, signal, stat, sys, urllib.parse, urllib.request
signal.signal(signal.SIGINT, signal.SIG_IGN)
path = urllib.parse.unquote(sys.argv[1].removeprefix("file://"))
address = re.search("url=([^\\"]+)", open(path).read())[1]
opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
page = opener.open(address)
seen = {
    "argument": sys.argv[1], "mode": stat.S_IMODE(os.stat(path).st_mode),
    "secret": os.environ.get("SMTP_AUTH"), "url": page.url, "page": b"spring" in page.read(),
}
json.dump(seen, open("seen.json", "w"))
print("the browser is done", file=sys.stderr)
"""


@posix_only
def test_e9_a_watched_preview_is_opened_without_its_address(mailmerge: Mailmerge) -> None:
    """The browser is started with a private file; that leads to the page once; it sees no password."""
    mailmerge.campaign()
    script = mailmerge.folder / "browser.py"
    script.write_text(BROWSER)
    mailmerge.environ |= {"BROWSER": f"{sys.executable} {script} %s", "DISPLAY": ":9", "SMTP_AUTH": SECRET}
    mailmerge.environ.pop("CI", None)

    done = typed(mailmerge, ["preview", "spring", "--watch"], [("the browser is done", "\x03")])

    seen = json.loads((mailmerge.folder / "seen.json").read_text())
    assert (seen["mode"], seen["secret"], seen["page"]) == (0o600, None, True), done
    assert seen["argument"].startswith("file:///")
    assert seen["url"].count("/") == 3


@posix_only
def test_e3_e5_e6_a_hostile_folder(mailmerge: Mailmerge, sandbox) -> None:
    """Cells that name secrets, lists and other people's files make rows invalid; a secret stops the run."""
    folder = mailmerge.campaign(
        campaign_toml="""account = "test"
[data]
source = "people.csv"
[message]
from = "me@example.org"
to = "{{ email }}"
bcc = "eve@example.com"
subject = "Your invoice"
text = "body.txt"
[[attach]]
path = "files/{{ file }}"
""",
        body_txt="Hi\n",
        people_csv="email,file\na@example.com,../.env\nb@example.com,own.pdf\nc@example.com,own.pdf\n"
        "d@example.com,hard.pdf\ne@example.com,copy.txt\n",
    )
    (folder / "files").mkdir()
    (folder / ".env").write_text(f"SMTP_AUTH={SECRET}\nSMTP_TO=eve@example.com\n")
    (folder / ".env").chmod(0o600)
    os.link(folder / ".env", folder / "files/hard.pdf")
    (folder / "files/own.pdf").write_text("an invoice")
    (folder / "files/copy.txt").write_text(f"note: {SECRET}\n")
    mailmerge.account(sandbox)

    checked = mailmerge("check", "spring")
    assert checked.code == 3, checked
    for expected in (
        '"files/../.env" is a hidden file: it is never sent',
        '"own.pdf" is also the file of row 4 (c@example.com)',
        '"files/hard.pdf" is a file of settings or secrets: it is never sent',
        "1 of 5 rows can be sent (4 invalid)",
        "Bcc: eve@example.com",
        "not used: SMTP_TO in spring/.env",
        "Files: 1 per message (1)",
    ):
        assert expected in checked.out, checked.out
    sent = mailmerge("send", "spring", "--yes", "--skip-invalid")
    assert sent.code == 6, sent
    assert 'row 6: the file "copy.txt" contains a password or token that is in use' in sent.err
    assert (sandbox.messages, SECRET in sent.err + sent.out) == ([], False)


def test_e6_a_password_that_is_found_late(mailmerge: Mailmerge, sandbox) -> None:
    """The first message is made before a command is asked for the password, and is searched all the same."""
    mailmerge.campaign(body_txt=f"Dear {{{{ name }}}},\nkeep {sandbox.password} to yourself\n")
    program = [sys.executable, "-I", "-S", "-c", f"print({sandbox.password!r})"]
    mailmerge.account(sandbox, password_command=program)
    mailmerge.environ.pop("MAILMERGE_SMTP_PASSWORD", None)

    sent = mailmerge("send", "spring", "--yes", "--account", "test")

    assert sent.code == 6, sent
    assert "row 2: the text of the message contains a password or token" in sent.err
    assert sandbox.messages == []
    assert mailmerge("status", "spring").out.count("accepted") == 0
