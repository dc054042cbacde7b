"""Rules for the subject, names and other headers."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from mailmerge.addresses import mail_domains
from mailmerge.check.message_view import Finding
from mailmerge.check.rules import each_layout, each_message
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.addresses import Mailbox
    from mailmerge.check.message_view import MessageLayout, MessageView

_SUBJECT_LENGTH = 78
_FEW_LETTERS = 10
"""A subject with fewer letters may be an abbreviation."""
_NAME_LENGTH = 300
"""How many characters of a name are searched for an address."""
_REPLY = re.compile(r"(?:re|aw|sv|fwd?|wg|tr|回复|转发)\s*[:：]", re.IGNORECASE)
_SHOUTING = re.compile(r"[!?！？]{2,}")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_STEERING_MARKS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff"
_STEERING = re.compile(f"[{_STEERING_MARKS}]")
_STRIKING = re.compile(f"[!?！？:：{_STEERING_MARKS}]")
"""One of them is in every subject that is short, not in capitals, and still has something wrong."""


@each_message
def subject(view: MessageView) -> Iterator[Finding]:
    """Find what filters or readers dislike in a subject line."""
    text = view.rendered.subject
    if len(text) > _SUBJECT_LENGTH or _STRIKING.search(text) or text.upper() == text:
        yield from _subject(text)


@lru_cache(maxsize=256)
def _subject(text: str) -> tuple[Finding, ...]:
    found = []
    if len(text) > _SUBJECT_LENGTH:
        hint = "phones show about 35 characters, desktop programs about 60: put what matters first"
        found.append(Finding("M201", f"the subject has more than {_SUBJECT_LENGTH} characters", hint))
    capitals = text.upper() == text and text.lower() != text
    if capitals and sum(map(str.isalpha, text)) >= _FEW_LETTERS:
        hint = "capitals read as shouting, and spam filters penalise them"
        found.append(Finding("M203", "the subject is all capitals", hint))
    loud = "!" in text or "?" in text or not text.isascii()
    if loud and (match := _SHOUTING.search(text)):
        found.append(
            Finding("M204", f"the subject has repeated punctuation: {match[0]}", "one mark is enough")
        )
    if match := _REPLY.match(text):
        hint = "a fake reply looks like a trick to both readers and filters"
        found.append(Finding("M205", f"the subject pretends to be a reply: {match[0]!r}", hint))
    found += _steering(text, "the subject")
    return tuple(found)


@each_message
def names(view: MessageView) -> Iterator[Finding]:
    """Find display names that contain another address or invisible characters, and look-alike domains."""
    rendered = view.rendered
    for header, boxes in (("From", (rendered.from_,)), ("To", rendered.to), ("Cc", rendered.cc)):
        for box in boxes:
            if box.name and not (box.name.isascii() and "@" not in box.name):
                yield from _name(header, box)
            if box.address.shown:
                yield from _domain(header, box.address.shown)


def _name(header: str, box: Mailbox) -> Iterator[Finding]:
    other = _ADDRESS.search(box.name[:_NAME_LENGTH]) if "@" in box.name else None
    if other and other[0].lower() != str(box.address).lower():
        yield Finding(
            "M206",
            f"the name in {header} contains a different address: {other[0]}",
            "mail programs warn about such names because forgers use them: write a name, or the address",
        )
    yield from _steering(box.name, f"the name in {header}")


def _steering(text: str, where: str) -> tuple[Finding, ...]:
    match = None if text.isascii() else _STEERING.search(text)
    if not match:
        return ()
    mark = unicodedata.name(match[0], f"U+{ord(match[0]):04X}").lower()
    hint = "it can reverse or hide letters: remove it from the cell or template"
    return (Finding("M208", f"{where} contains an invisible character ({mark})", hint),)


@lru_cache(maxsize=256)
def _domain(header: str, domain: str) -> tuple[Finding, ...]:
    for label in domain.split("."):
        scripts = {unicodedata.name(char, "?").split()[0] for char in label if char.isalpha()}
        if len(scripts & {"LATIN", "CYRILLIC", "GREEK"}) > 1:
            hint = "look-alike letters make one domain pass for another: type it again"
            return (Finding("M209", f"the domain in {header} mixes alphabets: {quoted(domain)}", hint),)
    return ()


@each_layout
def reply_to(layout: MessageLayout) -> Iterator[Finding]:
    """Find replies that go to a free mailbox although the sender has its own domain."""
    rendered = layout.view.rendered
    sender = rendered.from_.address.domain
    for box in rendered.reply_to:
        domain = box.address.domain
        known = mail_domains().get(domain)
        if known and known.free_mail and sender != domain:
            yield Finding(
                "M207",
                f"Reply-To is at {domain}, From is at {sender}",
                "replies to a free mailbox on behalf of another domain look like fraud: use one domain",
            )


@each_layout
def own_headers(layout: MessageLayout) -> Iterator[Finding]:
    """Find headers that do not have the effect that people expect."""
    headers = {name.lower(): value for name, value in layout.view.rendered.headers}
    if "precedence" in headers:
        yield Finding(
            "M219",
            f"Precedence: {headers['precedence']} is not standard, and some providers delay such mail",
            "List-Unsubscribe marks mail to a list; Auto-Submitted: auto-generated prevents "
            "automatic replies",
        )
    unsubscribe = headers.get("list-unsubscribe")
    post = headers.get("list-unsubscribe-post")
    if unsubscribe and post is None and "<https:" in unsubscribe:
        yield Finding(
            "M214",
            "List-Unsubscribe comes without List-Unsubscribe-Post",
            "Gmail and Yahoo require one-click unsubscribing: `unsubscribe` in [message] adds both headers",
        )
    elif post is not None and (
        not unsubscribe or "<https:" not in unsubscribe or post.strip() != "List-Unsubscribe=One-Click"
    ):
        yield Finding(
            "M214",
            "List-Unsubscribe-Post needs an https address in List-Unsubscribe, and this exact value: "
            "List-Unsubscribe=One-Click",
            "RFC 8058 describes both headers",
        )
