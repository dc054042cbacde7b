"""What other mail merge programs made, from the command line to what a server received."""

from __future__ import annotations

from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

from servers.kept import KeepingSandbox

if TYPE_CHECKING:
    from email.message import EmailMessage

    from servers.command import Mailmerge

TEMPLATE = """TO: {{name}} <{{email}}>
SUBJECT: Report for {{name}}
FROM: My Self <me@example.org>
BCC: archive@example.org
ATTACHMENT: {{number}}.txt
Content-Type: text/markdown

Hi, **{{name}}**,
your number is {{number}}.
{% if number == "42" -%}

Well done!
{% endif -%}
"""


def _read(content: bytes) -> dict[str, Any]:
    message: EmailMessage = message_from_bytes(content, policy=policy.default)
    found: dict[str, Any] = {name: str(message[name]) for name in ("To", "From", "Subject", "Bcc")}
    for part in message.walk():
        if not part.is_multipart():
            found[part.get_filename() or part.get_content_type()] = part.get_content()
    return found


def test_an_unchanged_folder_is_shown_and_sent(mailmerge: Mailmerge) -> None:
    """The bare command shows one message, --no-dry-run sends all; converted, the same are rehearsed."""
    folder = mailmerge.folder / "old"
    folder.mkdir()
    (folder / "mailmerge_template.txt").write_text(TEMPLATE)
    (folder / "mailmerge_database.csv").write_text(
        'email,name,number\nana@example.com,"Ana",17\nbo@example.net,"Bo",42\n'
    )
    for number in (17, 42):
        (folder / f"{number}.txt").write_text(f"file {number}\n")

    with KeepingSandbox(tls="none", user=None) as server:
        conf = f"[smtp_server]\nhost = 127.0.0.1\nport = {server.port}\nratelimit = 6000\n"
        (folder / "mailmerge_server.conf").write_text(conf)
        shown = mailmerge(cwd=folder)
        assert "Subject: Report for Ana" in shown.out, shown
        assert "Report for Bo" not in shown.out
        assert "This is now: mailmerge preview --terminal" in shown.err
        refused = mailmerge("old", "--no-dry-run")
        assert refused.code == 2
        assert "error[C480]" in refused.err
        assert not server.messages

        sent = mailmerge("old", "--no-dry-run", "--no-limit", "--yes")
        assert sent.code == 0, sent
        assert "This is now: mailmerge send old --yes" in sent.err
        received = [_read(message.content) for message in server.messages]
        assert [message.rcpt_to for message in server.messages] == [
            ("ana@example.com", "archive@example.org"),
            ("bo@example.net", "archive@example.org"),
        ]
    assert received[1]["To"] == "Bo <bo@example.net>"
    assert received[1]["Bcc"] == "None"
    assert received[1]["42.txt"] == "file 42\n"
    assert "Hi, <strong>Bo</strong>,<br>" in received[1]["text/html"].replace("<br />", "<br>")
    assert "Well done!" in received[1]["text/plain"]
    assert "Well done!" not in received[0]["text/plain"]

    made = mailmerge("convert", "old", "--out", "new")
    assert made.code == 0, made
    assert mailmerge("convert", "old", "--out", "new").code == 2
    rehearsed = mailmerge("rehearse", "new")
    assert rehearsed.code == 0, rehearsed
    files = sorted((mailmerge.folder / "new/out/rehearsal/messages").iterdir())
    assert [_read(file.read_bytes()) for file in files] == received


def test_the_server_of_a_folder_is_signed_in_to(mailmerge: Mailmerge) -> None:
    """With STARTTLS, its own user, and only a secret whose source names the very same server."""
    folder = mailmerge.folder / "old"
    folder.mkdir()
    (folder / "report.txt").write_text("TO: {{Email}}\nSUBJECT: Hi\nFROM: Me <me@example.org>\n\nHi\n")
    (folder / "people.csv").write_text("Email\nana@example.com\n")
    with KeepingSandbox() as server:
        conf = f"[smtp_server]\nhost = localhost\nport = {server.port}\n"
        (folder / "server.conf").write_text(f"{conf}security = STARTTLS\nusername = sandbox\n")
        command = (
            "--no-dry-run",
            "--template",
            "report.txt",
            "--database",
            "people.csv",
            "--config",
            "server.conf",
        )
        more = ("--yes", "--ca-file", server.ca_file)
        refused = mailmerge(*command, *more, cwd=folder, SMTP_AUTH=server.password)
        assert refused.code == 6, refused
        assert "SMTP_AUTH in the environment is not used" in refused.err
        assert not server.messages
        sent = mailmerge(*command, *more, cwd=folder, SMTP_AUTH=server.password, SMTP_SERVER="localhost")
        assert sent.code == 0, sent
        assert "mailmerge send report.txt --list people.csv --server-conf server.conf --limit 1" in sent.err
        assert [message.rcpt_to for message in server.messages] == [("ana@example.com",)]
