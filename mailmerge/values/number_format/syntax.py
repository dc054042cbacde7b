"""The language of number formats: a code to its sections, a section to its parts.

ECMA-376 part 1, 18.8.31, and what Excel and LibreOffice write beyond it. What a part
means is not decided here.
"""

from __future__ import annotations

import re

from msgspec import Struct

from mailmerge.lazy_re import lazy_re

LONGEST_CODE = 1024
"""Most characters of a code. Excel allows 255; LibreOffice a little more."""
MOST_SECTIONS = 4


class UnknownFormat(ValueError):
    """A code is not understood: what is wrong with it, to follow its name."""


class FormatPart(Struct, frozen=True):
    """One part of a section.

    Args:
        kind: ``text`` (shown as it is), ``digit`` (``0``, ``#``, ``?``), ``point``, ``comma``, ``percent``,
            ``slash``, ``exponent``, ``general``, ``cell`` (``@``), ``moment`` (``yyyy``), ``elapsed``,
            ``half`` (``AM/PM``), ``letter`` (of a quarter, a week or others only in LibreOffice).
        text: as in the code, without what marks it.

    """

    kind: str
    text: str


class FormatSection(Struct, frozen=True):
    """One section of a code.

    Args:
        parts: in order.
        condition: such as ``(">", 100.0)``.
        language: what comes after the ``-`` of ``[$-407]``: a hexadecimal Windows language with calendar
            and numerals, or a tag (``de-DE``); empty without one.

    """

    parts: tuple[FormatPart, ...]
    condition: tuple[str, float] | None = None
    language: str = ""
    numerals: int = 0
    """Which characters numbers are written in: 1 to 4 of ``[DBNum1]`` to ``[DBNum4]``; 0: digits."""

    def has(self, *kinds: str) -> bool:
        """Return whether it has a part of one of these kinds."""
        return any(part.kind in kinds for part in self.parts)


_PART = lazy_re(
    r"""
      "(?P<quoted>[^"]*)"
    | \\(?P<escaped>.)
    | _(?P<width>.)
    | \*(?P<fill>.)
    | \[(?P<bracket>[^\]]*)\]
    | (?P<half>AM/PM|A/P|上午/下午|오전/오후|午前/午後)
    | (?P<general>General|Standard)
    | (?P<calendar>B[12])
    | (?P<exponent>E[+-])
    | (?P<moment>y+|m+|d+|h+|s+|g+|e+|b+|a{3,4})
    | (?P<letter>[QWN])
    | (?P<other>.)
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_CONDITION = lazy_re(
    r"(<=|>=|<>|<|>|=)\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:E[+-]?[0-9]{1,3})?)\Z", re.IGNORECASE
)
_COLOUR = lazy_re(r"(?:black|blue|cyan|green|magenta|red|white|yellow|colou?r\s*[0-9]{1,2})\Z", re.IGNORECASE)
_NUMERALS = lazy_re(r"dbnum([1-4])\Z", re.IGNORECASE)
_ELAPSED = lazy_re(r"(?:h{1,9}|m{1,9}|s{1,9})\Z", re.IGNORECASE)
_LANGUAGE = lazy_re(
    r"\$(.*?)(?:-([0-9a-f]{1,8}|[a-z]{1,8}(?:-[0-9a-z]{1,8})*(?:,[0-9a-f]+)?))?\Z", re.IGNORECASE | re.DOTALL
)
_WIDTHS = "111223211112111122222222221122223222222321222333232222232221112212222212211213222212122222211121"
"""Spaces that LibreOffice puts in place of each character, from the space on, after an underscore."""
_OTHERS = {
    ".": "point",
    ",": "comma",
    "%": "percent",
    "/": "slash",
    "@": "cell",
    "0": "digit",
    "#": "digit",
    "?": "digit",
}


def sections_of(code: str) -> tuple[FormatSection, ...]:
    """Split a code into its sections.

    Raises:
        UnknownFormat: it is too long, has too many sections, or something unknown in brackets.

    """
    if len(code) > LONGEST_CODE:
        raise UnknownFormat(f"has more than {LONGEST_CODE} characters")
    sections: list[FormatSection] = []
    found = _SectionDraft()
    for match in _PART.finditer(code):
        kind, text = match.lastgroup or "", match[match.lastgroup or 0]
        if kind == "other" and text == ";":
            sections.append(found.section())
            found = _SectionDraft()
        elif kind == "bracket":
            found.bracket(text)
        elif part := _part(kind, text):
            found.parts.append(part)
    sections.append(found.section())
    if len(sections) > MOST_SECTIONS:
        raise UnknownFormat(f"has more than {MOST_SECTIONS} sections")
    return tuple(sections)


class _SectionDraft:
    """What was found of a section."""

    def __init__(self) -> None:
        self.parts: list[FormatPart] = []
        self.condition: tuple[str, float] | None = None
        self.language = ""
        self.numerals = 0

    def section(self) -> FormatSection:
        return FormatSection(tuple(self.parts), self.condition, self.language, self.numerals)

    def bracket(self, text: str) -> None:
        """Take in what is in brackets."""
        if match := _CONDITION.match(text):
            self.condition = match[1], float(match[2])
        elif match := _LANGUAGE.match(text):
            if match[1]:  # the sign of a currency, whose language changes nothing
                self.parts.append(FormatPart("text", match[1]))
            else:
                self.language = self.language or match[2] or ""
        elif _ELAPSED.match(text):
            self.parts.append(FormatPart("elapsed", text.lower()))
        elif match := _NUMERALS.match(text):
            self.numerals = int(match[1])
        elif not _COLOUR.match(text):
            raise UnknownFormat(f"contains [{text}]")


def _part(kind: str, text: str) -> FormatPart | None:
    if kind == "fill":  # repeated to fill the column's width, which text does not have
        return None
    if kind == "calendar":  # B1 is ours
        if text[1] == "2":
            raise UnknownFormat("counts by the Islamic calendar (B2)")
        return None
    if kind == "width":
        return FormatPart("text", " " * (int(_WIDTHS[ord(text) - 32]) if " " <= text <= "\x7f" else 2))
    if kind in {"quoted", "escaped"}:
        return FormatPart("text", text)
    if kind == "other":
        if text == '"':
            raise UnknownFormat("has a quote that does not end")
        return FormatPart(_OTHERS.get(text, "text"), text)
    return FormatPart(kind, text if kind in {"half", "letter"} else text.lower())


# --- the formats that workbooks name by number alone (ECMA-376 part 1, 18.8.30) ----------------------------
#
# Some of them, the short date above all, look different on every computer: in the language of its owner. They
# are shown as LibreOffice shows them in English, and marked, so that a person can be warned.

SYSTEM = "[$-x-system]"
"""The beginning of codes that depend on the computer; it is in no file."""
_DATE, _TIME = f"{SYSTEM}m/d/yyyy", f"{SYSTEM}h:mm:ss"
_MOMENT = f"{_DATE} h:mm"
_WRITTEN = {_DATE: "mm-dd-yy", _MOMENT: "m/d/yy h:mm", _TIME: "h:mm:ss"}

BUILTIN: dict[int, str] = {
    0: "General",
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    5: '"$"#,##0_);\\("$"#,##0\\)',
    6: '"$"#,##0_);[Red]\\("$"#,##0\\)',
    7: '"$"#,##0.00_);\\("$"#,##0.00\\)',
    8: '"$"#,##0.00_);[Red]\\("$"#,##0.00\\)',
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    14: _DATE,
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: _MOMENT,
    37: "#,##0_);(#,##0)",
    38: "#,##0_);[Red](#,##0)",
    39: "#,##0.00_);(#,##0.00)",
    40: "#,##0.00_);[Red](#,##0.00)",
    41: '_(* #,##0_);_(* \\(#,##0\\);_(* "-"_);_(@_)',
    42: '_("$"* #,##0_);_("$"* \\(#,##0\\);_("$"* "-"_);_(@_)',
    43: '_(* #,##0.00_);_(* \\(#,##0.00\\);_(* "-"??_);_(@_)',
    44: '_("$"* #,##0.00_);_("$"* \\(#,##0.00\\);_("$"* "-"??_);_(@_)',
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
    **dict.fromkeys(
        (*range(27, 32), 36, *range(50, 59)), _DATE
    ),  # of East Asia: each has its own four languages
    **dict.fromkeys(range(32, 36), _TIME),
}


def written_code(code: str) -> str:
    """Return a code as in a file: without our mark."""
    return _WRITTEN.get(code, code)


BUILTIN |= {  # of Thailand; each is the format of another number
    thai: BUILTIN[other]
    for thai, other in zip(
        range(59, 82),
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 14, 15, 16, 17, 20, 21, 22, 45, 46, 47),
        strict=True,
    )
}
