"""Runs a session without sockets: move by move, or from a written dialogue.

A dialogue file begins with settings (``pipeline: window``; the server accepts commands behind a message
unless ``borne: unknown`` or ``borne: no``), then has one line per move:

- ``S: text``: the server sends it; ``C: text``: the session sends exactly this next, and nothing more;
  ``C# 90000``: it sends that many octets;
- ``! submit 1 a@x.example b@x.example``, ``! submit 1 large``, ``! release 1``, ``! secured``, ``! noop``,
  ``! quit``, ``! break`` (writing fails), ``! lost``: we do this;
- ``= needs 1``, ``= 1 rejected recipient``, ``= closed``, ``= closed S632``: these events are next, in order;
- ``? mode window``, ``? accepts no``, ``? life open``: this is true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.addresses import Address
from mailmerge.errors import ConnectionLost
from mailmerge.model import Envelope, Message
from mailmerge.smtp.sasl import Credentials
from mailmerge.smtp.session import Session
from mailmerge.smtp.state import Closed, Completed, InStep, ReleaseNeeded, Revised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mailmerge.model import Outcome
    from mailmerge.smtp.state import Event

FULL = b"250-server\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 SIZE 1000000\r\n"
PLAIN = b"250-server\r\n250 PIPELINING\r\n"
LARGE = b"seventy-six octets and their line end, as a line of an attachment has ......\r\n" * 1000
"""More than waits for the release."""


def message(number: int, *recipients: str, body: bytes = b"hello\r\n") -> Message:
    """Return message *number* for *recipients*."""
    mailboxes = recipients or (f"to{number}@example.net",)
    return Message(
        f"<{number}@example.org>",
        str(number),
        number,
        Envelope(Address("me", "example.org"), tuple(Address(*text.split("@")) for text in mailboxes)),
        (b"Subject: %d\r\n\r\n" % number, body),
    )


class Talk:
    """A session, what it has said and what it has reported."""

    def __init__(self, **settings: object) -> None:
        options: dict[str, object] = {"starttls": False, "private": True, "borne": True, **settings}
        self.session = Session("server.example", "me.example", **options)  # type: ignore[arg-type]
        self.events: list[Event] = []

    def ready(self, ehlo: bytes = PLAIN) -> Talk:
        """Go through greeting and EHLO."""
        self.says(b"220 hi\r\n")
        assert self.heard() == b"EHLO me.example\r\n"
        self.says(ehlo)
        return self

    def says(self, data: bytes) -> None:
        """Let the server say *data*."""
        self.session.receive(data)
        self.events += self.session.take_events()

    def heard(self, octets: int | None = None) -> bytes:
        """Write what may be written, at most *octets*, and return it."""
        said = b""
        while self.session.outbox and (octets is None or len(said) < octets):
            left = 1 << 20 if octets is None else octets - len(said)
            data = b"".join(self.session.outbox.buffers(64, left))
            self.session.sent(len(data))
            said += data
        self.events += self.session.take_events()
        return said

    def submits(self, *messages: Message) -> None:
        """Offer *messages*; their rows are the tokens."""
        for each in messages:
            self.session.submit(each, each.row)
        self.events += self.session.take_events()

    def releases(self, *tokens: int) -> None:
        """Promise *tokens*."""
        self.session.release(tokens)
        self.events += self.session.take_events()

    def loses(self, code: str = "S610") -> None:
        """Let the connection end."""
        self.session.lost(ConnectionLost("gone", code=code))
        self.events += self.session.take_events()

    def breaks(self) -> None:
        """Let writing fail; what the server has said already may still be read."""
        self.session.write_failed(ConnectionLost("broken pipe"))
        self.events += self.session.take_events()

    def needed(self) -> list[int]:
        """Return the tokens for which a release was asked."""
        return [event.token for event in self.events if isinstance(event, ReleaseNeeded)]

    def outcomes(self) -> dict[int, Outcome]:
        """Return the outcomes so far."""
        return {event.token: event.outcome for event in self.events if isinstance(event, Completed)}

    def statuses(self) -> dict[int, str]:
        """Return the statuses so far."""
        return {token: str(outcome.status) for token, outcome in self.outcomes().items()}

    def ends(self) -> list[Closed]:
        """Return the ends reported: one at most."""
        return [event for event in self.events if isinstance(event, Closed)]


def summary(event: Event) -> str:
    """Return *event* as a dialogue has it."""
    match event:
        case ReleaseNeeded(token):
            return f"needs {token}"
        case Completed(token, outcome):
            return " ".join(filter(None, (str(token), str(outcome.status), outcome.reason)))
        case InStep():
            raise AssertionError("a dialogue does not mention sync points")
        case Revised(token, outcome):
            return f"revised {token} {outcome.status}"
        case Closed(error):
            return f"closed {error.code}" if error else "closed"


def settings_of(lines: Iterable[str]) -> dict[str, object]:
    """Read the lines before the first move."""
    settings: dict[str, object] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        match name:
            case "starttls" | "private":
                settings[name] = value == "yes"
            case "password" | "token":
                user, *secrets = value.split()
                settings["credentials"] = Credentials(user, name, _each(secrets))
            case "borne":
                settings[name] = {"yes": True, "no": False, "unknown": None}[value]
            case "messages_per_connection":
                settings[name] = int(value)
            case _:
                settings[name] = value
    return settings


def _each(secrets: list[str]) -> Callable[[], str]:
    left = list(secrets)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def play(path: Path, cut: Callable[[bytes], list[bytes]]) -> list[str]:
    """Run the dialogue in *path*, the server's octets cut by *cut*; return a summary of all events."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    first = next(i for i, line in enumerate(lines) if line[:2] in {"S:", "C:"})
    talk = Talk(**settings_of(lines[:first]))
    seen: list[str] = []
    pending: list[str] = []
    said = b""
    speech = b""

    def take() -> None:
        pending.extend(summary(event) for event in talk.events if not isinstance(event, InStep))
        talk.events.clear()

    for number, line in enumerate([*lines[first:], "? end"], first + 1):
        kind, _, text = line.partition(" ")
        where = f"{path.name}, move {number}: {line}"
        if kind == "S:":
            assert not said, f"{where}: the session also said {said!r}"
            speech += text.encode() + b"\r\n"
            continue
        for piece in cut(speech):
            talk.says(piece)
        speech = b""
        said += talk.heard()
        take()
        if kind == "C:":
            wanted = text.encode() + b"\r\n"
            assert said.startswith(wanted), f"{where}: the session said {said!r}"
            said = said.removeprefix(wanted)
            continue
        if kind == "C#":
            assert len(said) >= int(text), f"{where}: the session said {len(said)} octets"
            said = said[int(text) :]
            continue
        if kind == "=":
            assert pending, f"{where}: nothing happened"
            seen.append(pending.pop(0))
            assert seen[-1] == text, f"{where}: instead {seen[-1]}"
            continue
        _do(talk, kind, text, where)
        said += talk.heard()
        take()
    assert not said, f"{path.name}: the session also said {said!r}"
    assert not pending, f"{path.name}: also {pending}"
    return seen


def _do(talk: Talk, kind: str, text: str, where: str) -> None:
    session = talk.session
    match kind, *text.split():
        case "!", "submit", number, "large":
            talk.submits(message(int(number), body=LARGE))
        case "!", "submit", number, *recipients:
            talk.submits(message(int(number), *recipients))
        case "!", "release", *tokens:
            talk.releases(*map(int, tokens))
        case "!", "secured" | "noop" | "quit" | "break" | "lost" as deed:
            deeds = {"break": talk.breaks, "lost": talk.loses, "noop": session.noop, "quit": session.quit}
            {**deeds, "secured": session.secured}[deed]()
        case "?", "mode", mode:
            assert session.mode == mode, f"{where}: it is {session.mode}"
        case "?", "accepts", answer:
            assert session.can_accept() is (answer == "yes"), where
        case "?", "life" | "starttls" as machine, state:
            now = {"life": session.life, "starttls": session.start_tls}[machine]
            assert now.value == state, f"{where}: it is {now}"
        case "?", "end":
            pass
        case _:
            raise AssertionError(f"{where}: no such move")
