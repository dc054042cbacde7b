"""Cells in a CSV file that a template writes: whatever they contain, each remains one field, and only data.

The template determines where fields begin and end; values are their content. While it runs, values are put
between two marks. Afterwards the fields are read from the template's own text, and one that contains a value
is quoted if necessary: the author writes ``{{ name }},{{ amount }}``, with or without quotes.

A spreadsheet treats a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula, which can fetch from
the web or start programs (OWASP, "CSV Injection"). Such a value gets an apostrophe in front, as a person
would type it, unless it looks like a number or a telephone number: -5 and +49 30 1234 are not changed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mailmerge.render.environments import END, START, printed

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMULA = re.compile("[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]")
"""Characters that begin a formula; also full-width forms, which Excel treats alike in East Asia."""
_HARMLESS = re.compile(r"[+-]?[\d .,()/-]*%?\Z")
_SPECIAL = re.compile('[",;\t|\r\n]')
_PIECES = re.compile(f"({START}[^{START}{END}]*{END})")
_SEPARATORS = ",;\t|"


def printed_in_field(value: Any) -> str:
    """Print *value* between the marks; a macro's output, which has them already, is unchanged."""
    text = str(printed(value))
    return text if START in text else f"{START}{text}{END}"


def quoted_fields(text: str) -> str:
    """Return the content of the file: lines end with CRLF, and values are quoted where necessary.

    Args:
        text: the output of the template, values between the marks.

    """
    first = _PIECES.sub("", text).lstrip().partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    written = "".join(_written(text, separator))
    return written if written.endswith("\n") else f"{written}\r\n"


class _DelimitedField(Struct):
    """A field while it is read."""

    raw: str = ""
    """The field as in the template."""
    content: str = ""
    valued: bool = False
    """Whether it contains a value."""
    leading: bool = False
    """Whether a value begins it."""
    opened: bool = False
    """Whether it began with a quote."""
    quoted: bool = False
    """Whether what follows is between quotes."""
    closing: bool = False
    """Whether the latest quote may be the first of two, which mean one."""

    def add_value(self, text: str) -> None:
        self.leading = self.leading or not self.content.strip()
        self.content += text
        self.valued = True
        self.closing = False

    def add(self, char: str) -> None:
        self.raw += char
        if char != '"':
            self.content += char
            self.closing = False
        elif self.quoted:
            self.quoted, self.closing = False, True
        elif self.closing:
            self.content += char
            self.quoted, self.closing = True, False
        elif self.valued or self.content.strip():
            self.content += char
        else:
            self.content, self.opened, self.quoted = "", True, True

    def written(self) -> str:
        if not self.valued:
            return self.raw
        text = self.content
        if self.leading and _FORMULA.match(text.lstrip(" ")) and not _HARMLESS.match(text):
            text = f"'{text}"
        if self.opened or _SPECIAL.search(text):
            return '"' + text.replace('"', '""') + '"'
        return text


def _written(text: str, separator: str) -> Iterator[str]:
    field = _DelimitedField()
    for piece in _PIECES.split(text):
        if piece.startswith(START):
            field.add_value(piece[1:-1])
            continue
        for char in piece.replace("\r\n", "\n").replace("\r", "\n"):
            if char not in {separator, "\n"} or field.quoted:
                field.add(char)
                continue
            yield field.written()
            yield "\r\n" if char == "\n" else char
            field = _DelimitedField()
    yield field.written()
