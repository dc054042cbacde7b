"""How rules say what they found."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from mailmerge.model import Diagnostic, Severity

if TYPE_CHECKING:
    from mailmerge.check.html_document import Page
    from mailmerge.model import Message, Place, Rendered


def severity(code: str) -> Severity:
    """Tell a code's severity: warnings are numbered from 200 in each area."""
    return Severity.WARNING if code[1:2] == "2" else Severity.ERROR


class Finding(NamedTuple):
    """What a rule found, before it is known whose fault it is."""

    code: str
    message: str
    hint: str | None = None
    place: Place | None = None
    offset: int | None = None
    """Where in the rendered HTML, for findings about its structure."""
    width: int = 1


class Look(Struct, frozen=True, dict=True):
    """One row's message as the rules see it."""

    rendered: Rendered
    message: Message

    @cached_property
    def text(self) -> str | None:
        """The text part; None: there is none."""
        return None if self.rendered.text is None else "".join(self.rendered.text)

    @cached_property
    def html(self) -> str | None:
        """The HTML part in one piece, which few rules need; None: there is none."""
        return None if self.rendered.html is None else "".join(self.rendered.html)

    @property
    def body(self) -> str:
        """The text part, or the HTML where there is none."""
        return self.text if self.text is not None else self.html or ""

    @property
    def address(self) -> str:
        """Whom the message is for."""
        return str(self.rendered.to[0].address)

    def cell(self, value: str) -> str | None:
        """Name the column whose cell holds *value*."""
        recipient = self.rendered.recipient
        for heading, cell in zip(recipient.columns.headings, recipient.values, strict=True):
            if isinstance(cell, str) and cell and value in cell:
                return f"column {heading}"
        return None

    def column_in(self, text: str) -> str | None:
        """Name the column whose whole cell is part of *text*: the longest cell wins."""
        recipient = self.rendered.recipient
        pairs = [
            (len(cell), heading)
            for heading, cell in zip(recipient.columns.headings, recipient.values, strict=True)
            if isinstance(cell, str) and cell and cell in text
        ]
        return f"column {max(pairs)[1]}" if pairs else None


class Shape(Struct, frozen=True):
    """The first message of a kind: other rows with the same fixed texts have the same structure."""

    look: Look
    page: Page | None
    """Its HTML, taken apart; None: it has none, or it cannot be read."""
    bulk: bool
    """It has a List-Unsubscribe header: it is mail to a list of subscribers."""


def diagnostic(found: Finding, *, row: int | None = None, address: str | None = None) -> Diagnostic:
    """Give a finding its severity and the row it belongs to."""
    return Diagnostic(
        found.code,
        found.message,
        found.hint,
        severity=severity(found.code),
        place=found.place,
        row=row,
        address=address,
    )
