"""Replies: bytes to `Reply` values, and `Reply` values to what they mean for a row.

Parsing is incremental and indifferent to how the bytes are cut; anything that is not a reply of
RFC 5321 section 4.2 is a `ProtocolError`. Meaning is looked up in `mailmerge.smtp.reply_rules`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import ConnectionLost, ProtocolError
from mailmerge.model import Outcome, Phase, Reply, Scope, Status
from mailmerge.smtp.reply_rules import RULES, Meaning, ReplyRule

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINES = 100
MAX_OCTETS = 64 * 1024

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\0\n]*))?\r\n\Z")
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=\s|$)\s*")
_KNOWN_REPLIES = 256


class ReplyParser:
    """Bytes in, `Reply` values out, however the bytes are cut.

    A reply may have 100 lines and 64 KB: servers that never end are cut off.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._lines: list[bytes] = []
        self._octets = 0
        self._known: dict[bytes, Reply] = {}

    @property
    def pending(self) -> bool:
        """Whether bytes were received that no finished reply accounts for."""
        return self._at < len(self._buffer) or bool(self._lines)

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Take *data*; yield each reply it completes.

        Raises:
            ProtocolError: the bytes are no reply; what was complete before was yielded.

        """
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        while (end := self._buffer.find(b"\n", self._at)) >= 0:
            line = self._buffer[self._at : end + 1]
            self._at = end + 1
            reply = self._take_line(line)
            if reply:
                yield reply
        rest = len(self._buffer) - self._at
        if self._octets + rest > MAX_OCTETS:
            raise _endless()
        if rest and self._buffer[self._at] < 0x20:
            raise _not_smtp(self._buffer[self._at :])

    def _take_line(self, line: bytes) -> Reply | None:
        if not self._lines:
            known = self._known.get(line)
            if known:
                return known
        match = _LINE.match(line)
        if not match:
            raise _not_smtp(line)
        self._octets += len(line)
        self._lines.append(line)
        if len(self._lines) > MAX_LINES or self._octets > MAX_OCTETS:
            raise _endless()
        if match[1] != self._lines[0][:3]:
            raise ProtocolError(
                f"one reply contains two codes: {match[1].decode()} follows {self._lines[0][:3].decode()}",
                code="S630",
            )
        if match[2] == b"-":
            return None
        lines, self._lines, self._octets = self._lines, [], 0
        reply = build_reply(lines)
        if len(lines) == 1 and len(self._known) < _KNOWN_REPLIES:
            self._known[line] = reply  # servers repeat themselves: most replies are seen again
        return reply


def build_reply(lines: list[bytes]) -> Reply:
    """Make a `Reply` of complete lines that belong together."""
    code = int(lines[0][:3])
    texts = decode(b"\n".join(line[4:-2] for line in lines)).split("\n")
    match = _ENHANCED.match(texts[0])
    enhanced = None
    if match and int(match[1]) == code // 100:
        enhanced = (int(match[1]), int(match[2]), int(match[3]))
        texts = [text.removeprefix(match[0].strip()).strip() for text in texts]
    return Reply(code=code, lines=tuple(texts), enhanced=enhanced, raw=b"".join(lines))


def decode(text: bytes) -> str:
    """Decode reply text for display: UTF-8, else the usual Chinese encoding, else byte by byte."""
    for encoding in ("utf-8", "gb18030"):
        try:
            return text.decode(encoding)
        except UnicodeDecodeError:
            continue
    return text.decode("latin-1")


def _endless() -> ProtocolError:
    return ProtocolError(
        f"the server's reply does not end: more than {MAX_LINES} lines or {MAX_OCTETS // 1024} KB",
        code="S633",
    )


def _not_smtp(line: bytes) -> ProtocolError:
    start = ascii(decode(line[:60]).strip("\r\n"))
    if line.startswith(b"HTTP/"):
        return ProtocolError(
            f"a web server answered: {start}",
            code="S631",
            hint="This host and port speak HTTP. Mail submission normally uses port 587 or 465.",
        )
    if line[0] in b"\x15\x16":
        return ProtocolError("TLS data arrived where plaintext SMTP was expected", code="S625")
    return ProtocolError(f"the server's answer is not an SMTP reply: {start}", code="S630")


# --- meaning ---------------------------------------------------------------------------------------------


def classify(reply: Reply, phase: Phase) -> Outcome:
    """Say what *reply* in *phase* means for a row and for the run: pure, a walk down one table.

    Order: words that providers use, enhanced status, code, first digit. A 2yz is ``accepted`` only as
    the reply to the content.
    """
    if reply.severity == 2 and phase is Phase.CONTENT:
        return Outcome(Status.ACCEPTED, Scope.ROW, phase, reply)
    if reply.severity in {2, 3}:
        raise RuntimeError(f"{reply.code} in phase {phase} refuses nothing")
    meaning = _meaning(reply, phase)
    return Outcome(
        status=meaning.status,
        scope=meaning.scope,
        phase=phase,
        reply=reply,
        reason=meaning.reason,
        retry_after=meaning.retry_after,
        slower=meaning.slower,
        hint=meaning.hint,
    )


def _meaning(reply: Reply, phase: Phase) -> Meaning:
    text = " ".join(reply.text[:4000].casefold().split())
    for rule in RULES:
        if _applies(rule, reply, phase, text):
            return rule.meaning
    if reply.severity == 4:
        return Meaning(Scope.ROW, Status.DEFERRED, "refused")
    return Meaning(Scope.ROW, Status.REJECTED, "refused")


def _applies(rule: ReplyRule, reply: Reply, phase: Phase, text: str) -> bool:
    if rule.phases and phase not in rule.phases:
        return False
    if rule.codes and reply.code not in rule.codes and reply.severity not in rule.codes:
        return False
    if rule.enhanced and not _enhanced_fits(rule.enhanced, reply.enhanced):
        return False
    return not rule.words or any(words in text for words in rule.words)


def _enhanced_fits(patterns: tuple[str, ...], enhanced: tuple[int, int, int] | None) -> bool:
    if enhanced is None:
        return False
    exact = "{}.{}.{}".format(*enhanced)
    return exact in patterns or "{}.{}.x".format(*enhanced[:2]) in patterns


def refused_session(host: str, what: str, reply: Reply, phase: Phase) -> ConnectionLost:
    """Return the error for a server that will not begin, or not go on: *what* it did, and its words."""
    meaning = classify(reply, phase) if reply.severity in {4, 5} else None
    return ConnectionLost(
        f"{host} {what}: {reply}",
        code="S615",
        reply=reply,
        hint=meaning.hint if meaning else None,
        retry_after=meaning.retry_after if meaning else None,
    )


def unanswered(phase: Phase, *, written_whole: bool, reason: str = "dropped") -> Outcome:
    """Say what the end of the connection means for a message that still awaits a reply in *phase*.

    Only a message whose last byte was handed to the kernel may have been taken.
    """
    status = Status.IN_DOUBT if written_whole else Status.PENDING
    return Outcome(status, Scope.CONNECTION, Phase.CONTENT if written_whole else phase, reason=reason)


def too_large(size: int, limit: int) -> Outcome:
    """Refuse a message locally that exceeds the server's SIZE (RFC 1870): both in octets."""
    return Outcome(
        Status.REJECTED,
        Scope.ROW,
        Phase.MAIL,
        reason="size",
        hint=f"the message has {size} octets, the server accepts {limit}; encoding adds 37 % to attachments",
    )


# --- what a server offers --------------------------------------------------------------------------------


class Extensions(Struct, frozen=True):
    """The offers we can use. Nothing is believed that the last EHLO did not say."""

    starttls: bool = False
    pipelining: bool = False
    chunking: bool = False
    sizes: bool = False
    """MAIL takes a SIZE parameter (RFC 1870)."""
    max_size: int | None = None
    """Largest message in octets; None: not stated."""
    auth: tuple[str, ...] = ()
    max_mails: int | None = None
    """How many MAIL commands one session may hold (RFC 9422); None: not stated."""

    @classmethod
    def from_reply(cls, reply: Reply) -> Extensions:
        """Read a positive EHLO reply; unknown and malformed keywords are passed over."""
        offers: dict[str, list[str]] = {}
        for line in reply.lines[1:]:
            # "AUTH=LOGIN PLAIN" is how servers wrote it before RFC 4954; some still send both.
            keyword, *values = line.replace("AUTH=", "AUTH ", 1).split() or [""]
            offers.setdefault(keyword.upper(), []).extend(values)
        return cls(
            starttls="STARTTLS" in offers,
            pipelining="PIPELINING" in offers,
            chunking="CHUNKING" in offers,
            sizes="SIZE" in offers,
            max_size=_number(offers.get("SIZE", [])[:1]),
            auth=tuple(dict.fromkeys(name.upper() for name in offers.get("AUTH", []))),
            max_mails=_number(
                [value[8:] for value in offers.get("LIMITS", []) if value.upper().startswith("MAILMAX=")]
            ),
        )


def _number(values: list[str]) -> int | None:
    """Return the one number there is; 0 means no limit (RFC 1870 section 4)."""
    text = values[0] if values else ""
    return (int(text) or None) if text.isascii() and text.isdigit() and len(text) < 20 else None
