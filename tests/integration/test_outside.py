"""What a campaign's folder reads from outside of it is said, or refused where a link hides it."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from typing import TYPE_CHECKING

import pytest

from faultd import FaultServer
from mailmerge import Account
from mailmerge.campaign import Campaign
from mailmerge.errors import CampaignFileError, InputError, LedgerError, TemplateError
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes links and pipes")

FILES = {
    "campaign.toml": """
[data]
source = "people.csv"
suppress = "never.txt"
[message]
from = "me@example.org"
to = "{{ email }}"
subject = "Hi"
text = "body.txt"
""",
    "people.csv": "email,boss\nana@example.org,bo@example.org\n",
    "never.txt": "away@example.org\n",
    "body.txt": "Hi\n",
    ".env": "SMTP_SERVER=smtp.example.org\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a campaign that is in order, and the same files outside of it."""
    for place in ("spring", "elsewhere"):
        (tmp_path / place).mkdir()
        for name, text in FILES.items():
            (tmp_path / place / name).write_text(text)
    return tmp_path / "spring"


def load(folder: Path, **environ: str) -> Campaign:
    """Load it, as this machine's user would."""
    return Campaign.load(folder, environ={"MAILMERGE_STATE_DIR": str(folder.parent / "state"), **environ})


@pytest.mark.parametrize("name", FILES)
def test_e7_a_link_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    """Whichever file it is; a link to another file of the folder is nothing bad, nor is a linked folder."""
    (folder / name).replace(folder / "other")
    (folder / name).symlink_to("other")
    (folder.parent / "linked").symlink_to(folder)
    assert load(folder.parent / "linked").check().notices == ()
    (folder / name).unlink()
    (folder / name).symlink_to(folder.parent / "elsewhere" / name)

    with pytest.raises(CampaignFileError, match="a link that leads out") as caught:
        load(folder).check()
    assert caught.value.code == "C422"


def test_e7_what_is_named_outside_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Template, list, opt-outs and folder of attachments, each from the user's home folder."""
    monkeypatch.setenv("HOME", str(folder.parent))
    file = folder / "campaign.toml"
    text = file.read_text()
    for name in ("people.csv", "never.txt"):
        text = text.replace(f'"{name}"', f'"../elsewhere/{name}"')
    text = text.replace('"body.txt"', f'"{folder.parent}/elsewhere/body.txt"')
    file.write_text(f'{text}[[attach]]\npath = "body.txt"\nbase = "../elsewhere"\n')

    assert load(folder).check().notices == (
        "reads from outside the folder: ~/elsewhere/body.txt (the template)",
        "reads from outside the folder: ~/elsewhere/people.csv (the list)",
        "reads from outside the folder: ~/elsewhere/never.txt (the list of opt-outs)",
        "reads from outside the folder: ~/elsewhere (the folder of attachments)",
    )


@pytest.fixture
def bounded() -> Iterator[None]:
    """End a test that waits for a pipe, or reads without end, after 20 seconds."""

    def ring(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["pipe", "zeros", "made up", "folder"])
@pytest.mark.parametrize("name", ["people.csv", "never.txt", "body.txt", "campaign.toml"])
@pytest.mark.usefixtures("bounded")
def test_e7_only_plain_files_are_read(folder: Path, name: str, kind: str) -> None:
    """A pipe, an endless device or what the kernel makes up is refused immediately."""
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        target = {"zeros": "/dev/zero", "made up": "/proc/self/environ"}[kind]
        (folder / name).symlink_to(target)
    with pytest.raises(InputError):
        load(folder).check()


@pytest.mark.parametrize("target", ["/proc/self/environ", "/dev/zero", "/dev/stdin"])
@pytest.mark.usefixtures("bounded")
def test_a_body_that_is_named_outside_is_a_plain_file(folder: Path, target: str) -> None:
    """Also where the campaign file names it itself, without any link."""
    file = folder / "campaign.toml"
    file.write_text(file.read_text().replace('"body.txt"', f'"{target}"'))
    with pytest.raises(TemplateError, match="cannot read the template"):
        load(folder).check()


@pytest.mark.usefixtures("bounded")
def test_a_campaign_file_that_is_a_pipe_is_told(folder: Path) -> None:
    """It was said to be missing, with itself as the suggestion."""
    (folder / "campaign.toml").unlink()
    os.mkfifo(folder / "campaign.toml")
    with pytest.raises(CampaignFileError, match="it is not a plain file"):
        load(folder)


def test_e8_dotenv_only_says_how_to_sign_in(folder: Path) -> None:
    """Options and `SMTP_TO` count from the real environment; in `.env` they are named and do nothing."""
    options = "MAILMERGE_STATE_DIR=/tmp/x\nMAILMERGE_MESSAGE_SUBJECT=Pay\n"
    (folder / ".env").write_text(f"SMTP_TO=eve@example.org\n{options}SMTP_AUTH=x\n")
    (folder / ".env").chmod(0o600)
    plan = load(folder).check()
    [notice] = plan.notices
    assert notice.startswith("not used: MAILMERGE_MESSAGE_SUBJECT, MAILMERGE_STATE_DIR, SMTP_TO in ")
    assert [m.content.count(b"Subject: Hi\r\n") for m in plan.messages()] == [1]
    with pytest.raises(CampaignFileError, match="no address to send the test to"):
        load(folder, SMTP_SERVER="127.0.0.1", SMTP_FROM="me@example.org").test()

    assert load(folder, MAILMERGE_MESSAGE_SUBJECT="Real").check().ready == 1


def test_e8_a_ledger_that_came_with_the_folder_is_said(folder: Path) -> None:
    """It says who was written to, and this machine has no part in that; one of its own is not mentioned."""
    (folder / ".env").unlink()
    with FaultServer({}) as server:
        account = Account(host="127.0.0.1", port=server.port, tls="none", auth="none", any_from=True)
        environ = {"MAILMERGE_STATE_DIR": str(folder.parent / "state")}
        campaign = Campaign.load(folder, environ=environ, account=account)
        report = campaign.send()
    assert report is not None
    assert report.counts[Status.ACCEPTED] == 1
    assert load(folder).check().notices == ()
    (folder.parent / "state").rename(folder.parent / "of another machine")
    assert load(folder).check().notices == (
        "this folder brought a ledger of 1 accepted row, which this machine does not know",
    )


@pytest.mark.parametrize(
    "foreign",
    [
        "CREATE TRIGGER t AFTER INSERT ON delivery BEGIN DELETE FROM delivery; END",
        "CREATE VIEW v AS SELECT 1",
    ],
)
def test_e8_a_ledger_with_a_foreign_schema_is_refused(folder: Path, foreign: str) -> None:
    """A trigger in a ledger that came with a folder would change what we record."""
    path = folder / ".mailmerge" / "ledger.db"
    path.parent.mkdir(mode=0o700)
    Ledger.open(path, "spring").close()
    with sqlite3.connect(path) as database:
        database.execute(foreign)
    database.close()
    for opened in (Ledger.open, Ledger.open_read_only):
        with pytest.raises(LedgerError, match="triggers, views or modules"):
            opened(path, "spring")


def test_e8_who_else_gets_mail_is_always_said(folder: Path) -> None:
    """Copies, blind copies, where answers go and who is named as sender."""
    with (folder / "campaign.toml").open("a") as file:
        file.write('bcc = "eve@example.org"\ncc = "{{ boss }}"\n')
        file.write('reply_to = "eve@example.com"\nsender = "she@example.org"\n')

    assert load(folder).check().notices == (
        "Cc: {{ boss }}",
        "Bcc: eve@example.org",
        "Reply-To: eve@example.com",
        "Copies go to bo@example.org, eve@example.org",
        "Sender: she@example.org",
    )
