"""The builder: everything that is the same in all messages is made once, each row adds what differs."""

from __future__ import annotations

import hashlib
import hmac
from itertools import chain
from typing import TYPE_CHECKING

from mailmerge.errors import AttachmentError, RowError
from mailmerge.message import header_fields, verify
from mailmerge.message.attachments import EncodedFile, FileProblem, FileStore, clean_name, find_files
from mailmerge.message.bodies import TextEncoder
from mailmerge.message.inline import InlineImages
from mailmerge.model import Envelope, Message, Place
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from mailmerge.addresses import Address, Mailbox
    from mailmerge.model import AttachmentRule, Recipient, Rendered, RenderedAttachment


class MessageBuilder:
    """Builds the messages of one campaign version.

    Content is a pure function of what `build` is given: the same row, Message-ID and Date make the same
    bytes in preview and on the wire, whatever was built before.

    Raises:
        AttachmentError: a file that every message needs is missing or refused.

    """

    files_digest: str
    """SHA-256 over the files that are the same in every message."""

    def __init__(
        self,
        *,
        boundary_key: bytes,
        base: Path,
        rules: Sequence[AttachmentRule] = (),
        constants: Sequence[RenderedAttachment | None] = (),
        static: Mapping[str, Iterable[str]] | None = None,
        mail_from: Address | None = None,
    ) -> None:
        """Encode what all messages share.

        Args:
            boundary_key: decides boundaries and Content-IDs; one per campaign version.
            base: the folder of inline images.
            rules: the ``[[attach]]`` tables, in order.
            constants: of those, what is the same for every row: it is read and encoded once.
            static: the fixed chunks of ``text`` and ``html``.
            mail_from: the reverse-path, if it is not the From address.

        """
        static = static or {}
        html = tuple(static.get("html", ()))
        self._rules = tuple(rules)
        self._mail_from = mail_from
        self._store = FileStore()
        self._skeleton = _Skeleton(boundary_key)
        self._images = InlineImages(base, boundary_key, self._store, html)
        self._text = TextEncoder(static.get("text", ()))
        try:
            self._html = TextEncoder(html, self._images)
            self._constants = {
                constant.rule: self._files(self._rules[constant.rule], constant)
                for constant in constants
                if constant is not None
            }
        except FileProblem as problem:
            raise AttachmentError(
                problem.message, code=problem.code, hint=problem.hint, place=problem.place
            ) from None
        hashes = [part.sha256 for parts in self._constants.values() for part in parts]
        self.files_digest = hashlib.sha256(
            "".join([*hashes, "/", *self._images.digests()]).encode()
        ).hexdigest()
        self._date: tuple[datetime | None, timedelta | None, bytes] = (None, None, b"")
        self._from: tuple[object, bytes] = (None, b"")
        self._own_fields: dict[str, tuple[str, bytes]] = {}
        """Each header's latest value: most never change."""

    def build(self, rendered: Rendered, *, key: str, message_id: str, date: datetime) -> Message:
        """Build one message.

        Raises:
            RowError: an attachment or image is missing or refused, or a text cannot be encoded.
            RuntimeError: the result failed our own check, a bug.

        """
        try:
            body = self._body(rendered)
        except FileProblem as problem:
            row = rendered.recipient.row
            raise RowError(
                problem.message, code=problem.code, hint=problem.hint, place=problem.place, row=row
            ) from None
        except UnicodeEncodeError as error:
            raise _surrogate(rendered.recipient, error) from None
        block, names = self._header_block(rendered, message_id, date)
        verify.verify_headers(block, names)
        return Message(
            message_id=message_id,
            key=key,
            row=rendered.recipient.row,
            envelope=_envelope(rendered, self._mail_from),
            segments=(block + body[0], *body[1:]),
        )

    def _header_block(self, rendered: Rendered, message_id: str, date: datetime) -> tuple[bytes, list[str]]:
        """Return all header fields but the MIME ones, with their names; Bcc is only in the envelope."""
        fields = [self._from_field(rendered.from_)]
        names = ["From"]
        if rendered.sender and rendered.sender.address != rendered.from_.address:
            fields.append(header_fields.mailboxes("Sender", (rendered.sender,)))
            names.append("Sender")
        for name, boxes in (("To", rendered.to), ("Cc", rendered.cc), ("Reply-To", rendered.reply_to)):
            if boxes:
                field = header_fields.mailboxes(name, boxes)
                verify.verify_addresses(field, [f"{b.address.local}@{b.address.domain}" for b in boxes])
                fields.append(field)
                names.append(name)
        fields += (
            header_fields.unstructured("Subject", rendered.subject),
            self._date_field(date),
            b"Message-ID: " + message_id.encode("ascii") + b"\r\n",
        )
        names += ("Subject", "Date", "Message-ID")
        for name, value in rendered.headers:
            if value:
                fields.append(self._own_field(name, value))
                names.append(name)
        fields.append(b"MIME-Version: 1.0\r\n")
        names.append("MIME-Version")
        return b"".join(fields), names

    def _from_field(self, box: Mailbox) -> bytes:
        if self._from[0] is not box:
            self._from = (box, header_fields.mailboxes("From", (box,)))
        return self._from[1]

    def _own_field(self, name: str, value: str) -> bytes:
        known, field = self._own_fields.get(name, ("", b""))
        if known != value:
            field = header_fields.unstructured(name, value)
            self._own_fields[name] = (value, field)
        return field

    def _date_field(self, date: datetime) -> bytes:
        offset = date.utcoffset()
        if self._date[0] != date or self._date[1] != offset:
            self._date = (date, offset, header_fields.date_header(date))
        return self._date[2]

    def _body(self, rendered: Rendered) -> list[bytes]:
        """Return the MIME headers and the content, in pieces; files are the same objects in every message."""
        attachments = self._attachments(rendered.attachments) if rendered.attachments else []
        text = self._texts(rendered)
        return self._skeleton.mixed(text, attachments) if attachments else text

    def _texts(self, rendered: Rendered) -> list[bytes]:
        skeleton = self._skeleton
        text = html = None
        if rendered.text is not None:
            text = skeleton.text(b"plain", *self._text.encode(rendered.text))
        if rendered.html is not None:
            chunks = self._images.joined(rendered.html)
            html = skeleton.text(b"html", *self._html.encode(chunks))
            if images := self._images.parts(chunks):
                html = skeleton.related(html, images)
        if text is None or html is None:
            only = html if text is None else text
            if only is None:
                raise RuntimeError("a message needs a text or an HTML body")
            return only
        return skeleton.alternative(text, html)

    def _attachments(self, names: Iterable[RenderedAttachment]) -> list[EncodedFile]:
        constants = self._constants
        return list(
            chain.from_iterable(
                constants[name.rule] if name.rule in constants else self._files(self._rules[name.rule], name)
                for name in names
            )
        )

    def _files(self, rule: AttachmentRule, name: RenderedAttachment) -> list[EncodedFile]:
        try:
            return self._found(rule, name)
        except FileProblem as problem:
            problem.place = rule.place
            raise

    def _found(self, rule: AttachmentRule, name: RenderedAttachment) -> list[EncodedFile]:
        from glob import has_magic

        files = find_files(rule.base, name.path, rule.missing)
        if len(files) == 1 and name.name:
            labels = [name.name]
        elif len(files) == 1 and not has_magic(name.path):
            labels = [name.path]  # as written: a link keeps its own name
        else:
            labels = files
        return [
            self._store.attachment(file, clean_name(label)) for file, label in zip(files, labels, strict=True)
        ]


class _Skeleton:
    """The MIME structure: boundaries and part headers, made once.

    Each method returns the pieces of an entity: its MIME headers and its body, ending with CRLF. Boundaries
    hold ``=_``, which neither quoted-printable nor base64 can produce (RFC 2045 section 6.7).
    """

    def __init__(self, key: bytes) -> None:
        digest = hmac.new(key, b"boundary", hashlib.sha256).hexdigest()[:24]
        self._marks = {kind: f"=_{kind[0]}{digest}".encode() for kind in ("mixed", "related", "alternative")}
        self._heads = {
            (
                subtype,
                encoding,
            ): b'Content-Type: text/%b; charset="utf-8"\r\nContent-Transfer-Encoding: %b\r\n\r\n'
            % (subtype, encoding)
            for subtype in (b"plain", b"html")
            for encoding in (b"quoted-printable", b"base64")
        }
        self._starts = {}
        for kind, mark in self._marks.items():
            kind_of_root = b';\r\n type="text/html"' if kind == "related" else b""
            head = b'Content-Type: multipart/%b;\r\n boundary="%b"' % (kind.encode(), mark)
            self._starts[kind] = head + kind_of_root + b"\r\n\r\n--" + mark + b"\r\n"
        self._next = {kind: b"\r\n--" + mark + b"\r\n" for kind, mark in self._marks.items()}
        self._end = {kind: b"\r\n--" + mark + b"--\r\n" for kind, mark in self._marks.items()}

    def text(self, subtype: bytes, encoding: bytes, body: bytes) -> list[bytes]:
        """Return a text part."""
        verify.verify_bodies((body,))
        return [self._heads[subtype, encoding], body]

    def alternative(self, text: list[bytes], html: list[bytes]) -> list[bytes]:
        """Return the same content twice, the better form last (RFC 2046 section 5.1.4)."""
        return [
            self._starts["alternative"],
            *text,
            self._next["alternative"],
            *html,
            self._end["alternative"],
        ]

    def related(self, html: list[bytes], images: Iterable[EncodedFile]) -> list[bytes]:
        """Return HTML with the images it shows."""
        return self._multipart("related", html, images)

    def mixed(self, body: list[bytes], attachments: Iterable[EncodedFile]) -> list[bytes]:
        """Return a body with attachments."""
        return self._multipart("mixed", body, attachments)

    def _multipart(self, kind: str, first: list[bytes], parts: Iterable[EncodedFile]) -> list[bytes]:
        pieces = [self._starts[kind], *first]
        for part in parts:
            pieces += (self._next[kind], part.body)
        pieces.append(self._end[kind])
        return pieces


def _envelope(rendered: Rendered, mail_from: Address | None) -> Envelope:
    mail_from = mail_from or rendered.from_.address
    if len(rendered.to) == 1 and not rendered.cc and not rendered.bcc:
        return Envelope(mail_from, (rendered.to[0].address,))
    addresses: dict[str, Address] = {}
    for box in (*rendered.to, *rendered.cc, *rendered.bcc):
        addresses.setdefault(box.address.normalised, box.address)
    return Envelope(mail_from, tuple(addresses.values()))


def _surrogate(recipient: Recipient, error: UnicodeEncodeError) -> RowError:
    """Name the column that holds half of a character."""
    half = error.object[error.start]
    for heading, value in recipient.fields.items():
        if half in displayed(value):
            message, place = (
                f"`{heading}` contains half a character (lone surrogate)",
                Place(cell=f"column {heading}"),
            )
            return RowError(message, code="D118", place=place, row=recipient.row)
    return RowError("the body contains half a character (lone surrogate)", code="D118", row=recipient.row)
