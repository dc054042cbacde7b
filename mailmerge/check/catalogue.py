"""The page of every code: what it says, why it matters, what to do; read from ``catalogue.toml``."""

from __future__ import annotations

import textwrap
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.model import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AREAS = {
    "D": "The list and its cells",
    "T": "Templates",
    "A": "Attachments and inline images",
    "M": "Messages",
    "H": "HTML, links, accessibility",
    "N": "Online checks, only on request",
    "C": "Campaign file, options, accounts",
    "S": "The SMTP session",
    "L": "The ledger",
    "X": "The rest",
}
"""What the first letter of a code means."""


class Entry(Struct, frozen=True):
    """What there is to know about one code."""

    code: str
    severity: Severity
    what: str
    why: str
    do: str
    example: str = ""

    @property
    def area(self) -> str:
        """The area in words."""
        return AREAS[self.code[0]]


@cache
def catalogue() -> Mapping[str, Entry]:
    """Return the entries of all codes, in the order of the file."""
    text = (Path(__file__).parent / "catalogue.toml").read_text("utf-8")
    entries = {}
    for code, page in tomllib.loads(text).items():
        kind = Severity(page.pop("severity", Severity.of(code)))
        entries[code] = Entry(code=code, severity=kind, **page)
    return entries


def page(entry: Entry, width: int = 88) -> Iterator[str]:
    """Yield the lines of one page, for a terminal."""
    yield f"{entry.code}  {entry.severity}  ({entry.area})"
    yield ""
    yield from textwrap.wrap(entry.what, width, break_long_words=False, break_on_hyphens=False)
    for label, text in (("Why", entry.why), ("Do", entry.do)):
        yield ""
        yield from textwrap.wrap(
            text,
            width,
            initial_indent=f"{label + ':':<6}",
            subsequent_indent=" " * 6,
            break_long_words=False,
            break_on_hyphens=False,
        )
    if entry.example:
        yield ""
        yield from (f"      {line}" for line in entry.example.splitlines())


def as_markdown() -> str:
    """Return all pages as one Markdown document: ``docs/checks.md``."""
    lines = [
        "# Checks",
        "",
        "Every message of `mailmerge` has a code. `mailmerge explain D110` prints its page; here are all",
        "of them. Errors make a row `invalid`, or stop everything where they are about the campaign;",
        "warnings only speak. Warnings, and errors found by reading finished messages (A305, D160, D161,",
        'H3xx, M502), can be overruled in `campaign.toml`: `[check] ignore = ["D204"]`.',
        "",
        "This page is made by `scripts/write-checks-page` from `mailmerge/check/catalogue.toml`.",
    ]
    for letter, area in AREAS.items():
        lines += ["", f"## {letter}: {area}"]
        for entry in catalogue().values():
            if entry.code[0] == letter:
                lines += _markdown(entry)
    return "\n".join(lines) + "\n"


def _markdown(entry: Entry) -> Iterator[str]:
    yield from ("", f"### {entry.code}", "", f"*{entry.severity}*: {_plain(entry.what)}", "")
    yield _plain(entry.why)
    yield from ("", f"**Do:** {_plain(entry.do)}")
    if entry.example:
        yield from ("", "```text", entry.example, "```")


def _plain(text: str) -> str:
    """Keep angle brackets outside of code from being taken for HTML."""
    parts = text.split("`")
    return "`".join(
        part if index % 2 else part.replace("<", "&lt;").replace(">", "&gt;")
        for index, part in enumerate(parts)
    )
