"""Every shell block of the README and of the documents is run as it is printed, or says why it is not."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from servers.command import Done, Mailmerge, statuses, typed, unhurried
from servers.kept import KeepingSandbox
from servers.programs import unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PEOPLE = "email,First Name\nana@example.com,Ana\nbo@example.net,Bo\ncy@example.org,Cy\n"
FIVE_MINUTES = ("mailmerge login me@example.org ", "mailmerge login 10001@qq.com ")
NOT_RUN = {
    "make demo": "installs from the network: test_project.py looks at what it says and runs",
    "mailmerge bounces spring --imap": "needs a mailbox: test_bounces.py runs it with Dovecot",
    "pip install": "installs from the network",
    "mailmerge check CAMPAIGN --dns": "asks the DNS: tests/unit/test_check_online.py has answers for it",
    "mailmerge login me@gmail.com": "needs the provider: test_sign_in.py and test_oauth.py have servers",
}
"""Blocks by their beginning; of pip it is only its line."""
_GUIDES = ("tutorials", "how-to", "explanation")
"""Their pages show what their blocks show: test_guides.py runs them."""
_TYPED_IN = "zh"
"""A guide whose ``console`` blocks, which need somebody who types a secret, are run here."""
_OFFICE = "--ledger office"
"""Blocks with a ledger in PostgreSQL: test_shared_ledger.py and test_fleet.py run their commands."""
_BLOCK = re.compile(r"^ *```(sh|bash|shell|console)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)

pytestmark = pytest.mark.skipif("sys.platform == 'win32'")


class Writer(NamedTuple):
    """Whom a document is about: account, list and its first columns, campaign, and what is typed."""

    account: str
    address: str
    list: str
    campaign: str
    headings: str
    subject: str
    body: str


ENGLISH = Writer(
    "gmail",
    "me@example.org",
    "contacts.xlsx",
    "spring",
    "email,First Name",
    "Hello {{ first_name }}",
    "Dear {{ first_name }}, hello.\n",
)
CHINESE = Writer(
    "qq",
    "10001@qq.com",
    "成绩单.xlsx",
    "期中成绩",
    "邮箱,姓名",
    "{{ 姓名 }}的成绩",
    "{{ 姓名 }}同学：你好！\n",
)


class Block(NamedTuple):
    """One block: where it is, and the lines that are to be typed."""

    place: str
    lines: tuple[str, ...]

    @property
    def writer(self) -> Writer:
        """Who is meant."""
        return CHINESE if "zh" in self.place else ENGLISH


def blocks() -> Iterator[Block]:
    """Yield the shell blocks of all documents that users read; of a console what is after ``$``."""
    documents = (path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name not in _GUIDES)
    for path in (*sorted(ROOT.glob("README*.md")), *documents):
        text = path.read_text("utf-8")
        for found in re.finditer(
            r"^ *```(sh|bash|shell|console)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE
        ):
            if path.parent.name == _TYPED_IN and found[1] != "console":
                continue
            body = textwrap.dedent(found[2]).replace("\\\n", "")
            lines = [line for line in body.splitlines() if line.strip()]
            if found[1] == "console":
                lines = [line[2:] for line in lines if line.startswith("$ ")]
            yield Block(f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}", tuple(lines))


BLOCKS = list(blocks())


def runs() -> Iterator[Block]:
    """Yield what is run in one folder: a block of the README, or all blocks of another document in order."""
    documents: dict[str, list[str]] = {}
    for block in BLOCKS:
        lines = tuple(line for line in block.lines if not line.startswith("pip install"))
        if block.lines[0].startswith(tuple(NOT_RUN)) and len(lines) == len(block.lines):
            continue
        if any(_OFFICE in line for line in lines):
            continue
        if block.place.startswith("README"):
            yield Block(block.place, lines)
        else:
            documents.setdefault(block.place.partition(":")[0], []).extend(lines)
    yield from (Block(place, tuple(lines)) for place, lines in documents.items())


def test_what_is_not_run_is_there() -> None:
    """No reason outlives its block."""
    begun = {start for start in NOT_RUN for block in BLOCKS if block.lines[0].startswith(start)}
    assert begun == set(NOT_RUN)


@pytest.fixture
def sandbox(block: Block) -> Iterator[KeepingSandbox]:
    """A server where the one of whom the documents tell signs in."""
    with KeepingSandbox(user=block.writer.address) as server:
        yield server


def _account(mailmerge: Mailmerge, sandbox: KeepingSandbox, writer: Writer) -> None:
    provider = {"provider": writer.account} if writer is CHINESE else {}
    mailmerge.account(sandbox, writer.account, **{"from": writer.address, **provider})


@pytest.mark.parametrize("block", list(runs()), ids=lambda block: block.place)
def test_a_block_runs_as_it_is_printed(mailmerge: Mailmerge, sandbox: KeepingSandbox, block: Block) -> None:
    """Line by line; the five minutes, from login on, end with three accepted rows."""
    folder = mailmerge.folder
    (folder / "people.csv").write_text(PEOPLE.replace("First Name", "name"), encoding="utf-8")
    writer = block.writer
    (folder / writer.list).write_bytes(_workbook(folder, writer))
    (folder / "unsubscribed.txt").write_text("bo@example.net\n", encoding="utf-8")
    (folder / "body.txt").write_text("Hi {{ name }}\n", encoding="utf-8")
    (folder / "body.html").write_text("<p>Hi {{ name }}</p>\n", encoding="utf-8")
    five_minutes = block.lines[0].startswith(FIVE_MINUTES)
    if not five_minutes or writer is CHINESE:  # whose provider is known: it cannot be this server
        _account(mailmerge, sandbox, writer)
        if any(" spring" in line for line in block.lines):
            assert mailmerge("init", "spring", "--list", "people.csv", "--from", "me@example.org").code == 0
    mailmerge.environ |= {"SSL_CERT_FILE": str(sandbox.ca_file), "EDITOR": _editor(folder, writer.body)}
    for line in block.lines:
        done = _typed(mailmerge, sandbox, line, writer)
        assert done.code in ({0, 3, 4, 5, 6} if " rehearse " in line else {0}), (line, done)
        unhurried(folder / writer.campaign / "campaign.toml")
    if five_minutes:
        assert statuses(folder / writer.campaign) == ["accepted"] * 3
        assert len(sandbox.messages) == 5  # two tests


def _typed(mailmerge: Mailmerge, sandbox: KeepingSandbox, line: str, writer: Writer) -> Done:
    words = shlex.split(line, comments=True)
    if words[0] != "mailmerge":
        done = subprocess.run(
            line, shell=True, cwd=mailmerge.folder, env=unmeasured(mailmerge.environ), check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert not re.search("error|not find|no such", done.stderr, re.IGNORECASE), (line, done.stderr)
        return Done(done.returncode, done.stdout, done.stderr)
    server = [("Server for outgoing mail", "127.0.0.1"), ("Port", str(sandbox.port))]
    known = [] if writer is ENGLISH else [("Authorization code (授权码) for 10001@qq.com", sandbox.password)]
    answers = {
        "login": [*(known or [*server, ("Password for", sandbox.password)]), ("Store it in a file", "")],
        "init": [("Template", ""), ("Sender", f"Me <{writer.address}>"), ("Subject", writer.subject)],
        "send": [("Type the number of messages", "1" if "--limit" in words else _left(mailmerge, writer))],
    }
    asked = answers.get(words[1])
    return mailmerge(*words[1:]) if asked is None else typed(mailmerge, words[1:], asked)


def _left(mailmerge: Mailmerge, writer: Writer) -> str:
    """Return how many messages are to be sent: the five minutes have sent one before."""
    return "2" if (mailmerge.folder / writer.campaign).exists() else "3"


def _editor(folder: Path, body: str) -> str:
    script = folder / "editor.py"
    script.write_text(
        f"import pathlib, sys\npathlib.Path(sys.argv[1]).write_text({body!r}, encoding='utf-8')\n",
        encoding="utf-8",
    )
    return f"{sys.executable} {script}"


def _workbook(folder: Path, writer: Writer) -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book["Sheet"]
    for line in PEOPLE.replace("email,First Name", writer.headings).splitlines():
        sheet.append(line.split(","))
    book.save(folder / "made.xlsx")
    return (folder / "made.xlsx").read_bytes()
