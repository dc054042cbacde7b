"""Freezing and thawing: the content of a row's message, and the message itself.

Frozen content depends on the row and on the campaign's version only: not on the campaign's secret, its name,
its folder, the time or earlier messages. Everything that is the same in all messages is made once; each row
adds what differs.
"""

from __future__ import annotations

# ruff: noqa: PTH119  a string, on every row
import hashlib
import os
from itertools import chain
from typing import TYPE_CHECKING, cast

from mailmerge import masking
from mailmerge.errors import AttachmentError, RowError, SecretLeak
from mailmerge.file_system import FILE_SYSTEM, FileSystem, PrivateFiles
from mailmerge.message import header_fields, invitation, open_token, verify
from mailmerge.message.attachments import (
    EncodedFiles,
    FilePart,
    FileStore,
)
from mailmerge.message.file_search import FileProblem, WantedPath
from mailmerge.message.inline import InlineImages
from mailmerge.message.text_bodies import TextEncoder
from mailmerge.model import OWN_HEADER, Envelope, FrozenMessage, Message, Place
from mailmerge.text import HALF_A_CHARACTER
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from mailmerge.addresses import Address, Mailbox
    from mailmerge.message.attachments import FileContents
    from mailmerge.message.dkim import DkimSignatures
    from mailmerge.model import AttachmentRule, FrozenFile, Recipient, Rendered, RenderedAttachment
    from mailmerge.unsubscribe import UnsubscribeKey

_SHORTEST_SECRET = 12
_SHORT_PIECE, _MOST_SEARCHED = 200, 100
_STAMP = ("Date", "Message-ID", OWN_HEADER)
_SIGNATURE = "DKIM-Signature"


class MessageBuilder:
    """Builds the messages of one campaign version, except what is added when they are thawed.

    Raises:
        AttachmentError: a file that every message needs is missing or refused.

    """

    files_digest: str
    """SHA-256 over the files that are the same in every message."""

    def __init__(
        self,
        *,
        version: str,
        base: Path,
        rules: Sequence[AttachmentRule] = (),
        constants: Sequence[RenderedAttachment | None] = (),
        static: Mapping[str, Iterable[str]] | None = None,
        files: FileSystem = FILE_SYSTEM,
        own: PrivateFiles | None = None,
        codes: Callable[[str], str] | None = None,
    ) -> None:
        """Encode what all messages share.

        Args:
            version: the campaign's content version; decides boundaries and Content-IDs.
            base: the folder of inline images.
            rules: the ``[[attach]]`` tables, in order.
            constants: by rule, the attachment that is the same for every row: found and read once.
            static: the fixed chunks of ``text`` and ``html``.
            files: how attachments and images are examined.
            own: our own files, which no message may contain.
            codes: returns the file of a QR code.

        """
        static = static or {}
        html = tuple(static.get("html", ()))
        self._rules = tuple(rules)
        self._skeleton = _Skeleton(version)
        self._store = FileStore(files, own, self._skeleton.boundaries)
        self._images = InlineImages(base, version, self._store, html, codes)
        self._text = TextEncoder(static.get("text", ()))
        try:
            self._html = TextEncoder(html, self._images)
            self._constants = {
                constant.rule: self._files(constant) for constant in constants if constant is not None
            }
        except FileProblem as problem:
            raise AttachmentError(
                problem.message, code=problem.code, hint=problem.hint, place=problem.place
            ) from None
        hashes = [part.file.sha256 for parts in self._constants.values() for part in parts]
        self.files_digest = hashlib.sha256(
            "".join([*hashes, "/", *self._images.digests()]).encode()
        ).hexdigest()
        self._from: tuple[object, bytes, str, int] = (None, b"", "", 0)
        """The latest sender, its field, its address, and the length of Date and Message-ID."""
        self._own_fields: dict[str, tuple[str, bytes]] = {}
        """Each header's latest value: most never change."""

    def freeze(
        self,
        rendered: Rendered,
        *,
        key: str,
        made: Mapping[int, tuple[str, str]] | None = None,
        calendar: str | None = None,
    ) -> FrozenMessage:
        """Build one message without its Date, its Message-ID and the bytes of its files.

        Args:
            rendered: the output of the templates for a row.
            key: the key of the row.
            made: files that were made for this row, path and name, by the number of their rule.
            calendar: the invitation, see `mailmerge.message.invitation`.

        Raises:
            RowError: an attachment or image is missing or refused, text cannot be encoded, or the result
                failed our own check, a bug that must not affect other rows.

        """
        parts: list[FilePart] = []
        try:
            body = self._body(rendered, parts, made or {}, calendar)
        except FileProblem as problem:
            row = problem.row or rendered.recipient.row
            raise RowError(
                problem.message, code=problem.code, hint=problem.hint, place=problem.place, row=row
            ) from None
        except UnicodeEncodeError as error:
            raise _surrogate(rendered.recipient, error) from None
        try:
            head, names = self._head(rendered)
            verify.verify_headers(head, names)
        except verify.UnfitMessageError as error:
            raise RowError(
                f"the message failed our final check ({error})",
                code="X901",
                hint="please report it, with the row's cells as far as you can share them",
                row=rendered.recipient.row,
                address=str(rendered.to[0].address),
            ) from error
        envelope = _envelope(rendered)
        files = tuple([part.file for part in parts])
        _, _, sender, size = self._from
        size += invitation.ROOM if calendar is not None else 0
        size += len(head) + sum([len(piece) for piece in body if piece.__class__ is bytes])
        return FrozenMessage(
            row=rendered.recipient.row,
            key=key,
            envelope=envelope,
            sender=sender,
            head=head,
            body=tuple(body),
            files=files,
            size=size + sum([part.octets for part in parts]),
            digest=_digest(envelope, head, body, files),
        )

    def _head(self, rendered: Rendered) -> tuple[bytes, list[str]]:
        """Return the header fields up to the MIME ones, with their names; Bcc is only in the envelope."""
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
        fields.append(header_fields.unstructured("Subject", rendered.subject))
        names.append("Subject")
        for name, value in rendered.headers:
            if value:
                fields.append(self._own_field(name, value))
                names.append(name)
        fields.append(b"MIME-Version: 1.0\r\n")
        names.append("MIME-Version")
        return b"".join(fields), names

    def _from_field(self, box: Mailbox) -> bytes:
        if self._from[0] is not box:
            field = header_fields.mailboxes("From", (box,))
            stamp = header_fields.stamp_size(box.address.domain)
            self._from = (box, field, str(box.address), stamp)
        return self._from[1]

    def _own_field(self, name: str, value: str) -> bytes:
        known, field = self._own_fields.get(name, ("", b""))
        if known != value:
            field = header_fields.unstructured(name, value)
            self._own_fields[name] = (value, field)
        return field

    def _body(
        self,
        rendered: Rendered,
        parts: list[FilePart],
        made: Mapping[int, tuple[str, str]],
        calendar: str | None,
    ) -> list[bytes | int]:
        """Return the MIME headers and the content, in pieces; a file is its number in *parts*, added here."""
        # Files of the body come first; whether others follow is known before it is encoded.
        attachments = self._attachments(rendered, made) if rendered.attachments else []
        text = self._texts(rendered, parts, calendar)
        if calendar is not None:
            files = (*_numbered(attachments, parts), invitation.file_part(calendar))
            return self._skeleton.mixed(text, files)
        return self._skeleton.mixed(text, _numbered(attachments, parts)) if attachments else text

    def _texts(self, rendered: Rendered, parts: list[FilePart], calendar: str | None) -> list[bytes | int]:
        skeleton = self._skeleton
        text = html = None
        if rendered.text is not None:
            text = skeleton.text(b"plain", *self._text.encode(rendered.text))
        if rendered.html is not None:
            chunks = self._images.joined(rendered.html)
            html = skeleton.text(b"html", *self._html.encode(chunks))
            if images := self._images.parts(chunks):
                html = skeleton.related(html, _numbered(images, parts))
        forms = [form for form in (text, html) if form is not None]
        if not forms:
            raise RuntimeError("a message needs a body, text or HTML")
        if calendar is not None:
            forms.append(invitation.alternative(calendar))
        return forms[0] if len(forms) == 1 else skeleton.alternative(*forms)

    def _attachments(self, rendered: Rendered, made: Mapping[int, tuple[str, str]]) -> list[FilePart]:
        constants, files = self._constants, self._store.files
        before = files.looking_for(rendered.recipient.row)
        try:
            found = list(
                chain.from_iterable(
                    constants[name.rule]
                    if name.rule in constants
                    else self._files(name)
                    if name.document is None
                    else [self._store.attachment(*made[name.rule])]
                    for name in rendered.attachments
                )
            )
        finally:
            files.looking_for(before)
        if rendered.recipient.others:  # several rows may share one file
            return list({(part.file.path, part.file.name): part for part in found}.values())
        return found

    def _files(self, name: RenderedAttachment) -> list[FilePart]:
        rule = self._rules[name.rule]
        try:
            return self._found(rule, name, alone=not (name.fixed or rule.shared))
        except FileProblem as problem:
            problem.place, problem.row = rule.place, name.row
            raise

    def _found(self, rule: AttachmentRule, name: RenderedAttachment, *, alone: bool) -> list[FilePart]:
        path = name.path
        if alone and name.empty is not None:
            # An empty cell that is the whole path means that the row has no file.
            if not path and rule.missing == "skip":
                return []
            raise _empty_value(name.empty)
        try:
            files = self._store.search.find(rule.base, path, rule.missing, alone=alone, fixed=name.fixed)
        except FileProblem:
            if name.empty is not None:  # the rest of the path is a folder, or nothing
                raise _empty_value(name.empty) from None
            raise
        if len(files) == 1 and name.name:
            labels = [name.name]
        elif len(files) == 1 and (wanted := WantedPath.parse(path)).literal:
            labels = [os.path.basename(wanted.shown)]  # as written: a link keeps its own name
        else:
            labels = [os.path.basename(file) for file in files]
        return [
            self._store.attachment(file, label, own=alone, guarded=alone and rule.guard)
            for file, label in zip(files, labels, strict=True)
        ]


class Thawer:
    """Adds Date, Message-ID and the bytes of its files to a frozen message, which can then be sent.

    The rest is unchanged, so the same Date and Message-ID make the same bytes, in the preview and on the
    wire. Files are read again, and must be what was frozen: SHA-256 decides, so a file that was replaced
    meanwhile is never sent.
    """

    def __init__(self, keep: int = 64 << 20, contents: FileContents | None = None) -> None:
        """Create it with an empty cache.

        Args:
            keep: memory limit for encoded files, in octets.
            contents: the source of the files; default: the disk.

        """
        self._parts = EncodedFiles(keep, contents)
        self._secrets: tuple[bytes, ...] = ()
        self._searched: set[bytes] = set()
        """Short pieces known to contain no secrets: what is between the parts is the same in all messages."""
        self._date: tuple[datetime | None, timedelta | None, bytes] = (None, None, b"")
        """The latest Date field: many messages are sent within one second."""

    def thaw(
        self,
        frozen: FrozenMessage,
        *,
        message_id: str,
        date: datetime,
        mail_from: Address | None = None,
        key: UnsubscribeKey | None = None,
        signatures: DkimSignatures | None = None,
    ) -> Message:
        """Return the message.

        Args:
            frozen: its content.
            message_id: with its angle brackets, see `mailmerge.message.message_id`.
            date: aware.
            mail_from: the reverse-path, if it is not the From address.
            key: the key for its unsubscribe token, if it has one; None: the token unsubscribes nobody.
            signatures: the DKIM signatures to add.

        Raises:
            RowError: a file was removed or has changed.
            SecretLeak: it contains a secret that is in use.
            RuntimeError: the result failed our own check, a bug.

        """
        if secrets := masking.in_use():
            self.refuse_secrets(frozen, secrets)
        stamp = self._date_field(date) + header_fields.id_fields(message_id)
        verify.verify_headers(stamp, _STAMP)
        head, body = frozen.head, invitation.stamped(frozen.body, date)
        if key is not None and open_token.is_in(head):
            head, body = open_token.filled(head, body, key.token(frozen.envelope.rcpt_to[0]))
        first, *rest = self._filled(frozen, body) if frozen.files else cast("tuple[bytes, ...]", body)
        head = stamp + head
        if signatures is not None:
            mime, blank, content = first.partition(b"\r\n\r\n")
            if not blank:
                raise RuntimeError("bug: a message has no blank line after its header")
            header = head + mime + b"\r\n"
            signature = signatures.fields(header, (content, *rest), frozen.sender, date)
            verify.verify_headers(signature, [_SIGNATURE] * signature.count(_SIGNATURE.encode()))
            head = signature + head
        envelope = frozen.envelope
        return Message(
            message_id=message_id,
            key=frozen.key,
            row=frozen.row,
            envelope=envelope if mail_from is None else Envelope(mail_from, envelope.rcpt_to),
            segments=(head + first, *rest),
            frozen=frozen.digest,
        )

    def refuse_secrets(self, frozen: FrozenMessage, secrets: tuple[bytes, ...]) -> None:
        """Refuse a message that contains a password or token: a safety net below all other measures.

        Raises:
            SecretLeak: its header or text contains one of *secrets*.

        """
        if secrets != self._secrets:
            self._secrets = secrets
            self._searched.clear()
            self._parts.search_for(secrets)
        where = "header" if verify.has_secret(frozen.head, secrets, header=True) else ""
        for piece in frozen.body if not where else ():
            if piece.__class__ is not bytes or len(piece) <= _SHORTEST_SECRET:
                continue
            short = len(piece) <= _SHORT_PIECE
            if short and piece in self._searched:
                continue
            if verify.has_secret(piece, secrets):
                where = "text"
                break
            if short and len(self._searched) < _MOST_SEARCHED:
                self._searched.add(piece)
        if where:
            raise _leak(frozen, f"the {where} of the message")

    def _filled(self, frozen: FrozenMessage, body: tuple[bytes | int, ...]) -> list[bytes]:
        """Return the body with the files in place of their numbers."""
        try:
            parts = list(map(self._parts.part, frozen.files))
        except FileProblem as problem:
            if problem.code == "C492":
                raise _leak(frozen, problem.message) from None
            raise RowError(problem.message, code=problem.code, hint=problem.hint, row=frozen.row) from None
        return [parts[piece] if isinstance(piece, int) else piece for piece in body]

    def _date_field(self, date: datetime) -> bytes:
        offset = date.utcoffset()
        if self._date[0] != date or self._date[1] != offset:
            self._date = (date, offset, header_fields.date_header(date))
        return self._date[2]


class _Skeleton:
    """The MIME structure: boundaries and part headers, made once.

    Each method returns the pieces of an entity: its MIME headers and its body, ending with CRLF. Boundaries
    contain ``=_``, which neither quoted-printable nor base64 can produce (RFC 2045 section 6.7); a part with
    another encoding is searched for them (`mailmerge.message.attachments.content_media_type`).
    """

    def __init__(self, version: str) -> None:
        digest = hashlib.sha256(f"{version}\0boundary".encode()).hexdigest()[:24]
        self._marks = {kind: f"=_{kind[0]}{digest}".encode() for kind in ("mixed", "related", "alternative")}
        self.boundaries = tuple(self._marks.values())
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

    def text(self, subtype: bytes, encoding: bytes, body: bytes) -> list[bytes | int]:
        """Return a text part."""
        verify.verify_bodies((body,))
        return [self._heads[subtype, encoding], body]

    def alternative(self, *forms: list[bytes | int]) -> list[bytes | int]:
        """Return the same content in several forms, the best one last (RFC 2046 section 5.1.4)."""
        pieces = [self._starts["alternative"], *forms[0]]
        for form in forms[1:]:
            pieces += (self._next["alternative"], *form)
        pieces.append(self._end["alternative"])
        return pieces

    def related(self, html: list[bytes | int], images: Iterable[int]) -> list[bytes | int]:
        """Return HTML with the images that it shows."""
        return self._multipart("related", html, images)

    def mixed(self, body: list[bytes | int], attachments: Iterable[int | bytes]) -> list[bytes | int]:
        """Return a body with attachments."""
        return self._multipart("mixed", body, attachments)

    def _multipart(
        self, kind: str, first: list[bytes | int], files: Iterable[int | bytes]
    ) -> list[bytes | int]:
        pieces: list[bytes | int] = [self._starts[kind], *first]
        for file in files:
            pieces += (self._next[kind], file)
        pieces.append(self._end[kind])
        return pieces


def _leak(frozen: FrozenMessage, where: str) -> SecretLeak:
    return SecretLeak(
        f"row {frozen.row}: {where} contains a password or token that is in use; it was not sent",
        hint="check the row's cells and files, and change the secret if anybody else may have seen it",
    )


def _empty_value(name: str) -> FileProblem:
    what = f"`{name}` is" if name else "a value in it is"
    return FileProblem(
        "A312",
        f"the attachment's path is not complete: {what} empty",
        "fill in the cell, or exclude the row with --where; if the path is correct: `shared = true`",
    )


def _numbered(new: Sequence[FilePart], parts: list[FilePart]) -> range:
    """Add files to those of the message, and return their numbers."""
    parts += new
    return range(len(parts) - len(new), len(parts))


def _digest(envelope: Envelope, head: bytes, body: Iterable[bytes | int], files: Sequence[FrozenFile]) -> str:
    """Return the frozen digest: it changes with anything that a reader may see, and with the recipients.

    A file counts by its name and content, wherever it is. An unsubscribe token is not part of it yet: the
    placeholder, which is the same for everybody, counts in its place.
    """
    recipients = " ".join([f"{address.local}@{address.domain}" for address in envelope.rcpt_to])
    sha = hashlib.sha256(b"%s\0%s" % (recipients.encode("ascii"), head))
    for piece in body:
        if isinstance(piece, bytes):
            sha.update(piece)
        else:  # between two NULs, which nothing else contains
            file = files[piece]
            sha.update(f"\0{file.sha256} {file.media_type} {file.name}\0".encode())
    return sha.hexdigest()


def _envelope(rendered: Rendered) -> Envelope:
    mail_from = rendered.from_.address
    if len(rendered.to) == 1 and not rendered.cc and not rendered.bcc:
        return Envelope(mail_from, (rendered.to[0].address,))
    addresses: dict[str, Address] = {}
    for box in (*rendered.to, *rendered.cc, *rendered.bcc):
        addresses.setdefault(box.address.normalised, box.address)
    return Envelope(mail_from, tuple(addresses.values()))


def _surrogate(recipient: Recipient, error: UnicodeEncodeError) -> RowError:
    """Return the error that names the column with half of a character."""
    half = error.object[error.start]
    for heading, value in recipient.fields.items():
        if half in displayed(value):
            message, place = f"`{heading}` contains {HALF_A_CHARACTER}", Place(cell=f"column {heading}")
            return RowError(message, code="D118", place=place, row=recipient.row)
    return RowError(f"the body contains {HALF_A_CHARACTER}", code="D118", row=recipient.row)


def with_bcc(message: Message) -> bytes:
    """Return the bytes that were sent, preceded by the Bcc field, which nobody else receives."""
    from email.parser import BytesHeaderParser
    from email.utils import getaddresses

    content = message.content
    header = BytesHeaderParser().parsebytes(content.partition(b"\r\n\r\n")[0])
    shown = getaddresses([*header.get_all("To", ()), *header.get_all("Cc", ())])
    seen = {address.lower() for _, address in shown}
    hidden = [str(address) for address in message.envelope.rcpt_to if str(address).lower() not in seen]
    return b"Bcc: %b\r\n%b" % (",\r\n ".join(hidden).encode(), content) if hidden else content
