"""What a campaign can say: `SCHEMA`, and the kinds of values that only campaigns have.

The one table drives reading the file, overriding it from outside, and guessing what a misspelt key was meant
to be.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mailmerge.config.validation import (
    FILLED_TEXT,
    LABEL,
    PATH,
    PAUSES,
    PLAIN,
    RATE,
    SHARE,
    TEXT,
    Fault,
    Kind,
    RefusalError,
    array_of,
    checked,
    did_you_mean,
    one_of,
    one_or_more,
    table_of,
    whole,
    wrong_type,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER_NAME = r"[!-9;-~]{1,76}\Z"
_HAS_OWN_KEY = {
    "from": "from",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "reply-to": "reply_to",
    "sender": "sender",
    "subject": "subject",
}
_MADE_BY_US = frozenset(
    ("date", "message-id", "mime-version", "return-path", "received", "dkim-signature", "resent-bcc")
)


def _read_template(value: object) -> Path | str:
    """Read the name of a template's file; a text with a line break is the template itself."""
    if not isinstance(value, str):
        raise wrong_type("the name of a template's file", value)
    if not value.strip():
        raise RefusalError(Fault("is empty"))
    if "\n" in value:
        return value
    if "\0" in value:
        raise RefusalError(Fault("holds a NUL character"))
    if value == "auto":
        says = 'cannot be "auto" yet: a text made from the HTML is not supported yet'
        raise RefusalError(Fault(says, "C402", "write a text template of its own"))
    if value.lower().endswith((".md", ".mjml")):
        says = f"names a {value.rpartition('.')[2]} file: this is not supported yet"
        raise RefusalError(Fault(says, "C402", "write it as HTML or plain text"))
    return Path(value)


def _check_header_name(name: str) -> Fault | None:
    low = name.lower()
    if not re.match(_HEADER_NAME, name):
        return Fault("is no name for a header", hint="letters, digits and hyphens, such as X-Campaign")
    if low in _HAS_OWN_KEY:
        return Fault("has a key of its own", hint=f"write `message.{_HAS_OWN_KEY[low]}` instead")
    if low in _MADE_BY_US or low.startswith("content-"):
        return Fault("is made for each message and cannot be set")
    return None


def _check_header_text(text: str) -> Fault | None:
    if not text.strip().isprintable():
        return Fault("holds a line break or another control character")
    return None


def _read_headers(value: object) -> object:
    table = _HEADER_TABLE.read(value)
    assert isinstance(table, dict)
    seen: dict[str, str] = {}
    for name in table:
        if (earlier := seen.setdefault(name.lower(), name)) != name:
            raise RefusalError(Fault(f"is the same header as {earlier}", at=f".{name}"))
    return table


def _check_variable_name(name: str) -> Fault | None:
    if name.isidentifier():
        return None
    return Fault("cannot be written in a template", hint="use letters, digits and _, such as `year_2`")


def _check_code(text: str) -> Fault | None:
    if re.fullmatch(r"[A-Z]\d{3}", text):
        return None
    return Fault(f'is not the code of a problem: "{text}"', hint='codes look like "D204"')


def _read_codes(value: object) -> frozenset[object]:
    codes = _CODE_ARRAY.read(value)
    assert isinstance(codes, tuple)
    return frozenset(codes)


def _check_encoding(text: str) -> Fault | None:
    try:
        codecs.lookup(text)
    except LookupError:
        hint = did_you_mean(text, ("utf-8", "gb18030", "gbk", "big5", "cp1252", "latin-1", "utf-16"))
        return Fault(f'is not a known encoding: "{text}"', hint=hint)
    return None


ENCODING = checked(LABEL, _check_encoding)
TEMPLATE = Kind("the name of a template's file", _read_template)
_HEADER_TABLE = table_of(checked(TEXT, _check_header_text), _check_header_name)
HEADERS = Kind("a table", _read_headers, entries=checked(TEXT, _check_header_text))
NAMED_VALUES = table_of(PLAIN, _check_variable_name)
PAIRS = table_of(FILLED_TEXT)
_CODE_ARRAY = array_of(checked(LABEL, _check_code), 'an array of codes, such as ["D204"]')
CODES = Kind('an array of codes, such as ["D204"]', _read_codes)


# --- what can be said ---------------------------------------------------------------------------------

SCHEMA: Final[Mapping[str, Mapping[str, Kind]]] = {
    "": {
        "name": LABEL,
        "account": LABEL,
        "vars": NAMED_VALUES,
    },
    "data": {
        "source": PATH,
        "sheet": LABEL,
        "key": LABEL,
        "where": FILLED_TEXT,
        "duplicates": one_of("first", "error", "allow"),
        "defaults": PAIRS,
        "hidden": one_of("refuse", "skip", "send"),
        "types": PAIRS,
        "encoding": ENCODING,
        "suppress": one_or_more(PATH),
    },
    "message": {
        "from": FILLED_TEXT,
        "to": one_or_more(FILLED_TEXT),
        "cc": one_or_more(FILLED_TEXT),
        "bcc": one_or_more(FILLED_TEXT),
        "reply_to": one_or_more(FILLED_TEXT),
        "sender": FILLED_TEXT,
        "subject": TEXT,
        "text": TEMPLATE,
        "html": TEMPLATE,
        "headers": HEADERS,
        "locale": FILLED_TEXT,
    },
    "attach": {
        "path": FILLED_TEXT,
        "name": FILLED_TEXT,
        "missing": one_of("error", "skip"),
        "base": PATH,
    },
    "send": {
        "rate": one_or_more(RATE),
        "per_domain": one_or_more(RATE),
        "jitter": SHARE,
        "retry": PAUSES,
        "max_rejected": SHARE,
        "sessions": whole(1, 50),
        "pipeline": one_of("auto", "off", "overlap", "window"),
    },
    "check": {
        "ignore": CODES,
    },
}
"""Section, key, and its kind. ``attach`` is repeated (``[[attach]]``), ``""`` is the top of the file."""

NOT_YET: Final[Mapping[str, str]] = {
    "data.group_by": "one message for several rows",
    "data.cells": "raw cell values",
    "message.preheader": "a preview line",
    "message.inline_css": "moving styles into the elements",
    "message.calendar": "invitations",
    "message.unsubscribe": "the one-click unsubscribe headers",
    "attach.template": "an attachment made from a template",
    "attach.password": "an attachment with a password",
    "send.at": "sending at a set time",
    "send.copy_to": "a copy in a Sent folder",
}
"""Keys that are planned: they get an answer of their own instead of a guess at a misspelling."""

OPTIONS: Final[Mapping[str, str]] = {
    "name": "--name",
    "account": "--account",
    "data.source": "--list",
    "data.sheet": "--sheet",
    "data.key": "--key",
    "data.where": "--where",
    "data.hidden": "--hidden",
    "data.encoding": "--encoding",
    "data.duplicates": "--duplicates",
    "data.suppress": "--suppress",
    "message.from": "--from",
    "message.to": "--to",
    "message.cc": "--cc",
    "message.bcc": "--bcc",
    "message.reply_to": "--reply-to",
    "message.subject": "--subject",
    "message.text": "--text",
    "message.html": "--html",
    "attach": "--attach",
    "send.rate": "--rate",
    "send.max_rejected": "--max-rejected",
    "send.sessions": "--sessions",
    "send.pipeline": "--pipeline",
}
"""How messages name the options of the command line."""
