"""Unsubscribing: headers and links in received messages, tokens that say who clicked, the key they need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from email import message_from_bytes, policy
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from campaigns import campaign_toml
from mailmerge import verify_unsubscribe
from mailmerge.unsubscribe import STAND_IN
from servers.command import one_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.command import Mailmerge
    from servers.kept import KeepingSandbox

PAGE = """series = "club"
unsubscribe = ["https://example.org/u/{{ token }}", "mailto:leave@example.org?subject={{ token }}"]"""
TEXT = "Dear {{ name }},\n\nLeave: {{ unsubscribe_url }}\n"
CHINESE = "<p>" + "你好，这是一封信。" * 40 + '{{ name }} <a href="{{ unsubscribe_url }}">退订</a></p>\n'
TOKEN = re.compile(r"example\.org/u/([\w-]{72})")


@pytest.fixture
def newsletter(mailmerge: Mailmerge, relay: KeepingSandbox) -> Path:
    """A campaign with links in text and HTML: the one in Chinese goes out in base64."""
    mailmerge.account(relay)
    toml = campaign_toml(top='account = "test"', message=PAGE, bodies="text html")
    return mailmerge.campaign(campaign_toml=toml, body_txt=TEXT, body_html=CHINESE)


def parts(content: bytes) -> dict[str, str]:
    """Return the header fields and the texts of a received message, decoded."""
    message = message_from_bytes(content, policy=policy.default)
    found = {name: " ".join(str(value).split()) for name, value in message.items()}
    texts = (part for part in message.walk() if part.get_content_maintype() == "text")
    return found | {part.get_content_type(): part.get_content() for part in texts}


def keys(mailmerge: Mailmerge) -> Path:
    """Return the folder of the user's keys."""
    return mailmerge.config.parent / "unsubscribe"


def test_each_recipient_gets_a_link_of_its_own_in_headers_text_and_html(mailmerge, relay, newsletter):
    """The same token in all four places says who it is for, to whoever has the key."""
    done = mailmerge("send", "spring", "--yes")

    assert done.code == 0, done
    assert len(relay.messages) == 3
    assert b"base64" in relay.messages[0].content
    for received in relay.messages:
        seen = parts(received.content)
        [token] = set(TOKEN.findall(seen["List-Unsubscribe"] + seen["text/plain"] + seen["text/html"]))
        assert seen["List-Unsubscribe"] == (
            f"<https://example.org/u/{token}>, <mailto:leave@example.org?subject={token}>"
        )
        assert seen["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert len(TOKEN.findall(seen["text/plain"])) == len(TOKEN.findall(seen["text/html"])) == 1
        who = verify_unsubscribe(token, keys(mailmerge))
        assert (who.series, who.is_for(received.rcpt_to[0].upper()), who.nobody) == ("club", True, False)


def test_what_is_only_looked_at_unsubscribes_nobody(mailmerge, relay, newsletter):
    """Previews, tests and rehearsals have the stand-in; drafts that a person sends have a token."""
    shown = mailmerge("preview", "spring", "--eml", "shown", "--mbox", "all.mbox")
    drafts = mailmerge("preview", "spring", "--eml", "drafts", "--unsent")
    tested = mailmerge("test", "spring", "--to", "me@example.org")
    rehearsed = mailmerge("rehearse", "spring")

    assert [done.code for done in (shown, drafts, tested, rehearsed)] == [0] * 4, (
        shown,
        drafts,
        tested,
        rehearsed,
    )
    only_looked_at = [
        *(path.read_bytes() for path in (mailmerge.folder / "shown").glob("*.eml")),
        *(path.read_bytes() for path in (newsletter / "out" / "rehearsal" / "messages").glob("*.eml")),
        relay.messages[0].content,
    ]
    assert len(only_looked_at) == 7
    for content in only_looked_at:
        assert set(TOKEN.findall(parts(content)["text/html"])) == {STAND_IN}
    assert STAND_IN in parts(relay.messages[0].content)["List-Unsubscribe"]
    leaving = [parts(path.read_bytes()) for path in (mailmerge.folder / "drafts").glob("*.eml")]
    tokens = {TOKEN.findall(seen["text/html"])[0] for seen in leaving}
    assert len(tokens) == 3
    assert not any(verify_unsubscribe(token, keys(mailmerge)).nobody for token in tokens)
    assert verify_unsubscribe(STAND_IN, keys(mailmerge)).nobody


def test_the_key_outlives_the_campaign_and_a_lost_one_is_told(mailmerge, relay, newsletter):
    """It is private, purge leaves it alone, and no other is made in its place."""
    assert mailmerge("send", "spring", "--yes").code == 0
    assert mailmerge("purge", "spring", "--yes").code == 0
    [key] = keys(mailmerge).glob("*.json")
    kept = key.read_bytes()

    assert key.stat().st_mode & 0o777 == 0o600
    key.unlink()
    one_error(mailmerge("check", "spring", "--name", "summer"), "C512", str(key), 'series = "NEW NAME"')
    key.write_bytes(kept)
    one_error(mailmerge("check", "spring", "--name", "summer"), "C513", f"chmod 600 {key}")
    key.chmod(0o600)
    assert mailmerge("check", "spring", "--name", "summer").code == 0
    made = json.loads(kept)
    key.write_text(json.dumps({**made, "secret": "00" * (len(made["secret"]) // 2)}))
    one_error(mailmerge("check", "spring", "--name", "summer"), "C512", "another unsubscribe key", made["id"])
    key.write_bytes(kept)
    other = mailmerge("check", "spring", "--name", "summer", "--set", "message.series=other")
    assert other.code == 0, other
    assert len(list(keys(mailmerge).glob("*.json"))) == 2
    [another] = {*keys(mailmerge).glob("*.json")} - {key}
    assert f"whatever answers them needs a copy of {another}" in other.out


SERVER = Path(__file__).parents[2] / "samples" / "unsubscribe_server.py"
ONE_CLICK = "List-Unsubscribe=One-Click"
FORM = (
    '--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n',
    {"Content-Type": "multipart/form-data; boundary=x"},
)


@pytest.fixture
def ask(mailmerge: Mailmerge, tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """Start the sample server with the user's keys; ``ask("POST", path, body)`` gives status and page."""
    servers: dict[int, subprocess.Popen[str]] = {}

    def start() -> None:
        given = [text for key in keys(mailmerge).glob("*.json") for text in ("--key", key)]
        command = [sys.executable, SERVER, *given, "--file", tmp_path / "gone.txt", "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert server.stdout is not None
        servers[int(server.stdout.readline().split(":")[2].partition("/")[0])] = server

    def asked(
        method: str, path: str, body: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        if not servers:
            start()
        [port] = servers
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(
            method, path, body or None, headers or ({"Content-Type": FORM_TYPE} if body else {})
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    yield asked
    for server in servers.values():
        server.kill()
        server.communicate()


FORM_TYPE = "application/x-www-form-urlencoded"


def test_one_click_keeps_somebody_from_the_next_campaign(mailmerge, relay, newsletter, ask, tmp_path):
    """From a received message through real HTTP to a suppressed row; only a POST that says so counts.

    Who was taken out of the file can unsubscribe again, and an open last line swallows nobody.
    """
    assert mailmerge("send", "spring", "--yes").code == 0
    paths = {}
    for received in relay.messages:
        [token] = set(TOKEN.findall(parts(received.content)["List-Unsubscribe"]))
        paths[received.rcpt_to[0]] = f"/u/{token}"
    ana, bo = paths["ana@example.com"], paths["bo@example.net"]
    changed = f"/u/{'A' if ana[3] != 'A' else 'B'}{ana[4:]}"

    assert ask("GET", ana) == (200, ask("GET", bo)[1])
    assert ask("HEAD", ana) == (200, "")
    refused = [
        ask("POST", ana),
        ask("POST", ana, "List-Unsubscribe=No"),
        ask("POST", ana, ONE_CLICK + "&x=" + "y" * 5000),
        ask("POST", changed, ONE_CLICK),
        ask("POST", f"/u/{STAND_IN}", ONE_CLICK),
        ask("POST", "/u/<script>", ONE_CLICK),
        ask("GET", "/u/" + "A" * 72),
    ]
    assert [status for status, _ in refused] == [400, 400, 413, 404, 200, 404, 404]
    assert not any("script" in page or ana[3:] in page for _, page in refused)
    assert (tmp_path / "gone.txt").read_text() == ""  # it is there from the first day, as campaigns name it

    assert [ask("POST", ana, ONE_CLICK)[0], ask("POST", bo, *FORM)[0], ask("POST", ana, ONE_CLICK)[0]] == [
        200
    ] * 3

    assert len((tmp_path / "gone.txt").read_text().splitlines()) == 2
    (tmp_path / "gone.txt").write_text("# these people asked us by telephone")
    assert [ask("POST", ana, ONE_CLICK)[0], ask("POST", bo, ONE_CLICK)[0]] == [200] * 2
    later = mailmerge(
        "send",
        "spring",
        "--name",
        "summer",
        "--suppress",
        tmp_path / "gone.txt",
        "--subject",
        "More",
        "--yes",
    )
    assert later.code == 0, later
    assert [received.rcpt_to for received in relay.messages[3:]] == [("cy@example.org",)]
