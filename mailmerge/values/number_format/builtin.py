"""The formats that workbooks name by number alone (ECMA-376 part 1, 18.8.30).

Some of them, the short date above all, look different on every computer: in the language of its owner. They
are shown as LibreOffice shows them in English, and marked, so that a person can be warned.
"""

from __future__ import annotations

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
