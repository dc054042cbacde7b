"""One row as the page holds it: an entry for the list, and all the rest for when the row is opened."""

from __future__ import annotations

import re
from binascii import a2b_base64
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mailmerge.model import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.model import Diagnostic, Listed, Message, Recipient, Rendered, Value
    from mailmerge.preview.blobs import Blobs
    from mailmerge.preview.string_table import Folded, Vocabulary

_MOST_IN_LIST = 160
"""Characters of a cell that can be searched; the row itself shows all of them."""
_PIECE = re.compile(r"[^\n>]*[\n>]?")
_DISPOSITION = re.compile(rb"\r\nContent-Disposition: (attachment|inline)")
_BASE64_TEXT = b"Content-Transfer-Encoding: base64\r\n\r\n"


class PageRow(Struct, frozen=True):
    """One row to show, and what is known about it."""

    listed: Listed
    recipient: Recipient
    diagnostics: tuple[Diagnostic, ...] = ()
    message: Message | None = None
    rendered: Rendered | None = None
    marked: Rendered | None = None
    """Rendered once more with marks around the values; None where that is not possible."""


def list_entry(row: PageRow) -> list[Any]:
    """Give what the list and the search need, in the order that the page's script expects."""
    rendered, message = row.rendered, row.message
    codes = [found.code for found in row.diagnostics]
    return [
        row.listed.row,
        "ready" if row.listed.status is Status.PENDING else str(row.listed.status),
        row.listed.address,
        ", ".join(box.name for box in rendered.to if box.name) if rendered else "",
        rendered.subject if rendered else "",
        message.size if message else 0,
        _attachments(message),
        sum(found.severity is Severity.ERROR for found in row.diagnostics),
        list(dict.fromkeys(codes)),
        [_text(value)[:_MOST_IN_LIST] for value in row.recipient.values],
    ]


def details(row: PageRow, vocabulary: Vocabulary, blobs: Blobs) -> dict[str, Any]:
    """Give everything else; the message's own bytes can be put together from it."""
    values: dict[str, Any] = {"types": [_type(value) for value in row.recipient.values]}
    texts = map(_text, row.recipient.values)
    long = {index: text for index, text in enumerate(texts) if len(text) > _MOST_IN_LIST}
    if long:
        values["long"] = long
    if row.listed.detail:
        values["detail"] = row.listed.detail
    if row.diagnostics:
        values["checks"] = [diagnostic_values(found) for found in row.diagnostics]
    if row.message:
        values["from"] = str(row.message.envelope.mail_from)
        values["rcpt"] = [str(address) for address in row.message.envelope.rcpt_to]
        values["content"] = list(_segments(row.message, vocabulary, blobs))
    if row.marked:
        bodies = {"html": row.marked.html, "text": row.marked.text}
        values |= {name: vocabulary.fold(chunks) for name, chunks in bodies.items() if chunks is not None}
    return values


def diagnostic_values(found: Diagnostic) -> dict[str, Any]:
    """Give a diagnostic as plain values, without those that say nothing."""
    values: dict[str, Any] = {
        "code": found.code,
        "severity": str(found.severity),
        "message": found.message,
        "hint": found.hint,
    }
    if place := found.place:
        values |= {"path": place.path, "line": place.line, "column": place.column, "cell": place.cell}
        values |= {"source": place.source, "width": place.width if place.column else None}
    return {name: value for name, value in values.items() if value is not None}


def _segments(message: Message, vocabulary: Vocabulary, blobs: Blobs) -> Iterator[Folded | dict[str, Any]]:
    """Yield the content: text, base64 of a text, or a reference to a file that many messages may share."""
    before = b""
    for segment in message.segments:
        if _disposition(segment):
            yield blobs.reference(segment)
        elif before.endswith(_BASE64_TEXT):
            text = a2b_base64(segment).decode("utf-8", "surrogatepass")
            yield {"base64": vocabulary.fold(_PIECE.findall(text)[:-1])}
        else:
            yield vocabulary.fold(segment.decode("ascii").splitlines(keepends=True))
        before = segment


def _attachments(message: Message | None) -> int:
    if message is None:
        return 0
    return sum(_disposition(segment) == b"attachment" for segment in message.segments)


def _disposition(segment: bytes) -> bytes | None:
    """Tell attachments and inline images, which are segments of their own, from all else."""
    if not segment.startswith(b"Content-"):
        return None
    match = _DISPOSITION.search(segment, 0, 4000)
    return match[1] if match else None


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, (date, time)):
        return value.isoformat()
    return str(value)


def _type(value: Value) -> str:
    kinds = ((bool, "yes/no"), (str, "text"), (datetime, "date, time"), (date, "date"), (time, "time"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")
