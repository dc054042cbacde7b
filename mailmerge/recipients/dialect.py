"""How a text list is written: its encoding and its delimiter, decided by evidence or not at all."""

from __future__ import annotations

import codecs
import csv
import io
from typing import TYPE_CHECKING

from mailmerge.errors import ListError
from mailmerge.model import Place

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = 32_768
"""Characters that decide the delimiter."""
DELIMITERS = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma"}
"""The rarer in running text, the earlier: where two fit equally well, the rarer one is meant."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with BOM"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_FOREIGN = (
    (b"PK\x03\x04", "a workbook or zip file", ".xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old .xls workbook", ".xls"),
)


def find_encoding(path: Path, shown: str, asked: str | None) -> tuple[str, str]:
    """Find the codec and its name for the plan: by byte order mark, else as asked, else UTF-8.

    Raises:
        ListError: it is no text, there is no such encoding, or the mark contradicts it.

    """
    with path.open("rb") as file:
        start = file.read(8)
    for magic, kind, suffix in _FOREIGN:
        if start.startswith(magic):
            raise ListError(
                f"{shown} is {kind}, not text",
                code="D120",
                hint=f"rename it to {shown.rpartition('.')[0]}{suffix}, or save it as CSV (UTF-8)",
                place=Place(path=shown),
            )
    marked = next(((codec, name) for bom, codec, name in _BOMS if start.startswith(bom)), None)
    if asked is None:
        return marked or ("utf-8", "UTF-8")
    try:
        codec = codecs.lookup(asked).name
        "".encode(codec)
    except LookupError:
        raise ListError(
            f'there is no encoding "{asked}"',
            code="D127",
            hint="names are utf-8, gb18030, big5, shift_jis, euc_kr, cp1252, cp1251 and their like",
        ) from None
    if marked is None:
        return codec, codec.upper()
    if codec.replace("-", "_").startswith(marked[0].partition("-sig")[0].replace("-", "_")):
        return marked
    raise ListError(
        f"{shown} begins with the mark of {marked[1].removesuffix(' with BOM')}, not of {asked}",
        code="D127",
        hint="leave the encoding out",
        place=Place(path=shown),
    )


def find_delimiter(sample: str) -> tuple[str, bool]:
    """Find the delimiter that makes most rows as wide as the header, and whether there is but one column."""
    several: list[tuple[float, int, int, str]] = []
    single: list[tuple[float, str]] = []
    for rank, delimiter in enumerate(DELIMITERS):
        widths = _widths(sample, delimiter)
        if not widths:  # nothing but delimiters and blanks
            return ",", True
        first, rows = widths[0], widths[1:]
        fit = rows.count(first) / len(rows) if rows else 1.0
        if first == 1:
            single.append((fit, delimiter))
        else:
            several.append((fit, first, -rank, delimiter))
    if several:
        return max(several)[3], False
    # "," wins a tie: it is what the file would use if it had a second column.
    return max(single, key=lambda found: (found[0], found[1] == ","), default=(1.0, ","))[1], True


def _widths(sample: str, delimiter: str) -> list[int]:
    """How many cells each record of the sample has; a record cut off at its end is left out."""
    widths: list[int] = []
    try:
        for cells in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter):
            if any(map(str.strip, cells)):
                widths.append(len(cells))  # noqa: PERF401  what came before an error counts
    except csv.Error:
        return widths
    if len(sample) >= SAMPLE and len(widths) > 1:
        widths.pop()
    return widths
