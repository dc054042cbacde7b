"""`mailmerge` alone, on a real terminal: from a list to accepted letters, left and taken up again."""

from __future__ import annotations

import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from servers.command import INTERRUPT, Mailmerge, statuses, typed, unhurried

if TYPE_CHECKING:
    from servers.kept import KeepingSandbox

pytestmark = pytest.mark.skipif("sys.platform == 'win32'")

PEOPLE = "Email,First Name,Plan\nana@example.com,Ana,gold\nbo@example.net,Bo,silver\n"
_EDITOR = """\
import pathlib, sys
path = pathlib.Path(sys.argv[1])
path.write_text({texts!r}[0 if "Write your message here" in path.read_text() else 1])
"""
_GO = "[Enter/s/b/q]"


def editor(mailmerge: Mailmerge, *texts: str) -> None:
    """Return an editor that writes the first text, and then the second."""
    script = mailmerge.folder / "editor.py"
    script.write_text(_EDITOR.format(texts=texts), encoding="utf-8")
    mailmerge.environ["VISUAL"] = f"{sys.executable} '{script}'"


def test_the_whole_way_left_once(mailmerge: Mailmerge, sandbox: KeepingSandbox) -> None:
    """Each answer is in campaign.toml or the ledger, so that whoever comes back is where they were."""
    (mailmerge.folder / "my people.csv").write_text(PEOPLE, encoding="utf-8")
    mailmerge.account(sandbox, **{"from": "me@example.org"})
    editor(mailmerge, "Hi {{ First Name }}\n", "Hi {{ first_name }}\n")
    begin = [
        ("Your list", "nothing.csv"),
        ("Your list", f"'{mailmerge.folder}/my people.csv'"),
        ("Is this your list?", ""),
        ("A name for the folder", "spring"),
        ("Template", "plain"),
        ("Sender", "me@"),
        ("Sender", "Me <me@example.org>"),
        ("Subject", "Hello {{ first_name }}"),
        (_GO, "q"),
    ]

    left = typed(mailmerge, [], begin)

    assert left.code == 0, left
    assert "First Name  Ana" in left.out
    assert "D100" in left.err
    assert "C562" in left.err
    named = f"'{mailmerge.folder}/my people.csv'"
    assert f"$ mailmerge init spring --list {named} --template plain --from 'Me <me@example.org>'" in left.out
    assert "You can continue at any time: mailmerge" in left.out
    toml = tomllib.loads((mailmerge.folder / "spring/campaign.toml").read_text("utf-8"))
    assert (toml["account"], toml["data"]["source"]) == ("test", "../my people.csv")
    assert (toml["message"]["from"], toml["message"]["subject"]) == (
        "Me <me@example.org>",
        "Hello {{ first_name }}",
    )

    unhurried(mailmerge.folder / "spring/campaign.toml")
    rest = [
        ("Which campaign", ""),
        ("opens it in your editor", ""),
        ("Save body.txt", ""),  # it has a mistake
        ("opens the text again", ""),
        ("opens it in your editor", ""),
        ("Save body.txt", ""),
        ("Enter shows them", ""),
        ("Ctrl-C ends it", INTERRUPT),  # and its line end says that they are right
        ("Send the first message to", ""),
        ("Look at it in your mailbox", ""),
        ("Enter sends the first message", ""),
        ("Type the number of messages to send", "1"),
        ("Enter sends the rest", "q"),
    ]
    done = typed(mailmerge, [], rest)

    assert done.code == 0, done
    assert "write {{ first_name }}" in done.err
    assert [message.rcpt_to for message in sandbox.messages] == [("me@example.org",), ("ana@example.com",)]
    for command in ("check spring -q", "preview spring --watch", "test spring --to me@example.org"):
        assert f"$ mailmerge {command}" in done.out

    last = typed(
        mailmerge,
        [],
        [("Which campaign", ""), ("Enter sends the rest", ""), ("Type the number of messages to send", "1")],
    )

    assert last.code == 0, last
    assert "$ mailmerge send spring" in last.out
    assert "spring: 2 rows" in last.out
    assert statuses(mailmerge.folder / "spring") == ["accepted", "accepted"]


def test_what_is_typed_is_looked_at_before_the_next_question(mailmerge: Mailmerge) -> None:
    """Each answer is looked at before the next question, and q leaves, whatever was asked."""
    (mailmerge.folder / "rooms.csv").write_text("Room,Size\n1,2\n", encoding="utf-8")
    (mailmerge.folder / "people.csv").write_text(PEOPLE, encoding="utf-8")
    lists = [("Your list", "rooms.csv"), ("Is this your list?", ""), ("Your list", "people.csv")]
    lists += [
        ("Is this your list?", "header x"),
        ("Is this your list?", "header 0"),
        ("Is this your list", ""),
    ]
    begin = [*lists, ("A name for the folder of this campaign [b/q]", "spring"), ("Template [b/q]", "plane")]
    back = [("Template", "b"), ("A name for the folder", "spring"), ("Template", "Plain")]
    subject = [("Sender [b/q]", "me@example.org"), ("Subject (Enter: you write it later) [b/q]", "b")]
    left = typed(mailmerge, [], [*begin, *back, *subject, ("Sender", "q")])
    assert left.code == 0, left
    assert left.err.count("C451") == 1
    assert left.err.count("Write one of them and its value") == 2
    assert '"plane" is not one of them: letter, newsletter' in left.err
    assert "You can continue at any time" in left.out
    assert not (mailmerge.folder / "spring").exists()


@pytest.mark.parametrize("key", ["\x04", INTERRUPT, "q"])
def test_it_can_be_left_at_the_first_question(mailmerge: Mailmerge, key: str) -> None:
    """Ctrl-D, Ctrl-C and q: nothing was made, and how to continue is explained."""
    left = typed(mailmerge, [], [("Your list", key)])
    assert left.code == 0, left
    assert "You can continue at any time" in left.out
    assert not list(mailmerge.folder.glob("*/campaign.toml"))


def test_without_a_terminal_it_is_the_help(mailmerge: Mailmerge) -> None:
    """A program that calls it so is not asked anything."""
    helped = mailmerge()
    assert helped.code == 2, helped
    assert "Recommended order" in helped.err
