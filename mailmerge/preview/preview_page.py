"""The preview page: one HTML file that contains a whole campaign and needs no network, server or other file.

Rows are written as they come, in deflated blocks that the page's script opens when they are viewed; so
neither writing nor opening the page takes memory for more than a few rows. Its policy (CSP) allows only its
own script, by hash, and loads nothing at all.

Ten thousand messages differ in a few words. A row is therefore an entry for the list, and details for when it
is opened, in which strings that recur from message to message, attachments and images are stored once each
(`StringTable`, `Blobs`). `Outliers` remembers unusual rows.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import html
import json
import re
import zlib
from binascii import a2b_base64
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct

from mailmerge.message.text_bodies import BASE64_HEAD
from mailmerge.model import Severity
from mailmerge.text import rows_named
from mailmerge.values import displayed, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from mailmerge.model import Diagnostic, Message, Recipient, Rendered, Result

_MOST_IN_LIST = 160
"""Characters of a cell that the search covers; the row itself shows all of them."""
_PIECE = re.compile(r"[^\n>]*[\n>]?")
_DISPOSITION = re.compile(rb"\r\nContent-Disposition: (attachment|inline)")


class PageRow(Struct, frozen=True):
    """One row to show, and what is known about it."""

    result: Result
    recipient: Recipient
    diagnostics: tuple[Diagnostic, ...] = ()
    standing: str = ""
    """Its status, in one line."""
    message: Message | None = None
    to_come: tuple[str, ...] = ()
    """The header fields that are made when it is sent."""
    rendered: Rendered | None = None
    marked: Rendered | None = None
    """The row rendered again with marks around the values; None if that is not possible."""


def list_entry(row: PageRow) -> list[Any]:
    """Return what the list and the search need, in the order that the page's script expects."""
    rendered, message = row.rendered, row.message
    codes = [found.code for found in row.diagnostics]
    return [
        row.result.row,
        str(row.result.status),
        row.result.address,
        ", ".join(box.name for box in rendered.to if box.name) if rendered else "",
        rendered.subject if rendered else "",
        message.size if message else 0,
        _attachments(message),
        sum(found.severity is Severity.ERROR for found in row.diagnostics),
        list(dict.fromkeys(codes)),
        [text[:_MOST_IN_LIST] for text in _texts(row.recipient)],
    ]


def _texts(recipient: Recipient) -> list[str]:
    """Return the displayed cells: for several rows with one message, the distinct values of each column."""
    if not recipient.others:
        return list(map(displayed, recipient.values))
    every = zip(recipient.values, *(other.values for _, other in recipient.others), strict=True)
    return [" · ".join(dict.fromkeys(map(displayed, cells))) for cells in every]


def details(row: PageRow, strings: StringTable, blobs: Blobs) -> dict[str, Any]:
    """Return everything else; the message's own bytes can be assembled from it."""
    values: dict[str, Any] = {"types": [name_of(value) for value in row.recipient.values]}
    texts = enumerate(_texts(row.recipient))
    long = {index: text for index, text in texts if len(text) > _MOST_IN_LIST}
    if row.recipient.others:
        values["rows"] = rows_named(row.recipient.rows, 100).capitalize()
    if long:
        values["long"] = long
    if row.standing:
        values["standing"] = row.standing
    if row.diagnostics:
        values["checks"] = [diagnostic_values(found) for found in row.diagnostics]
    if row.to_come:
        values["to_come"] = list(row.to_come)
    if row.message:
        values["from"] = str(row.message.envelope.mail_from)
        values["rcpt"] = [str(address) for address in row.message.envelope.rcpt_to]
        values["content"] = list(_segments(row.message, strings, blobs))
    if row.marked:
        bodies = {"html": row.marked.html, "text": row.marked.text}
        values |= {name: strings.fold(chunks) for name, chunks in bodies.items() if chunks is not None}
    return values


def diagnostic_values(found: Diagnostic) -> dict[str, Any]:
    """Return a diagnostic as plain values, without empty ones."""
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


def _segments(message: Message, strings: StringTable, blobs: Blobs) -> Iterator[Folded | dict[str, Any]]:
    """Yield the content: text, base64 of text, or a reference to a file that many messages may share."""
    before = b""
    for segment in message.segments:
        if _disposition(segment):
            yield blobs.reference(segment)
        elif before.endswith(BASE64_HEAD):
            text = a2b_base64(segment).decode("utf-8", "surrogatepass")
            yield {"base64": strings.fold(_PIECE.findall(text)[:-1])}
        else:
            yield strings.fold(segment.decode("ascii").splitlines(keepends=True))
        before = segment


def _attachments(message: Message | None) -> int:
    if message is None:
        return 0
    return sum(_disposition(segment) == b"attachment" for segment in message.segments)


def _disposition(segment: bytes) -> bytes | None:
    """Return the disposition of attachments and inline images, which are separate segments."""
    if not segment.startswith(b"Content-"):
        return None
    match = _DISPOSITION.search(segment, 0, 4000)
    return match[1] if match else None


# --- strings that recur ----------------------------------------------------------------------------------

Folded = list["str | list[int]"]

_MOST_CHARACTERS = 8 << 20
_MOST_CANDIDATES = 100_000


class StringTable:
    """Numbers the pieces that occur twice; memory is bounded, and pieces that do not fit stay literal."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._numbers: dict[str, int] = {}
        self._once: set[str] = set()
        self._room = _MOST_CHARACTERS
        self._room_once = _MOST_CHARACTERS

    def fold(self, pieces: Iterable[str]) -> Folded:
        """Return *pieces*, joined where they are literal, numbered where they recur."""
        folded: Folded = []
        run, following = [0, 0], -1
        for piece in pieces:
            number = self._numbers.get(piece)
            if number is None:
                number = self._number(piece)
            if number is None:
                # Seen for the first time, or too large to keep: it stays literal here and is never rewritten,
                # so that each row can be written as it comes.
                following = -1
                last = folded[-1] if folded else None
                if isinstance(last, str):
                    folded[-1] = last + piece
                else:
                    folded.append("".join((piece,)))  # noqa: FLY002  Markup becomes str
            elif number == following:
                run[1] += 1
                following += 1
            else:
                run, following = [number, 1], number + 1
                folded.append(run)
        return folded

    def _number(self, piece: str) -> int | None:
        """Return the number of a piece that occurs again; None: it is new, or the table is full."""
        if piece not in self._once:
            if len(self._once) > _MOST_CANDIDATES or self._room_once < len(piece):
                self._once.clear()
                self._room_once = _MOST_CHARACTERS
            self._once.add(piece)
            self._room_once -= len(piece)
            return None
        if self._room < len(piece):
            return None
        self._room -= len(piece)
        self._once.discard(piece)
        self._numbers[piece] = len(self.pieces)
        self.pieces.append("".join((piece,)))  # noqa: FLY002  Markup becomes str
        return len(self.pieces) - 1


# --- files ---------------------------------------------------------------------------------------------

_MOST_BLOBS = 24 << 20
"""Most octets of encoded files in one page."""


class Blobs:
    """Passes each new file to *write* once and returns references to it.

    A file that does not fit any more is left out: the page shows only its MIME header and size.
    """

    def __init__(self, write: Callable[[bytes], None], room: int = _MOST_BLOBS) -> None:
        self._write = write
        self._room = room
        self._numbers: dict[bytes, int] = {}
        self._kept: dict[int, tuple[bytes, int]] = {}
        """The objects that messages share, to hash each of them once."""

    def reference(self, part: bytes) -> dict[str, Any]:
        """Return ``{"blob": number}``, or ``{"head": ..., "size": ...}`` for a part left out."""
        known, number = self._kept.get(id(part), (None, -1))
        if known is part:
            return {"blob": number}
        digest = hashlib.sha256(part).digest()
        if digest in self._numbers:
            return {"blob": self._numbers[digest]}
        if len(part) > self._room:
            head = part[: part.find(b"\r\n\r\n") + 4]
            return {"head": head.decode("ascii"), "size": len(part)}
        self._room -= len(part)
        number = self._numbers[digest] = len(self._numbers)
        self._kept[id(part)] = (part, number)
        self._write(part)
        return {"blob": number}


# --- unusual rows ----------------------------------------------------------------------------------

_KEPT = 3
_RARE_SHARE = 0.05
_MOST_BRANCHES = 1000
_MOST_RARE = 50


class Outliers:
    """Remembers the few unusual rows of a list; memory does not grow with the list."""

    def __init__(self) -> None:
        self._rows = 0
        self._longest: list[tuple[int, int]] = []
        self._shortest: list[tuple[int, int]] = []
        self._biggest: list[tuple[int, int]] = []
        self._smallest: list[tuple[int, int]] = []
        self._branches: dict[int, list[int]] = {}
        """By hash of a branch: how many rows took it, then the first of them."""

    def add(self, row: int, *, length: int, size: int, chunks: Iterable[str]) -> None:
        """Add a row: the *length* of its text, the *size* of its message, its fixed *chunks*."""
        self._rows += 1
        ranks = (length, -length, size, -size)
        heaps = (self._longest, self._shortest, self._biggest, self._smallest)
        for heap, rank in zip(heaps, ranks, strict=True):
            heapq.heappush(heap, (rank, -row))  # of equal ones the first rows are kept
            if len(heap) > _KEPT:
                heapq.heappop(heap)
        branch = hash(frozenset(chunks))
        if branch in self._branches or len(self._branches) < _MOST_BRANCHES:
            rows = self._branches.setdefault(branch, [0])
            rows[0] += 1
            if len(rows) <= _MOST_RARE:
                rows.append(row)

    def rows(self) -> dict[str, list[int]]:
        """Return row numbers by what is unusual about the rows; what all rows share is not unusual."""
        return {
            "longest": _outliers(self._longest, self._shortest, self._rows),
            "shortest": _outliers(self._shortest, self._longest, self._rows),
            "biggest": _outliers(self._biggest, self._smallest, self._rows),
            "rare": self._rare(),
        }

    def _rare(self) -> list[int]:
        if len(self._branches) < 2:
            return []
        most = max(1, int(self._rows * _RARE_SHARE))
        rare = [rows[1:] for rows in self._branches.values() if rows[0] <= most]
        return sorted(row for rows in rare for row in rows)[:_MOST_RARE]


def _outliers(heap: list[tuple[int, int]], others: list[tuple[int, int]], rows: int) -> list[int]:
    """Return the rows in *heap*, the most unusual first; none if all rows are alike."""
    if rows <= _KEPT or -max(others)[0] == max(heap)[0]:
        return []
    return [-row for _, row in sorted(heap, reverse=True)]


ROWS_PER_BLOCK = 50
_ENTRIES_PER_BLOCK = 1000
_PIECES_PER_BLOCK = 5000
_SCRIPTS = (
    "dom.js",
    "data.js",
    "mime.js",
    "search.js",
    "list.js",
    "frame.js",
    "compare.js",
    "tabs.js",
    "state.js",
    "main.js",
)
_DATA = "<!-- data -->"


class PageWriter:
    """Writes the page to *stream*: `add` each row, then `finish`.

    Args:
        stream: the file that receives the page.
        title: the campaign's name.
        marks: the marks before and after each value in marked texts.
        live: the page is served by `PreviewServer` and may listen to its events.

    """

    def __init__(
        self, stream: BinaryIO, title: str, *, marks: tuple[str, str] = ("", ""), live: bool = False
    ) -> None:
        self._stream = stream
        self._marks = marks
        self._strings = StringTable()
        self._blobs = Blobs(self._write_blob)
        self._outliers = Outliers()
        self._rows: list[dict[str, Any]] = []
        self._entries: list[list[Any]] = []
        self.count = 0
        """Rows written so far."""
        before, self._after = _template(title, live=live)
        stream.write(before.encode())

    def add(self, row: PageRow) -> None:
        """Write one row."""
        self._entries.append(list_entry(row))
        self._rows.append(details(row, self._strings, self._blobs))
        if row.rendered and row.message:
            self._outliers.add(
                row.recipient.row,
                length=sum(map(len, row.rendered.text or row.rendered.html or ())),
                size=row.message.size,
                chunks=self._fixed_chunks(row),
            )
        self.count += 1
        if len(self._rows) == ROWS_PER_BLOCK:
            self._write_rows()
        if len(self._entries) == _ENTRIES_PER_BLOCK:
            self._write_entries()

    def _fixed_chunks(self, row: PageRow) -> list[str]:
        """Return the strings from the templates: they show which branches the row took."""
        if row.marked is None:
            return []
        chunks = (*(row.marked.text or ()), *(row.marked.html or ()))
        return [chunk for chunk in chunks if self._marks[0] not in chunk]

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write what is known only at the end, and the script."""
        if self._rows:
            self._write_rows()
        if self._entries:
            self._write_entries()
        pieces = self._strings.pieces
        for start in range(0, len(pieces), _PIECES_PER_BLOCK):
            self._write_block("pieces", pieces[start : start + _PIECES_PER_BLOCK])
        more = {
            "marks": self._marks,
            "unusual": self._outliers.rows(),
            "block": ROWS_PER_BLOCK,
            "shown": self.count,
        }
        self._write_block("facts", {**facts, **more})
        self._stream.write(self._after.encode())

    def _write_rows(self) -> None:
        self._write_block("rows", self._rows)
        self._rows = []

    def _write_entries(self) -> None:
        self._write_block("entries", self._entries)
        self._entries = []

    def _write_blob(self, part: bytes) -> None:
        self._write("blob", part)

    def _write_block(self, kind: str, values: Any) -> None:
        self._write(
            kind, json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        )

    def _write(self, kind: str, data: bytes) -> None:
        self._stream.write(b'<script type="text/plain" data-block="%b">' % kind.encode())
        self._stream.write(base64.b64encode(zlib.compress(data, 6)))
        self._stream.write(b"</script>\n")


def _template(title: str, *, live: bool) -> tuple[str, str]:
    """Return the page before and after its data."""
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _read("page.html")
    values = {
        "{{ policy }}": policy(digest, live=live),
        "{{ title }}": html.escape(title),
        "{{ style }}": _read("page.css"),
        "{{ script }}": script,
    }
    for mark, value in values.items():
        page = page.replace(mark, value)
    before, _, after = page.partition(_DATA)
    return before, after


def policy(script_digest: str, *, live: bool) -> str:
    """Return the page's Content-Security-Policy; frames with a message inherit it, hence inline styles."""
    connect = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; script-src 'sha256-{script_digest}'; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


@cache
def _script() -> str:
    return '"use strict";\n' + "".join(_read(name) for name in _SCRIPTS)


@cache
def _read(name: str) -> str:
    return files("mailmerge.preview").joinpath("page", name).read_text("utf-8")
