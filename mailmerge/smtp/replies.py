"""Replies: from bytes to `Reply` values, and from `Reply` values to what they mean for a row.

Parsing is incremental and does not depend on how the bytes are split; anything that is not a reply as in
RFC 5321 section 4.2 is a `ProtocolError`. The meaning is looked up in `mailmerge.smtp.reply_rules`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.errors import ConnectionLost, ProtocolError
from mailmerge.model import Outcome, Phase, Reply, Scope, Status
from mailmerge.smtp.reply_rule import DAY, HOUR, MINUTE, Meaning, ReplyRule
from mailmerge.smtp.reply_rules import ABOUT_US, DELAYED, NAMES_THE_SENDER, RULES, suspected
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.model import Envelope

MAX_LINES = 100
MAX_OCTETS = 64 * 1024

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\0\n]*))?\r\n\Z")
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=\s|$)\s*")
_KNOWN_REPLIES = 256

_QUOTE = re.compile(r"\b(?:said|says|replied|responded|answered)(?: with)?: ?")
"""What precedes a quoted reply of another server: ``host mx.example.net[192.0.2.1] said: ``."""
_CODES = re.compile(r"([45][0-9]{2})(?:[ -]([45])\.(\d{1,3})\.(\d{1,3})\b)?")
_ADDRESS = re.compile(r"[^\s<>()\[\]:;,\"'`@]{1,64}@[a-z0-9.-]{1,255}")
_SPAN = re.compile(
    r"\b(?:in|after|for|within|per) (?:about )?(\d{1,5}) ?(s|m|h|d)(?:ec|in|ay|econd|inute|our)?s?\b"
)
"""How long a limit lasts according to a reply: ``try again in 3 hours``, ``100 messages in 60 minutes``."""
_UNITS = {"s": 1.0, "m": MINUTE, "h": HOUR, "d": DAY}
_LONGEST_SPAN = 7 * DAY
_VAGUE = frozenset({"refused", "recipient", "protocol"})
"""Reasons that an address in the reply can change."""
_CLOSE = 60
"""The most characters between the subject of a refusal and the words that refuse it."""
_MENTIONS = 10
_OF_A_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_@")
_NAME_GOES_ON = re.compile(r"[a-z0-9_@]|[.-][a-z0-9]")
Enhanced = tuple[int, int, int]


class ReplyParser:
    """Takes bytes, split in any way, and yields `Reply` values.

    A reply may have 100 lines and 64 KB: longer ones are errors, as a server might never end.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._lines: list[bytes] = []
        self._octets = 0
        self._known: dict[bytes, Reply] = {}

    @property
    def pending(self) -> bool:
        """Whether bytes were received that are not part of a complete reply."""
        return self._at < len(self._buffer) or bool(self._lines)

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Parse *data*; yield each reply that it completes.

        Raises:
            ProtocolError: the bytes are not a reply; the complete replies before them were yielded.

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
            self._known[line] = reply  # most replies are repeated word for word
        return reply


def build_reply(lines: list[bytes]) -> Reply:
    """Return the `Reply` that consists of these complete lines."""
    code = int(lines[0][:3])
    texts = decode(b"\n".join(line[4:-2] for line in lines)).split("\n")
    match = _ENHANCED.match(texts[0])
    enhanced = None
    if match and int(match[1]) == code // 100:
        enhanced = (int(match[1]), int(match[2]), int(match[3]))
        texts = [text.removeprefix(match[0].strip()).strip() for text in texts]
    return Reply(code=code, lines=tuple(map(shown, texts)), enhanced=enhanced, raw=b"".join(lines))


def shown(text: str) -> str:
    """Return a line that is safe to show: without terminal control or invisible characters."""
    return text if text.isprintable() else printable(text.replace("\t", " "))


def decode(text: bytes) -> str:
    """Decode reply text for display: as UTF-8, else as GB 18030, else byte by byte."""
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
            hint="This host and port belong to a web server. Mail submission normally uses port 587 or 465.",
        )
    if line[0] in b"\x15\x16":
        return ProtocolError("TLS data arrived where plaintext SMTP was expected", code="S625")
    return ProtocolError(f"the server's reply is not a valid SMTP reply: {start}", code="S630")


# --- meaning ---------------------------------------------------------------------------------------------


def classify(reply: Reply, phase: Phase, envelope: Envelope | None = None) -> Outcome:
    """Return what *reply* in *phase* means for a row and for the run, by the first rule that matches.

    Order: words in the text, enhanced status code, phase, reply code, first digit. A 2yz is ``accepted`` only
    as the reply to the content. A refusal that names the sender of *envelope* and none of its recipients is
    about the sender. What the reply quotes from another server (``host mx.example.net said: ...``) is that
    server's opinion: it concerns one row, until other rows confirm it.
    """
    if reply.severity == 2 and phase is Phase.CONTENT:
        return Outcome(Status.ACCEPTED, Scope.ROW, phase, reply)
    if reply.severity in {2, 3}:
        raise RuntimeError(f"{reply.code} in phase {phase} refuses nothing")
    meaning = _meaning(reply, phase, envelope)
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


def is_suspicion(outcome: Outcome) -> bool:
    """Return whether *outcome* refused one row for a reason that seems to be about us."""
    return outcome.scope is Scope.ROW and outcome.reason in ABOUT_US


def as_suspicion(outcome: Outcome) -> Outcome:
    """Return a refusal about us at RCPT as one about its row: other recipients were accepted before."""
    if outcome.scope is not Scope.CONFIG or outcome.phase is not Phase.RCPT or outcome.reason not in DELAYED:
        return outcome
    return replace(outcome, scope=Scope.ROW, status=Status.DEFERRED)


def _meaning(reply: Reply, phase: Phase, envelope: Envelope | None) -> Meaning:
    text = " ".join(reply.text[:4000].casefold().split())
    quote = _QUOTE.search(text)
    if quote:
        return _quoting(reply, phase, text[: quote.start()], text[quote.end() :])
    meaning = _look_up(reply.code, reply.enhanced, phase, text)
    if meaning.reason in _VAGUE and envelope is not None and _names_sender(text, envelope):
        # After the content it may be a filter that rejects this one message.
        early = phase in {Phase.MAIL, Phase.RCPT}
        return NAMES_THE_SENDER if early else suspected(NAMES_THE_SENDER)
    if meaning.reason == "quota" and (named := _SPAN.search(text)):
        seconds = int(named[1]) * _UNITS[named[2][0]]
        return replace(meaning, retry_after=min(max(seconds, MINUTE), _LONGEST_SPAN))
    return meaning


def _look_up(code: int, enhanced: Enhanced | None, phase: Phase, text: str) -> Meaning:
    for rule in RULES:
        if _applies(rule, code, enhanced, phase, text):
            return rule.meaning
    if code // 100 == 4:
        return Meaning(Scope.ROW, Status.DEFERRED, "refused")
    return Meaning(Scope.ROW, Status.REJECTED, "refused")


def _quoting(reply: Reply, phase: Phase, own: str, quoted: str) -> Meaning:
    """Weigh the server's own text against what it quotes; its codes often repeat the quoted ones."""
    for rule in RULES:
        if (rule.words or rule.near) and _applies(rule, reply.code, reply.enhanced, phase, own):
            if rule.meaning.scope is not Scope.ROW:
                return rule.meaning
            break
    said = _CODES.match(quoted)
    code, enhanced = reply.code, reply.enhanced
    if said:
        code = int(said[1])
        enhanced = (int(said[2]), int(said[3]), int(said[4])) if said[2] else None
    theirs = _look_up(code, enhanced, Phase.RCPT, quoted)
    if theirs.scope is not Scope.ROW and theirs.reason in ABOUT_US:
        return suspected(theirs)
    status = Status.DEFERRED if reply.severity == 4 else Status.REJECTED
    if theirs.scope is not Scope.ROW:
        return Meaning(Scope.ROW, Status.DEFERRED, "refused")
    return Meaning(
        Scope.ROW,
        status,
        theirs.reason,
        theirs.retry_after if status is theirs.status else None,
        hint=theirs.hint,
    )


def _names_sender(text: str, envelope: Envelope) -> bool:
    named = {address.rstrip(".") for address in _ADDRESS.findall(text)}
    if str(envelope.mail_from).casefold() not in named:
        return False
    recipients = {str(address).casefold() for address in envelope.rcpt_to}
    return not named & recipients and str(envelope.mail_from).casefold() not in recipients


def _applies(rule: ReplyRule, code: int, enhanced: Enhanced | None, phase: Phase, text: str) -> bool:
    if rule.phases and phase not in rule.phases:
        return False
    if rule.codes and code not in rule.codes and code // 100 not in rule.codes:
        return False
    if rule.enhanced and not _enhanced_fits(rule.enhanced, enhanced):
        return False
    if rule.near is not None and not _are_near(rule.near, text):
        return False
    return not rule.words or any(words in text for words in rule.words)


def _are_near(near: tuple[tuple[str, ...], tuple[str, ...]], text: str) -> bool:
    """Return whether *text* contains one of the first words, and close to it one of the second."""
    for word in near[0]:
        start = text.find(word)
        for _ in range(_MENTIONS):
            if start < 0:
                break
            end = start + len(word)
            # As part of a host name, as in relay1.example.org, it means nothing.
            whole = text[max(0, start - 1) : start] not in _OF_A_NAME and not _NAME_GOES_ON.match(text, end)
            around = text[max(0, start - _CLOSE) : end + _CLOSE]
            if whole and any(unwanted in around for unwanted in near[1]):
                return True
            start = text.find(word, end)
    return False


def _enhanced_fits(patterns: tuple[str, ...], enhanced: Enhanced | None) -> bool:
    if enhanced is None:
        return False
    exact = "{}.{}.{}".format(*enhanced)
    return exact in patterns or "{}.{}.x".format(*enhanced[:2]) in patterns


def refused_session(host: str, what: str, reply: Reply, phase: Phase) -> ConnectionLost:
    """Return the error for a server that refuses to begin or to continue: *what* it did, and its reply."""
    meaning = classify(reply, phase) if reply.severity in {4, 5} else None
    return ConnectionLost(
        f"{host} {what}: {reply}",
        code="S615",
        reply=reply,
        hint=meaning.hint if meaning else None,
        retry_after=meaning.retry_after if meaning else None,
    )


def unanswered(phase: Phase, *, written_whole: bool, reason: str = "dropped") -> Outcome:
    """Return what the end of the connection means for a message that still awaits a reply in *phase*.

    Only a message whose last byte was handed to the kernel may have been accepted.
    """
    status = Status.IN_DOUBT if written_whole else Status.PENDING
    return Outcome(status, Scope.CONNECTION, Phase.CONTENT if written_whole else phase, reason=reason)


def too_large(size: int, limit: int) -> Outcome:
    """Return the outcome of a message that exceeds the server's SIZE (RFC 1870); both in octets."""
    return Outcome(
        Status.REJECTED,
        Scope.ROW,
        Phase.MAIL,
        reason="size",
        hint=f"the message has {size} octets, the server accepts {limit}; encoding adds 37 % to attachments",
    )


# --- what a server offers --------------------------------------------------------------------------------


class Extensions(Struct, frozen=True):
    """The extensions that we can use; only what the last EHLO reply offered counts."""

    starttls: bool = False
    pipelining: bool = False
    chunking: bool = False
    sizes: bool = False
    """MAIL accepts a SIZE parameter (RFC 1870)."""
    max_size: int | None = None
    """The largest message, in octets; None: not stated."""
    auth: tuple[str, ...] = ()
    envids: bool = False
    """MAIL accepts an ENVID parameter (RFC 3461), which delivery reports quote."""
    max_mails: int | None = None
    """How many MAIL commands one session may have (RFC 9422); None: not stated."""

    @classmethod
    def from_reply(cls, reply: Reply) -> Extensions:
        """Parse a positive EHLO reply; unknown and malformed keywords are ignored."""
        offers: dict[str, list[str]] = {}
        for line in reply.lines[1:]:
            # Servers wrote "AUTH=LOGIN PLAIN" before RFC 4954; some still send both.
            keyword, *values = line.replace("AUTH=", "AUTH ", 1).split() or [""]
            offers.setdefault(keyword.upper(), []).extend(values)
        return cls(
            starttls="STARTTLS" in offers,
            pipelining="PIPELINING" in offers,
            chunking="CHUNKING" in offers,
            sizes="SIZE" in offers,
            max_size=_number(offers.get("SIZE", [])[:1]),
            envids="DSN" in offers,
            auth=tuple(dict.fromkeys(name.upper() for name in offers.get("AUTH", []))),
            max_mails=_number(
                [value[8:] for value in offers.get("LIMITS", []) if value.upper().startswith("MAILMAX=")]
            ),
        )


def _number(values: list[str]) -> int | None:
    """Return the number, if there is exactly one; 0 means no limit (RFC 1870 section 4)."""
    text = values[0] if values else ""
    return (int(text) or None) if text.isascii() and text.isdigit() and len(text) < 20 else None
