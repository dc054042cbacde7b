"""Classifying a message in the mailbox: a delivery report, a complaint, an automatic reply, or other mail.

Machine-readable reports first (RFC 3464 and 6522 for delivery, RFC 5965 for complaints), then what mail
programs write in prose (`mailmerge.bounces.prose`). What was sent is not known here: the ledger decides
whether a report is about a message of ours, by the Message-IDs and recipients that are found.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.bounces import prose
from mailmerge.bounces.mime import MOST_OCTETS, split_fields, take_apart
from mailmerge.bounces.reasons import judge, says_enough
from mailmerge.model import OWN_HEADER
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailmerge.bounces.mime import MimePart
    from mailmerge.smtp.replies import Enhanced

Kind = Literal["report", "prose", "complaint", "auto_reply", "challenge", "other"]
"""A delivery report in the standard form, a free-text one, a complaint, an automatic reply, a request to
confirm that a person wrote, or any other message."""
Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]
ACTIONS: tuple[Action, ...] = ("failed", "delayed", "delivered", "relayed", "expanded")

OUR_ID = re.compile(r"(?<![0-9a-z])([0-9a-f]{40})@[a-z0-9]", re.IGNORECASE)
"""The form of our Message-IDs; only the ledger knows which of them are."""
_OWN_FIELD = re.compile(
    rf"{OWN_HEADER}[ \t]{{0,20}}:[\s>|]{{0,20}}([0-9a-f]{{40}})(?![0-9a-z])", re.IGNORECASE
)
_OWN_VALUE = re.compile(r"\s*([0-9a-f]{40})\s*\Z", re.IGNORECASE)
SUCCESS = "success"
"""How ``delivered``, ``relayed`` and ``expanded`` are reported: the server passed the message on, no more."""
_MOST_IDS = 50
_MOST_RECIPIENTS = 100
_WORDS = 500
_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.]*\.\d)(?!\d)")
_CODE = re.compile(r"(?<![\d.#/:-])([45]\d\d)(?=[ -]|$|[,;:.)\"'])(?![.-]\d{1,3}\.)")
_AN_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"]{1,128}@[^\s<>()\[\],;:\"]{1,255}")
_STATUS_FIELD = re.compile(
    rb"(?:(?:x|original|final|reporting|remote|received|last|diagnostic|will|dsn|arrival|feedback|user|version|source|"
    rb"removal|authentication|incidents|auth|spf|dkim|delivery|identity)-[!-9;-~]{1,60}|action|status|version|incidents)"
    rb"[ \t]*:",
    re.IGNORECASE,
)
_NO_WORDS = re.compile(r"(?:\d{3})?[ -]*(?:\d\.\d{1,3}\.\d{1,3})?[\W\d]*\Z")


class Failure(Struct, frozen=True):
    """What a report contains about one recipient."""

    address: str
    """The recipient as the sender wrote it, if the report has that; else as the last server had it."""
    action: Action
    sort: str
    """See `mailmerge.bounces.reasons.judge`; if nothing failed, ``delayed`` or ``success``."""
    reason: str
    final: str = ""
    """The recipient as the last server had it."""
    code: int | None = None
    enhanced: str = ""
    words: str = ""


class MailReport(Struct, frozen=True):
    """The classification of one message in a mailbox."""

    kind: Kind
    mark: str
    """Identifies the message, wherever it is read: a digest."""
    failures: tuple[Failure, ...] = ()
    ids: tuple[str, ...] = ()
    """What may be a Message-ID of ours, anywhere in it, or a value of `OWN_HEADER`: the 40 digits."""
    own_ids: tuple[str, ...] = ()
    """Those of the message that is returned in it."""
    returned_id: str = ""
    """The Message-ID of the message that is returned in it; empty: none is."""
    returned_to: tuple[str, ...] = ()
    """That message's recipients."""
    returned_at: float | None = None
    """That message's Date, in seconds since 1970; None: it has no valid one."""
    references: tuple[str, ...] = ()
    """Servers' own names for a message: queue IDs, other Message-IDs."""
    subject: str = ""
    sender: str = ""
    from_machine: bool = False
    """Whether it came from a mail system, judging by a null return path or the sender's name."""


def read_report(raw: bytes) -> MailReport:
    """Classify a message; any octets are accepted, and at most a megabyte is read."""
    raw = raw[:MOST_OCTETS]
    parts = take_apart(raw)
    top = parts[0]
    said = prose.text_of(parts)
    ahead, behind = prose.split_returned(said)
    returned = _returned(parts, behind)
    to_us = {
        address.lower() for name in ("to", "delivered-to", "x-original-to") for address in _named(top, name)
    }
    about = prose.Surroundings(
        subject=top.field("subject"),
        sender=top.field("from"),
        return_path=top.field("return-path"),
        text=ahead,
        ours=frozenset(to_us),
        returned_to=tuple(_AN_ADDRESS.findall(returned.get("to", "")))[:20],
        failed=tuple(
            address
            for value in top.fields_of("x-failed-recipients")
            for address in _AN_ADDRESS.findall(value)
        ),
        in_reply_to=top.field("in-reply-to") or top.field("references"),
    )
    kind, failures = _sorted(parts, about, returned)
    return MailReport(
        kind=kind,
        mark=_mark(top, raw),
        failures=tuple(failures[:_MOST_RECIPIENTS]),
        ids=_our_ids(parts, said),
        own_ids=tuple(_own_ids(returned.items())),
        returned_id=_first_id(returned.get("message-id", "")),
        returned_to=tuple(address.lower() for address in about.returned_to),
        returned_at=_moment(returned.get("date", "")),
        references=tuple(_references(parts, returned)),
        subject=printable(about.subject[:200]),
        sender=printable(about.sender[:200]),
        from_machine=prose.is_machine(about),
    )


def may_be_report(fields: Iterable[tuple[str, str]]) -> bool:
    """Return whether a message may be a report, judging by a few of its header fields."""
    values = dict(fields)
    about = prose.Surroundings(
        values.get("subject", ""),
        values.get("from", ""),
        values.get("return-path", ""),
        "",
        in_reply_to=values.get("in-reply-to", "") or values.get("references", ""),
    )
    named = ("auto-submitted", "x-failed-recipients", "x-autoreply", "x-autorespond", "feedback-type")
    return (
        any(name in values for name in (*named, "x-autoresponder", "x-vacation"))
        or values.get("precedence", "").strip().lower() in {"auto_reply", "auto-reply", "junk"}
        or prose.sounds_automatic(about)
        or "multipart/report" in values.get("content-type", "").lower()
    )


def _sorted(
    parts: Sequence[MimePart], about: prose.Surroundings, returned: dict[str, str]
) -> tuple[Kind, list[Failure]]:
    return _by_form(parts, about, returned) or _by_words(parts[0], about)


def _by_form(
    parts: Sequence[MimePart], about: prose.Surroundings, returned: dict[str, str]
) -> tuple[Kind, list[Failure]] | None:
    """Classify a message by the types of its parts; None: they do not show it."""
    for part in parts:
        if part.type == "message/feedback-report" and not part.enclosed:
            return _complaint(part, about)
        if part.type == "message/disposition-notification" and not part.enclosed:
            # In this way a recipient's filter reports that it refused the message (RFC 5429 section 2.1).
            return None if b"deleted" in part.body.lower() and prose.is_bounce(about) else ("other", [])
    reports = [
        part
        for part in parts
        if part.type in {"message/delivery-status", "message/global-delivery-status"} and not part.enclosed
    ]
    failures = [failure for part in reports for failure in _of_status(part, about)]
    if failures:
        return "report", failures
    if original := returned.get(
        "x-hmxmroriginalrecipient"
    ):  # Outlook.com's complaints are older than the RFC
        return "complaint", [Failure(original.strip().lower(), "failed", "complaint", "abuse")]
    return ("report", _of_prose(about)) if reports else None


def _by_words(top: MimePart, about: prose.Surroundings) -> tuple[Kind, list[Failure]]:
    if prose.is_bounce(about):
        return "prose", _of_prose(about)
    if prose.is_challenge(about):
        return "challenge", []
    return ("auto_reply" if prose.is_automatic(top, about) else "other"), []


# --- delivery reports (RFC 3464) -----------------------------------------------------------------------


def _of_status(part: MimePart, about: prose.Surroundings) -> Iterator[Failure]:
    """Parse the blocks of a delivery report: the first is about the message, each other about a recipient."""
    found = [_block(block) for block in re.split(rb"\n[ \t]*\n", part.body[:200_000])]
    blocks = [block for block in found if block]
    told = {"final-recipient", "original-recipient"}
    recipients = [block for block in blocks if told & block.keys()]
    for block in recipients[:_MOST_RECIPIENTS]:
        if (failure := _of_block(block, about, alone=len(recipients) == 1)) is not None:
            yield failure


def _block(block: bytes) -> dict[str, str]:
    """Parse the fields of a block; any other line continues the field before it, as some servers write it."""
    lines: list[bytes] = []
    for line in block.strip(b"\n").split(b"\n"):
        if lines and not _STATUS_FIELD.match(line):
            lines[-1] += b" " + line.strip()
        else:
            lines.append(line)
    fields: dict[str, str] = {}
    for name, value in split_fields(b"\n".join(lines))[0]:
        fields.setdefault(name, value)
    return fields


def _of_block(block: dict[str, str], about: prose.Surroundings, *, alone: bool) -> Failure | None:
    final, original = (_recipient(block.get(f"{which}-recipient", "")) for which in ("final", "original"))
    actual = _recipient(block.get("x-actual-recipient", ""))
    address = original or final or actual
    if not address and alone and len(about.returned_to) == 1:
        address = about.returned_to[0].lower()
    if not address:
        return None
    said = block.get("diagnostic-code", "")
    diagnosis = said.partition(";")[2].strip() if re.match(r"[\w-]{1,40}\s*;", said) else said
    status = block.get("status", "")
    code, enhanced = codes(diagnosis)
    of_status = codes(status)[1]
    action = _action(block.get("action", ""), of_status or enhanced)
    # A code from the reply is more reliable than a report that has 5.0.0 for everything.
    if enhanced is None or (of_status is not None and of_status[1:] != (0, 0) and enhanced[1:] == (0, 0)):
        enhanced = of_status or enhanced
    if action != "failed":
        sort = action if action == "delayed" else SUCCESS
        return _failure(address, action, sort, action, final, code, enhanced, diagnosis)
    verdict = judge(code, enhanced, diagnosis)
    silent = _NO_WORDS.match(diagnosis) is not None and not says_enough(enhanced)
    if (verdict.sort == "unclear" or silent) and about.text:
        # The report itself contains little: its text for people may contain more.
        other = prose.about_recipient(about.text, address) if not alone else about.text
        theirs = judge(code, enhanced, other)
        if theirs.sort != "unclear":
            verdict = theirs
        diagnosis = diagnosis or prose.gist(other)
    return _failure(address, action, verdict.sort, verdict.reason, final, code, enhanced, diagnosis)


def _failure(
    address: str,
    action: Action,
    sort: str,
    reason: str,
    final: str,
    code: int | None,
    enhanced: Enhanced | None,
    said: str,
) -> Failure:
    text = printable(" ".join(said.split()))[:_WORDS]
    shown = "{}.{}.{}".format(*enhanced) if enhanced else ""
    return Failure(address, action, sort, reason, final or address, code, shown, text)


def _recipient(value: str) -> str:
    """Return the address in ``rfc822; ann@example.org``, in lower case."""
    kind, semicolon, rest = value.partition(";")
    text = (rest if semicolon else kind).strip()
    found = _AN_ADDRESS.search(text)
    return found[0].strip(".'").lower() if found else ""


def _action(value: str, enhanced: Enhanced | None) -> Action:
    named = re.match(r"[a-z]+", value.strip().lower())
    for action in ACTIONS:
        if named and named[0] in {action, action.removesuffix("ed")}:
            return action
    if enhanced and enhanced[0] == 2:
        return "delivered"
    return "failed"


def codes(said: str) -> tuple[int | None, Enhanced | None]:
    """Return the reply's code and the enhanced status code found in text."""
    text = said[:4000]
    plain = _CODE.search(text)
    code = int(plain[1]) if plain else None
    for found in _STATUS.finditer(text):
        enhanced = (int(found[1]), int(found[2]), int(found[3]))
        if code is None or enhanced[0] == code // 100:
            return code, enhanced
    return code, None


# --- complaints (RFC 5965) -----------------------------------------------------------------------------

_NO_COMPLAINT = frozenset({"not-spam", "auth-failure", "dkim", "virus"})


def _complaint(part: MimePart, about: prose.Surroundings) -> tuple[Kind, list[Failure]]:
    fields = _block(part.body[:100_000])
    kind = fields.get("feedback-type", "abuse").strip().lower()
    if kind in _NO_COMPLAINT:
        return "other", []
    named = _recipient(fields.get("original-rcpt-to", "")) or _recipient(fields.get("removal-recipient", ""))
    addresses: Iterable[str] = [named] if named else (address.lower() for address in about.returned_to)
    return "complaint", [Failure(address, "failed", "complaint", kind) for address in addresses]


# --- reports in prose ----------------------------------------------------------------------------------


def _of_prose(about: prose.Surroundings) -> list[Failure]:
    action: Action = "delayed" if prose.is_delay(about) else "failed"
    failures = []
    addresses = prose.recipients(about)
    # Without an address, our own Message-ID, if it is there, still shows whom the report is about.
    for address in addresses or [""]:
        said = prose.about_recipient(about.text, address) if address else about.text
        code, enhanced = codes(said)
        verdict = judge(code, enhanced, said)
        if verdict.sort == "unclear" and len(addresses) <= 1:
            code, enhanced = codes(about.text) if code is None and enhanced is None else (code, enhanced)
            verdict = judge(code, enhanced, f"{about.subject} {about.text}")
        if action == "delayed":
            verdict = verdict._replace(sort=action, reason=action)
        words = prose.gist(said)
        failures.append(_failure(address, action, verdict.sort, verdict.reason, "", code, enhanced, words))
    return [replace(failure, final="") for failure in failures]


# --- which message it is about -------------------------------------------------------------------------


def _returned(parts: Sequence[MimePart], behind: str) -> dict[str, str]:
    """Return the header of the returned message: that of a part, or as it is quoted in the text."""
    fields: dict[str, str] = {}
    for part in parts:
        if part.enclosed and part.fields:
            for name, value in part.fields:
                fields.setdefault(name, value)
            return fields
    if behind:
        text = "\n".join(line.lstrip("> \t|") if line[:1] in ">|" else line for line in behind.split("\n"))
        start = re.search(r"^[A-Za-z][\w-]{1,60}:", text, re.MULTILINE)
        if start:
            for name, value in split_fields(text[start.start() :].encode("utf-8", "replace"))[0]:
                fields.setdefault(name, value)
    return fields


def _our_ids(parts: Sequence[MimePart], said: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for part in parts:
        found.update(dict.fromkeys(_own_ids(part.fields)))
    texts = [said, *(value for part in parts for _, value in part.fields)]
    texts += [part.text for part in parts if part.enclosed or part.type.startswith("message/")]
    for text in texts:
        for pattern in (OUR_ID, _OWN_FIELD):
            for match in pattern.finditer(text):
                found.setdefault(match[1].lower())
                if len(found) >= _MOST_IDS:
                    return tuple(found)
    return tuple(found)


def _own_ids(fields: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield our identifiers from a message's header fields: those in our own field and the Message-ID."""
    patterns = {OWN_HEADER.lower(): _OWN_VALUE, "message-id": OUR_ID}
    for name, value in fields:
        if name in patterns and (match := patterns[name].search(value[:300])):
            yield match[1].lower()


def _moment(value: str) -> float | None:
    """Parse a Date (RFC 5322 section 3.3)."""
    from email.utils import mktime_tz, parsedate_tz

    found = parsedate_tz(value[:200])
    try:
        return None if found is None else float(mktime_tz(found))
    except (ValueError, OverflowError):
        return None


def _first_id(value: str) -> str:
    found = re.search(r"<[^<>\s]{1,300}>", value)
    return found[0] if found else ""


_ID_IN_TRACE = re.compile(r"\bid[ =]<?([^\s<>;()]{1,300})", re.IGNORECASE)
_NAMED_BY_SERVERS = ("x-postfix-queue-id", "original-envelope-id", "x-original-message-id", "x-message-id")


def _references(parts: Sequence[MimePart], returned: dict[str, str]) -> Iterator[str]:
    for part in parts:
        if part.type == "message/delivery-status" and not part.enclosed:
            fields = _block(re.split(rb"\n[ \t]*\n", part.body[:200_000])[0])
            yield from (fields[name][:300] for name in _NAMED_BY_SERVERS if name in fields)
    for name in ("message-id", *_NAMED_BY_SERVERS):
        if name in returned:
            yield returned[name][:300]
    # Such a line also names hosts, which many messages have in common: only the ID identifies the message.
    yield from _ID_IN_TRACE.findall(returned.get("received", "")[:1000])


def _named(part: MimePart, name: str) -> list[str]:
    return [address for value in part.fields_of(name) for address in _AN_ADDRESS.findall(value)]


def _mark(top: MimePart, raw: bytes) -> str:
    """Return a digest of what is the same wherever a message is stored: no line ends, no added fields."""
    body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    body = re.sub(rb"^>(>*From )", rb"\1", body, flags=re.MULTILINE)
    about = "\n".join(top.field(name) for name in ("message-id", "date", "from", "subject"))
    return hashlib.sha256(about.encode("utf-8", "replace") + b"\n" + body.rstrip()[: 64 * 1024]).hexdigest()[
        :32
    ]
