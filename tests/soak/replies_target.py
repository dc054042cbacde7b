"""One input for session and parser, and what must be true whatever it is; see ``fuzz_replies.py``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dialogues import FULL, PLAIN, Talk, message
from mailmerge.errors import ProtocolError, SessionError
from mailmerge.model import Status
from mailmerge.smtp.replies import MAX_LINES, MAX_OCTETS, ReplyParser
from mailmerge.smtp.state import Completed

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSCRIPTS = Path(__file__).parents[1] / "protocol" / "transcripts"


def one_input(data: bytes) -> None:
    """Try one input: its first octets choose the setting, the rest is what the server says."""
    parse(data)
    converse(data)


def parse(data: bytes) -> None:
    """Let the parser read *data*, cut as its octets say."""
    parser = ReplyParser()
    try:
        for piece in pieces(data):
            for reply in parser.feed(piece):
                assert 200 <= reply.code < 600
                assert len(reply.lines) <= MAX_LINES
                assert len(reply.raw) <= MAX_OCTETS + 256
            assert len(parser._buffer) - parser._at + parser._octets <= MAX_OCTETS
    except ProtocolError:
        return


def converse(data: bytes) -> None:
    """Let a session of some mode hear *data* while it hands messages over."""
    setting, data = (data[0], data[1:]) if data else (0, data)
    talk = Talk(pipeline=("off", "overlap", "window", "auto")[setting & 3])
    if setting & 4:
        talk.ready(FULL if setting & 8 else PLAIN)
    offered: list[int] = []
    released: set[int] = set()
    for number, piece in enumerate(pieces(data), 1):
        if talk.session.can_accept():
            recipients = ["a@example.net", "b@example.net"][: 1 + (number % 3 == 0)]
            offered.append(number)
            talk.submits(message(number, *recipients))
        if number % 4:
            released |= set(talk.needed())
            talk.releases(*talk.needed())
        if talk.session.handshake_due:
            talk.session.secured()
        talk.heard(None if number % 5 else 40)
        talk.says(piece)
        if talk.ends():
            break
    talk.loses()
    (end,) = talk.ends()
    assert end.error is None or isinstance(end.error, SessionError)
    completed = [event.token for event in talk.events if isinstance(event, Completed)]
    assert sorted(completed) == offered, f"{offered} were offered, {completed} have an outcome"
    for token, outcome in talk.outcomes().items():
        if outcome.status in {Status.ACCEPTED, Status.IN_DOUBT}:
            assert token in released, f"{token} is {outcome.status}, but was never released"


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut *data*: at line ends, and wherever an octet over 0xF0 is the length of the next piece."""
    at = 0
    while at < len(data):
        if data[at] > 0xF0:
            length = data[at] - 0xF0
            at += 1
        else:
            end = data.find(b"\n", at)
            length = (end + 1 if end >= 0 else len(data)) - at
        if piece := data[at : at + length]:
            yield piece
        at += length


def seeds() -> Iterator[bytes]:
    """Yield what servers say in the written dialogues, as a beginning."""
    for number, path in enumerate(sorted(TRANSCRIPTS.iterdir())):
        lines = [line[3:] for line in path.read_text("utf-8").splitlines() if line.startswith("S: ")]
        yield bytes([number % 4]) + "".join(line + "\r\n" for line in lines).encode()
