"""The cells of a workbook's XML: text, numbers with their formats, dates, errors."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from mailmerge.recipients.cells import (
    DATED,
    DAY_0,
    DAY_0_1904,
    MAX_FORMAT,
    MOMENTS,
    error_cell,
    exact_number,
    formatted_cell,
    text_cell,
    text_format,
    unreadable,
)
from mailmerge.recipients.recipient_list import NO_RESULT, CellError, SheetCell
from mailmerge.recipients.workbook import too_large
from mailmerge.recipients.xlsx_package import local, parser_of
from mailmerge.values import Number, Truth
from mailmerge.values.notation import number_text
from mailmerge.values.number_format import BUILTIN, number_format, written_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.recipients.xlsx_package import Package
    from mailmerge.values import Cell

_MAX_FORMATS = 10_000
_MAX_STYLES = 100_000
_REMEMBERED = 4096
"""Cells of one format that are cached by their text: the same dates and amounts recur."""
_TEXTS = frozenset({"s", "str", "inlineStr"})
_MAX_NUMBER = 1000
"""Most characters of a number."""
_PLAIN_NUMBER = re.compile(r"(?!-0\Z)-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{0,30}[1-9])?\Z", re.ASCII)
_PLAIN_LENGTH = 17
"""A plain number is shorter: it has at most 15 digits, and is written as `number_text` writes it."""
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z", re.ASCII)
_ISO_DURATION = re.compile(r"P(?:([0-9]+)D)?T?(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)(?:\.[0-9]*)?S)?\Z")
DAYS_TO_1904 = (DAY_0_1904 - DAY_0).days
"""Days between the two epochs; copies count from the earlier one."""
_ISO_FORMATS = {datetime: "yyyy-mm-dd hh:mm", date: "yyyy-mm-dd", time: "hh:mm", timedelta: "[h]:mm"}
"""The format for a date in a cell without a date format."""
_TRUTHS = {"1": True, "0": False, "true": True, "false": False}
_FAILURES = (ArithmeticError, LookupError, TypeError, ValueError)


# --- the formats ---------------------------------------------------------------------------------------


def read_formats(package: Package, part: str) -> list[str]:
    """Return the number format of each style: nothing else of the look of cells matters.

    Raises:
        ListError: there are more formats than any program writes.

    """
    codes: dict[str, str] = {}
    styles: list[str] = []
    inside = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal inside
        name = local(tag)
        if name == "numFmt" and inside == "numFmts":
            codes[attributes.get("numFmtId", "").strip()] = attributes.get("formatCode", "General")
            if len(codes) > _MAX_FORMATS:
                raise too_large(package.shown, f"more than {_MAX_FORMATS:,} number formats")
        elif name == "xf" and inside == "cellXfs":
            styles.append(attributes.get("numFmtId", "0").strip())
            if len(styles) > _MAX_STYLES:
                raise too_large(package.shown, f"more than {_MAX_STYLES:,} cell formats")
        elif name in {"numFmts", "cellXfs", "cellStyleXfs", "dxfs"}:
            inside = name

    parser = parser_of(part)
    parser.StartElementHandler = start
    for block in package.blocks(part):
        parser.Parse(block)
    parser.Parse(b"", True)
    return [codes.get(number) or _builtin(number) for number in styles]


def _builtin(number: str) -> str:
    return BUILTIN.get(int(number), "General") if number.isdecimal() and len(number) < 4 else "General"


# --- the strings -----------------------------------------------------------------------------------------


class SharedTexts:
    """The strings that cells refer to by number, read as far as they are requested."""

    def __init__(self, package: Package, part: str | None) -> None:
        self.texts: list[Cell | CellError] = []
        self._blocks: Iterator[bytes] = iter(()) if part is None else package.blocks(part)
        self.complete = part is None
        """Whether all strings have been read."""
        self._letters: list[str] = []
        self._phonetic = 0
        self._names: dict[str, str] = {}
        parser = self._parser = parser_of(part or "")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end

    def get(self, index: int) -> Cell | CellError:
        """Return a string by its number, from 0.

        Raises:
            IndexError: the number is too large.

        """
        if index < 0:
            raise IndexError("that text does not exist")
        texts = self.texts
        while index >= len(texts):
            block = next(self._blocks, None)
            if block is None:
                self._finish()
                raise IndexError("that text does not exist")
            self._parser.Parse(block)
        return texts[index]

    def _finish(self) -> None:
        if not self.complete:
            self.complete = True
            self._parser.Parse(b"", True)

    def _start(self, tag: str, _: dict[str, str]) -> None:
        name = self._names.get(tag)
        if name is None:
            name = self._names[tag] = local(tag)
        if name == "t":
            if not self._phonetic:
                self._parser.CharacterDataHandler = self._letters.append
        elif name == "rPh":
            self._phonetic += 1

    def _end(self, tag: str) -> None:
        name = self._names[tag]
        if name == "t":
            self._parser.CharacterDataHandler = None
        elif name == "si":
            self.texts.append(text_cell("".join(self._letters)))
            self._letters.clear()
        elif name == "rPh":
            self._phonetic -= 1


# --- the cells -----------------------------------------------------------------------------------------


class CellsOfFormat(dict[str, "Cell | CellError"]):
    """The cells of one number format, by their text in the file."""

    def __init__(self, make: Callable[[str], Cell | CellError]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, text: str) -> Cell | CellError:
        plain = text.strip()
        try:
            cell = self._make(plain) if plain else ""
        except _FAILURES as error:
            cell = unreadable(error)
        if len(self) < _REMEMBERED and len(text) < 64:
            self[text] = cell
        return cell


class CellsOfStyles(dict["str | None", CellsOfFormat]):
    """The cells of numbers by style, as the attribute ``s`` names it."""

    def __init__(self, make: Callable[[str | None], Callable[[str], Cell | CellError]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, style: str | None) -> CellsOfFormat:
        found = self[style] = CellsOfFormat(self._make(style))
        return found


class Cells:
    """Makes cells as lists use them."""

    def __init__(self, texts: SharedTexts, formats: list[str], *, date_1904: bool) -> None:
        self.texts = texts
        self.numbers = CellsOfStyles(self._maker)
        self.rewritten = _text_formats(formats)
        """Formats that apply to text too, by style."""
        self.truths = CellsOfFormat(lambda text: Truth(_TRUTHS[text]))
        self._formats = formats
        self.date_1904 = date_1904

    def other(self, kind: str, text: str, style: str | None) -> Cell | CellError:
        """Return a cell that is neither a number nor a shared string."""
        if kind in {"str", "inlineStr"}:
            return text_cell(text)
        if kind == "b":
            return self.truths[text]
        plain = text.strip()
        if kind == "e" and plain:
            return error_cell(plain)
        try:
            return self._moment(kind, plain, style) if plain else ""
        except _FAILURES as error:
            return unreadable(error)

    def _moment(self, kind: str, text: str, style: str | None) -> Cell | CellError:
        if kind != "d":
            raise ValueError(f"{kind[:20]!r} is not a valid type")
        moment, code = iso_moment(text), self.format_of(style)
        if number_format(code).kind not in MOMENTS:
            code = next(code for kind, code in _ISO_FORMATS.items() if isinstance(moment, kind))
        return formatted_cell(_days(moment, date_1904=self.date_1904), code, date_1904=self.date_1904)

    def shared(self, text: str) -> Cell | CellError:
        """Return a shared string by its number, or an error if the number is not valid."""
        if not text.strip():
            return ""
        try:
            return self.texts.get(int(text))
        except (IndexError, ValueError) as error:
            return unreadable(error)

    def format_of(self, style: str | None) -> str:
        """Return the number format of a style.

        Raises:
            IndexError: the style does not exist.

        """
        at = int(style or 0)
        if not 0 <= at < max(len(self._formats), 1):
            raise IndexError("that format does not exist")
        code = self._formats[at] if self._formats else "General"
        if len(code) > MAX_FORMAT:
            raise ValueError(f"its number format has more than {MAX_FORMAT} characters")
        return code

    def _maker(self, style: str | None) -> Callable[[str], Cell | CellError]:
        try:
            code = self.format_of(style)
        except _FAILURES as error:
            problem = unreadable(error)
            return lambda _: problem
        date_1904 = self.date_1904
        compiled = number_format(code)
        show = compiled.show
        quick = not (compiled.kind in MOMENTS or compiled.problem or compiled.system)

        def make(text: str) -> Cell | CellError:
            number = exact(text)
            if number is None:
                return text
            if quick:
                shown = show(float(number))
                if shown is not None:
                    shown = shown.strip()  # room left for a bracket or a minus is column layout
                    return Number(number, None if shown == number_text(number) else shown)
            return formatted_cell(number, code, date_1904=date_1904)

        def make_quickly(text: str) -> Cell | CellError:
            if not _PLAIN_NUMBER.match(text):
                return make(text)
            rounded = text if len(text) < _PLAIN_LENGTH else f"{float(text):.15g}"
            shown = show(float(rounded))
            if shown is None:
                return make(text)
            shown = shown.strip()
            return Number(Decimal(rounded), None if shown == rounded else shown)

        return _general_maker(make) if code == "General" else make_quickly if quick else make


def _general_maker(make: Callable[[str], Cell | CellError]) -> Callable[[str], Cell | CellError]:
    """Return what makes cells without a format: most of them are shown as they are stored.

    Args:
        make: makes the others.

    """

    def make_general(text: str) -> Cell | CellError:
        if not _PLAIN_NUMBER.match(text):
            return make(text)
        rounded = text if len(text) < _PLAIN_LENGTH else f"{float(text):.15g}"
        if "0.0000" in rounded[:7] or (rounded is not text and not _PLAIN_NUMBER.match(rounded)):
            return make(text)  # shown in another form, such as with an exponent
        return Number(Decimal(rounded))

    return make_general


def _text_formats(formats: list[str]) -> dict[str | None, Callable[[str], str]]:
    found: dict[str | None, Callable[[str], str]] = {}
    for at, code in enumerate(formats):
        write = text_format(code) if len(code) <= MAX_FORMAT else None
        if write is not None:
            found[str(at)] = write
            if not at:
                found[None] = write
    return found


class StoredCells(Cells):
    """Makes cells as the file stores them."""

    def raw(self, kind: str | None, text: str, style: str | None) -> SheetCell:
        """Return one such cell; one that cannot be read is an error there as well."""
        try:
            code = written_code(self.format_of(style))
        except _FAILURES:
            code = "General"
        if not text.strip() and kind not in _TEXTS:
            return EMPTY
        if kind is None or kind == "n":
            return self._number(text.strip(), code)
        cell = self.shared(text) if kind == "s" else self.other(kind, text, style)
        shown = cell.shown if isinstance(cell, CellError) else cell
        if isinstance(cell, CellError) and kind not in _TEXTS:
            return SheetCell(shown or "#VALUE!", "e")
        if isinstance(shown, str):
            return SheetCell(shown, "s", code)
        return SheetCell(iso_moment(text.strip()), "d", code) if kind == "d" else SheetCell(shown.value, "b")

    def _number(self, text: str, code: str) -> SheetCell:
        try:
            number = exact(text)
        except _FAILURES:
            return SheetCell("#VALUE!", "e")
        if number is None:  # as `exact` returns it for a list; no file can contain it as a number
            return SheetCell(text, "s")
        value = int(text) if text.lstrip("-").isdecimal() else float(text)
        if self.date_1904 and number_format(code).kind in DATED:
            value += DAYS_TO_1904
        return SheetCell(value, "n", code)


EMPTY = SheetCell(None, "n")
NOT_CALCULATED = SheetCell(NO_RESULT, "e")
"""An empty cell would hide that something is missing."""


def exact(text: str) -> Decimal | None:
    """Read a number as it was typed, without binary noise; None: too large for any spreadsheet.

    Raises:
        ValueError: it is not a number.

    """
    if len(text) < _PLAIN_LENGTH and _PLAIN_NUMBER.match(text):
        return Decimal(text)
    if len(text) > _MAX_NUMBER or not _NUMBER.match(text):
        raise ValueError(f"{text[:20]!r} is not a number")
    if "." not in text and text.lstrip("-+").isdecimal():
        return exact_number(int(text))
    return exact_number(float(text))


def iso_moment(text: str) -> datetime | date | time | timedelta:
    """Read a cell of type ``d``: ``2026-03-05``, ``2026-03-05T14:30:00``, ``14:30:00`` or ``PT26H30M``.

    Raises:
        ValueError: it is none of these.

    """
    if text.startswith("P"):
        found = _ISO_DURATION.match(text)
        if not found:
            raise ValueError(f"{text[:40]!r} is not a duration")
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return timedelta(days, seconds, 0, 0, minutes, hours)
    if "T" not in text and ":" in text and "-" not in text:
        return time.fromisoformat(text.removesuffix("Z"))
    if text.startswith("T"):
        return time.fromisoformat(text[1:].removesuffix("Z"))
    moment = datetime.fromisoformat(text.removesuffix("Z"))
    return moment.replace(tzinfo=None) if "T" in text else moment.date()


def _days(moment: datetime | date | time | timedelta, *, date_1904: bool) -> Decimal:
    """Return a date and time as the number of days that a cell would contain."""
    if isinstance(moment, time):
        moment = datetime.combine(DAY_0, moment) - DAY_0
    elif isinstance(moment, date):
        whole = moment if isinstance(moment, datetime) else datetime.combine(moment, time())
        moment = whole - (DAY_0_1904 if date_1904 else DAY_0)
    return Decimal(moment // timedelta(microseconds=1)) / Decimal(86_400_000_000)
