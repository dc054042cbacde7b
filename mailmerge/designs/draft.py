"""Reads a message that was written in a mail program, to become a template.

Editors differ in what they save: Thunderbird and Apple Mail write text with ``format=flowed`` and put images
next to the HTML or between its pieces, Outlook also refers to them in VML, and Word saves a web page with its
images in one file (``.mht``). All of it is parsed here; nothing is written.
"""

from __future__ import annotations

import base64
import binascii
import re
from email import message_from_bytes, policy
from email.header import decode_header
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from msgspec import Struct, field

from mailmerge.designs.editors import mend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

PICTURES, FILES = "images", "attachments"
_CID: Final = re.compile(r"cid:([^\s\"'()<>]+)", re.IGNORECASE)
_DATA: Final = re.compile(
    r"data:image/(?P<kind>[a-z0-9.+-]{1,20})(?:;[a-z0-9=-]{1,30})*;base64,(?P<data>[A-Za-z0-9+/=%\s]{16,})",
    re.IGNORECASE,
)
_UNSAFE: Final = re.compile(r"[^\w.+-]+")
_NO_ATTACHMENT: Final = frozenset(
    {
        "application/pkcs7-signature",
        "application/x-pkcs7-signature",
        "application/pgp-signature",
        "application/pgp-keys",
        "application/applefile",
    }
)
_TRACES: Final = re.compile(
    r"[ \t]*(?:\[(?:cid|image|inline image|Bild|img):?[^\]\n]{0,200}\])|<mailto:[^<>\n]{1,300}>",
    re.IGNORECASE,
)
"""What mail programs write into the text part for images and links."""
_BODY: Final = re.compile(r"<body\b[^<>]*>(.*?)(?:</body\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_CHARSETS: Final = ("utf-8", "cp1252")


class Draft(Struct):
    """The content of a draft."""

    subject: str = ""
    sender: str = ""
    """From, as written."""
    to: str = ""
    reply_to: str = ""
    text: str | None = None
    html: str | None = None
    """The HTML, in which images have their new paths: ``images/logo.png``."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Images and attachments by their path in the campaign's folder."""
    attachments: list[tuple[str, str]] = field(default_factory=list)
    """Path of each attached file, and the name that readers see."""
    notes: list[str] = field(default_factory=list)
    """What was not converted, as messages."""


class _Part(Struct):
    """A part of the message that is not a body."""

    message: Message
    name: str
    content: bytes
    kind: str
    inline: bool
    identifier: str
    location: str
    path: str = ""

    def is_named_in(self, html: str) -> bool:
        """Return whether the HTML, in lower case, refers to the image itself."""
        names = (f"cid:{self.identifier}", f"cid:{quote(self.identifier)}", self.location)
        return any(name.lower() in html for name in names if name not in {"", "cid:"})


def read_draft(data: bytes) -> Draft | None:
    """Parse a draft; None: *data* is not a message.

    Headers that cannot be read are left out, text in unknown charsets is read as UTF-8 or Windows-1252.
    """
    message = message_from_bytes(data.removeprefix(b"\xef\xbb\xbf"), policy=policy.compat32)
    if not message.keys() or not (
        {"subject", "mime-version", "content-type", "from"} & set(map(str.lower, message.keys()))
    ):
        return None
    draft = Draft(
        subject=mend(_header(message, "Subject")).text,
        sender=_header(message, "From"),
        to=_header(message, "To"),
        reply_to=_header(message, "Reply-To"),
    )
    for name in ("Cc", "Bcc"):
        if value := _header(message, name):
            draft.notes.append(f"{name} of the draft is not used: {value}")
    texts: list[str] = []
    pages: list[str | _Part] = []
    parts: list[_Part] = []
    for part in _leaves(message):
        _sort(part, texts, pages, parts)
    draft.text = "\n".join(texts) if texts else None
    _name(parts, pages)
    if any(isinstance(page, str) for page in pages):
        draft.html = _page(pages)
        _pictures(draft, parts)
        if draft.text is not None:
            draft.text = _TRACES.sub("", draft.text)
    _attach(draft, parts)
    return draft


def _leaves(message: Message) -> Iterator[Message]:
    if message.get_content_type() == "message/rfc822" or not message.is_multipart():
        yield message
        return
    payload = message.get_payload()
    for part in payload if isinstance(payload, list) else []:
        if not isinstance(part, str):
            yield from _leaves(part)


def _sort(part: Message, texts: list[str], pages: list[str | _Part], parts: list[_Part]) -> None:
    """Return what a part is: text, HTML, or a file."""
    kind = part.get_content_type()
    attached = part.get_content_disposition() == "attachment"
    name = _decoded(part.get_filename() or "")
    if kind == "text/plain" and not attached and not name:
        texts.append(_text(part))
    elif kind == "text/html" and not attached and not name:
        pages.append(_text(part))
    elif kind not in _NO_ATTACHMENT:
        content = part.get_payload(decode=True)
        if not isinstance(content, bytes):  # a message in the message
            inner = part.get_payload()
            whole = inner[0] if isinstance(inner, list) and inner else ""
            content = whole.encode() if isinstance(whole, str) else whole.as_bytes()
        found = _Part(
            part,
            name,
            content,
            kind,
            part.get_content_disposition() == "inline",
            (part.get("Content-ID") or "").strip().strip("<>"),
            (part.get("Content-Location") or "").strip(),
        )
        parts.append(found)
        pages.append(found)


def _text(part: Message) -> str:
    content = part.get_payload(decode=True)
    data = content if isinstance(content, bytes) else b""
    text = ""
    for charset in (part.get_content_charset() or "utf-8", *_CHARSETS):
        try:
            text = data.decode(charset)
            break
        except (LookupError, UnicodeDecodeError):
            continue
    else:
        text = data.decode("cp1252", "replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    if (_parameter(part, "format")).lower() == "flowed":
        text = _unflowed(text, keep=_parameter(part, "delsp").lower() != "yes")
    return text


def _parameter(part: Message, name: str) -> str:
    value = part.get_param(name)
    return value if isinstance(value, str) else ""


def _unflowed(text: str, *, keep: bool) -> str:
    """Join the lines that a mail program has wrapped (RFC 3676); *keep* the space at their ends."""
    lines: list[str] = []
    flows = False
    for line in text.split("\n"):
        bare = line.removeprefix(" ")
        if flows:
            lines[-1] += bare
        else:
            lines.append(bare)
        flows = bare.endswith(" ") and bare != "-- "
        if flows and not keep:
            lines[-1] = lines[-1][:-1]
    return "\n".join(lines)


def _header(message: Message, name: str) -> str:
    return _decoded(str(message.get(name) or ""))


def _decoded(value: str) -> str:
    """Decode encoded words; other text is kept."""
    text = re.sub(r"\r?\n(?=[ \t])", "", value)
    pieces = []
    for piece, charset in decode_header(text):
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        for name in (charset or "utf-8", *_CHARSETS):
            try:
                pieces.append(piece.decode(name))
                break
            except (LookupError, UnicodeDecodeError):
                continue
    return " ".join("".join(pieces).split())


# --- images and files ------------------------------------------------------------------------------------


def _name(parts: list[_Part], pages: list[str | _Part]) -> None:
    """Assign each file a unique path in the campaign's folder."""
    html = "".join(page for page in pages if isinstance(page, str))
    used = {unquote(name).lower() for name in _CID.findall(html)}
    taken: set[str] = set()
    for part in parts:
        located = bool(part.location) and part.location in html
        shown = part.identifier.lower() in used or located
        between = part.inline and part.kind.startswith("image/") and bool(html)
        folder = PICTURES if shown or between else FILES
        part.path = _free(folder, _safe(part), taken)


def _safe(part: _Part) -> str:
    name = part.name or (PurePath(unquote(part.location.replace("\\", "/"))).name if part.location else "")
    stem, dot, suffix = name.rpartition(".")
    if not dot or not 1 < len(suffix) < 8:
        kind = part.kind.rpartition("/")[2]
        usual = {"jpeg": "jpg", "svg+xml": "svg", "rfc822": "eml", "plain": "txt", "octet-stream": "bin"}
        stem, suffix = name or ("image" if part.kind.startswith("image/") else "file"), usual.get(kind, kind)
    return f"{_UNSAFE.sub('-', stem).strip('-.') or 'file'}.{_UNSAFE.sub('', suffix)}"


def _free(folder: str, name: str, taken: set[str]) -> str:
    stem, _, suffix = name.rpartition(".")
    path, number = f"{folder}/{name}", 2
    while path.lower() in taken:
        path, number = f"{folder}/{stem}-{number}.{suffix}", number + 1
    taken.add(path.lower())
    return path


def _page(pages: list[str | _Part]) -> str:
    """Return the HTML as one page, with the images that a mail program put between its pieces."""
    html = "".join(page for page in pages if isinstance(page, str)).lower()
    whole = ""
    for page in pages:
        if isinstance(page, str):
            body = _BODY.search(page) if whole else None
            more = body[1] if body else page
        elif whole and page.path.startswith(PICTURES) and not page.is_named_in(html):
            more = f'<img src="{quote(page.path)}" alt="{escape(page.name)}">'
        else:
            continue
        end = re.search(r"</body\s*>", whole, re.IGNORECASE)
        whole = f"{whole[: end.start()]}{more}{whole[end.start() :]}" if end else whole + more
    return whole


def _pictures(draft: Draft, parts: list[_Part]) -> None:
    """Refer to the images of the HTML by their paths, including embedded ones."""
    html = draft.html or ""
    by_name = {part.identifier.lower(): part for part in parts if part.identifier}

    def path(found: re.Match[str]) -> str:
        part = by_name.get(unquote(found[1]).lower())
        if part is None:
            draft.notes.append(f"the draft shows an image that it does not contain: {found[0]}")
            return found[0]
        return quote(part.path)

    html = _CID.sub(path, html)
    for part in sorted(parts, key=lambda one: -len(one.location)):
        if part.location and part.path.startswith(PICTURES):
            html = html.replace(part.location, quote(part.path))
    for part in parts:
        if part.path.startswith(PICTURES):
            draft.files[part.path] = part.content
    taken = {name.lower() for name in draft.files}

    def written(found: re.Match[str]) -> str:
        try:
            content = base64.b64decode(unquote(found["data"]), validate=False)
        except binascii.Error:
            return found[0]
        kind = {"jpeg": "jpg", "svg+xml": "svg"}.get(found["kind"].lower(), found["kind"].lower())
        name = _free(PICTURES, f"image.{_UNSAFE.sub('', kind)}", taken)
        draft.files[name] = content
        return quote(name)

    draft.html = _DATA.sub(written, html)


def _attach(draft: Draft, parts: list[_Part]) -> None:
    for part in parts:
        if part.path.startswith(PICTURES) and draft.html is not None:
            continue
        if part.kind == "application/ms-tnef":
            draft.notes.append(
                "winmail.dat is not used: in Outlook, choose HTML as the format and save again"
            )
        elif not part.content:
            draft.notes.append(f"{part.name or 'an attachment'} is empty and not used")
        else:
            draft.files[part.path] = part.content
            draft.attachments.append((part.path, part.name or PurePath(part.path).name))
