"""The preview page: one HTML file that holds a whole campaign and needs no network, server or other file.

Rows are written as they come, in deflated blocks that the page's script opens when they are looked at; so
neither writing nor opening the page takes memory for more than a few rows. Its policy (CSP) lets run the
one script that is in it, by hash, and load nothing at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import zlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, BinaryIO

from mailmerge.preview.page_data import Blobs, Outliers, PageRow, StringTable, details, list_entry

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        stream: where the page goes.
        title: the campaign's name.
        marks: what stands before and after each value in marked texts.
        live: the page is served by `PreviewServer` and may ask it for news.

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
                row.listed.row,
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
        """Return the texts that came from the templates: they tell which branches the row took."""
        if row.marked is None:
            return []
        chunks = (*(row.marked.text or ()), *(row.marked.html or ()))
        return [chunk for chunk in chunks if self._marks[0] not in chunk]

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write what is only known now, and the script."""
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
