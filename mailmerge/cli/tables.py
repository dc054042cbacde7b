"""Tables for people at a terminal; wherever else the output goes, plain lines take their place.

rich knows how wide the terminal and how wide each character is, and leaves colours out under ``NO_COLOR``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

from mailmerge.model import Counts, Status
from mailmerge.report.summary import WORDS
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from mailmerge.report.summary import Explanation

_COLOURS = {
    Status.ACCEPTED: "green",
    Status.REJECTED: "red",
    Status.EXPIRED: "red",
    Status.IN_DOUBT: "bold red",
    Status.HANDING_OVER: "bold red",
    Status.DEFERRED: "yellow",
    Status.INVALID: "magenta",
}


def wanted() -> bool:
    """Whether results go to a terminal."""
    return sys.stdout.isatty()


def show_counts(counts: Counts) -> None:
    """Show how many rows are in each state, and their share."""
    from rich.text import Text

    table = _table(("rows", "right"), ("share", "right"), ("state", "left"))
    for status in counts:
        share = 100 * counts[status] / counts.total
        table.add_row(
            f"{counts[status]:,}", f"{share:.1f} %", Text(WORDS[status], style=_COLOURS.get(status, ""))
        )
    _show(table)


def show_explanations(explanations: Iterable[Explanation]) -> None:
    """Show why rows were not accepted, with the server's words and the rows."""
    from rich.text import Text

    table = _table(("state", "left"), ("rows", "right"), ("why", "left"), ("which", "left"))
    before = None
    for entry in explanations:
        label = WORDS[entry.status] if entry.status is not before else ""
        before = entry.status
        table.add_row(
            Text(label, style=_COLOURS.get(entry.status, "")),
            f"{entry.count:,}",
            Text(printable(entry.words)),
            Text(printable(entry.rows), style="dim"),
        )
    if table.row_count:
        _show(table)


def _table(*columns: tuple[str, str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for name, justify in columns:
        number = justify == "right"
        table.add_column(
            name, justify="right" if number else "left", no_wrap=number, overflow="fold", min_width=4
        )
    return table


def _show(table: Table) -> None:
    from rich.console import Console

    # rich alone would leave bold and dim in.
    colours: Literal["auto"] | None = None if "NO_COLOR" in os.environ else "auto"
    Console(file=sys.stdout, color_system=colours, highlight=False, markup=False, emoji=False).print(table)
