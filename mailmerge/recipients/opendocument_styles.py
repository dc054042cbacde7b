"""The formats of cells in an OpenDocument spreadsheet, and their equivalents in Excel.

The file contains the text that a cell shows; a format tells only whether a date is shown with its time, and
whether hours restart at 24. A copy of a row in an Excel workbook gets the same format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.recipients.cells import MAX_FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable

OFFICE = "urn:oasis:names:tc:opendocument:xmlns:office:1.0 "
TABLE = "urn:oasis:names:tc:opendocument:xmlns:table:1.0 "
STYLE = "urn:oasis:names:tc:opendocument:xmlns:style:1.0 "
NUMBER = "urn:oasis:names:tc:opendocument:xmlns:datastyle:1.0 "
_MAX_STYLES = 100_000
_MAX_DIGITS = 30


class DataStyle(Struct, frozen=True):
    """What is known of the format of a cell."""

    excel: str = "General"
    """The format code in Excel's notation."""
    is_date: bool = False
    """Whether it shows dates or times."""
    has_date: bool = False
    has_time: bool = False
    elapsed: bool = False
    """Whether hours continue after 24."""


EMPTY_STYLE = DataStyle()


class Styles:
    """The styles of a file, collected from its elements."""

    def __init__(self) -> None:
        self.hidden_tables: set[str] = set()
        self._cells: dict[str, tuple[str, str]] = {}
        """Data style and parent of each cell style."""
        self._formats: dict[str, DataStyle] = {}
        self._found: dict[str, DataStyle] = {}
        self._family = ""
        self._name = ""
        self._format: _Format | None = None

    def of(self, name: str) -> DataStyle:
        """Return the format of a cell style."""
        found = self._found.get(name)
        if found is None:
            data, parent = self._cells.get(name, ("", ""))
            seen = {name}
            while not data and parent and parent not in seen:
                seen.add(parent)
                data, parent = self._cells.get(parent, ("", ""))
            found = self._found[name] = self._formats.get(data, EMPTY_STYLE)
        return found

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Handle the start of an element."""
        if tag == f"{STYLE}style":
            self._family = attributes.get(f"{STYLE}family", "")
            self._name = attributes.get(f"{STYLE}name", "")
            if self._family == "table-cell" and len(self._cells) < _MAX_STYLES:
                self._cells[self._name] = (
                    attributes.get(f"{STYLE}data-style-name", ""),
                    attributes.get(f"{STYLE}parent-style-name", ""),
                )
        elif tag == f"{STYLE}table-properties":
            if attributes.get(f"{TABLE}display") == "false":
                self.hidden_tables.add(self._name)
        elif tag == f"{STYLE}map" and self._format is not None:
            self._format.maps.append(
                (attributes.get(f"{STYLE}condition", ""), attributes.get(f"{STYLE}apply-style-name", ""))
            )
        elif tag.startswith(NUMBER):
            if tag.endswith("-style"):
                self._name = attributes.get(f"{STYLE}name", "")
                self._format = _Format(attributes.get(f"{NUMBER}truncate-on-overflow") == "false")
            elif self._format is not None:
                self._format.add(tag.removeprefix(NUMBER), attributes)

    def text(self, text: str) -> None:
        """Handle text."""
        if self._format is not None:
            self._format.text += text[:MAX_FORMAT]

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
        if self._format is None or not tag.startswith(NUMBER):
            return
        if tag.endswith("-style"):
            if len(self._formats) < _MAX_STYLES:
                self._formats[self._name] = self._format.made(self._formats)
            self._format = None
        else:
            self._format.close(tag.removeprefix(NUMBER))


class _Format:
    """One format while it is being read."""

    def __init__(self, elapsed: bool) -> None:
        self.maps: list[tuple[str, str]] = []
        self.text = ""
        self._elapsed = elapsed
        self._code = ""
        self._date = self._time = False

    def add(self, name: str, attributes: dict[str, str]) -> None:
        """Add a part of the format."""
        self.text = ""
        part = _PARTS.get(name)
        if part is None:
            return
        long = attributes.get(f"{NUMBER}style") == "long"
        if name in _DATES:
            self._date = True
        elif name in _TIMES:
            code = part(attributes, long)
            if self._elapsed and not self._time:
                code = f"[{code}]"  # the largest unit has no limit: [h]:mm
            self._time = True
            self._code += code
            return
        self._code += part(attributes, long)

    def close(self, name: str) -> None:
        """Add the text of a part, if it has any."""
        if name in {"text", "currency-symbol"} and self.text:
            plain = self.text in {"%", " ", "-", "/", ":", "(", ")", ".", ","}
            self._code += self.text if plain else '"' + self.text.replace('"', '"\\""') + '"'
        self.text = ""

    def made(self, formats: dict[str, DataStyle]) -> DataStyle:
        """Assemble the format code: formats that apply to some numbers only come first, as in Excel."""
        sections = [formats[name].excel for condition, name in self.maps if name in formats and condition]
        code = ";".join([*sections[:2], self._code])
        fits = self._code and len(code) <= MAX_FORMAT
        is_date = self._date or self._time
        return DataStyle(
            code if fits else "General", is_date, self._date, self._time, self._elapsed and is_date
        )


def _digits(attributes: dict[str, str], name: str, default: int) -> int:
    text = attributes.get(f"{NUMBER}{name}", "")
    return min(int(text), _MAX_DIGITS) if text.isdecimal() and len(text) < 4 else default


def _number(attributes: dict[str, str], _long: bool) -> str:
    whole = _digits(attributes, "min-integer-digits", 0)
    code = "0" * whole or "#"
    if attributes.get(f"{NUMBER}grouping") == "true":
        code = "#,##" + code.rjust(1, "0") if whole <= 1 else f"#,{code.rjust(4, '#')}"
    if f"{NUMBER}decimal-places" not in attributes and whole <= 1:
        return "General"
    places = _digits(attributes, "decimal-places", 0)
    least = _digits(attributes, "min-decimal-places", places)
    return code + ("." + "0" * min(least, places) + "#" * (places - least) if places else "")


def _scientific(attributes: dict[str, str], _long: bool) -> str:
    places = _digits(attributes, "decimal-places", 2)
    return (
        "0"
        + ("." + "0" * places if places else "")
        + "E+"
        + "0" * _digits(attributes, "min-exponent-digits", 2)
    )


def _month(attributes: dict[str, str], long: bool) -> str:
    if attributes.get(f"{NUMBER}textual") == "true":
        return "mmmm" if long else "mmm"
    return "mm" if long else "m"


def _seconds(attributes: dict[str, str], long: bool) -> str:
    places = _digits(attributes, "decimal-places", 0)
    return ("ss" if long else "s") + ("." + "0" * places if places else "")


_PARTS: dict[str, Callable[[dict[str, str], bool], str]] = {
    "number": _number,
    "scientific-number": _scientific,
    "fraction": lambda attributes, _: (
        "# "
        + "?" * _digits(attributes, "min-numerator-digits", 1)
        + "/"
        + "?" * _digits(attributes, "min-denominator-digits", 1)
    ),
    "text-content": lambda _a, _: "@",
    "year": lambda _, long: "yyyy" if long else "yy",
    "month": _month,
    "day": lambda _, long: "dd" if long else "d",
    "day-of-week": lambda _, long: "dddd" if long else "ddd",
    "era": lambda _, _long: "",
    "hours": lambda _, long: "hh" if long else "h",
    "minutes": lambda _, long: "mm" if long else "m",
    "seconds": _seconds,
    "am-pm": lambda _a, _: "AM/PM",
}
_DATES = frozenset({"year", "month", "day", "day-of-week", "era"})
_TIMES = frozenset({"hours", "minutes", "seconds"})
