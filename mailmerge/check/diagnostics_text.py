"""Diagnostics as text: what is wrong, where, and what to do next, in a form that fits a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.model import Diagnostic, Severity
from mailmerge.text import numbers, plural, printable, width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.collector import Group, Problems
    from mailmerge.model import Place

_MAX_SOURCE = 160


def lines(diagnostic: Diagnostic, *, count: int = 1, rows: list[int] | None = None) -> Iterator[str]:
    """Yield the lines of one diagnostic, as ``check`` and every error message show it."""
    what = printable(diagnostic.message)
    yield f"{diagnostic.severity}[{diagnostic.code}]: {what}{_rows(diagnostic, count, rows)}"
    if diagnostic.place:
        yield from _place(diagnostic.place)
    if diagnostic.hint:
        yield f"   = hint: {printable(diagnostic.hint)}"


def occurrences(group: Group) -> str:
    """Say in which rows a group was found; empty for what is about the whole campaign."""
    return _rows(group.first, group.count, group.rows)


def _rows(diagnostic: Diagnostic, count: int, rows: list[int] | None) -> str:
    rows = rows or ([diagnostic.row] if diagnostic.row is not None else [])
    if not rows:
        return ""
    if count == 1:
        address = f", {printable(diagnostic.address)}" if diagnostic.address else ""
        return f"  (row {rows[0]}{address})"
    return f"  ({count:,} rows: {numbers(rows, more=count > len(rows))})"


def position(place: Place) -> str:
    """Write a place as ``file:line:column``, with the cell if it is one."""
    where = place.path or ""
    if place.line is not None:
        where += f":{place.line}" + (f":{place.column}" if place.column is not None else "")
    if place.cell:
        where += f" ({place.cell})" if where else place.cell
    return where


def _place(place: Place) -> Iterator[str]:
    where = position(place)
    if where:
        yield f"  --> {printable(where)}"
    if place.source is not None and place.line is not None:
        yield from _snippet(place, place.line, place.source)


def _snippet(place: Place, line: int, source: str) -> Iterator[str]:
    start = 0
    column = place.column
    if column is not None and column > _MAX_SOURCE - 20:
        start = column - _MAX_SOURCE // 2
    number = f"{line:>3} | "
    shown = source.replace("\t", " ")[start : start + _MAX_SOURCE]
    yield number + printable(shown)
    if column is not None:
        before = shown[: column - 1 - start]
        under = shown[column - 1 - start : column - 1 - start + place.width]
        yield " " * (len(number) - 2) + "| " + " " * width(before) + "^" * max(1, width(under))


def listing(problems: Problems, *, most: int = 10) -> Iterator[str]:
    """Yield the lines for all groups; of one code at most *most* are shown in full."""
    shown: dict[str, int] = {}
    hidden: dict[str, int] = dict(problems.uncounted)
    for group in problems:
        code = group.first.code
        shown[code] = shown.get(code, 0) + 1
        if shown[code] > most:
            hidden[code] = hidden.get(code, 0) + group.count
            continue
        yield from group_lines(group)
    for code, count in hidden.items():
        yield f"... and {count:,} more of {code}: see results.csv or `mailmerge check --json`"


def group_lines(group: Group) -> Iterator[str]:
    """Yield the lines of one group."""
    yield from lines(group.first, count=group.count, rows=group.rows)


def found(problems: Problems) -> str:
    """Say how many errors and warnings there are: ``1 error, 2 warnings``."""
    parts = []
    for severity in (Severity.ERROR, Severity.WARNING):
        number = problems.count(severity) + sum(
            count
            for code, count in problems.uncounted.items()
            if _is_error(code) is (severity is Severity.ERROR)
        )
        if number:
            parts.append(plural(number, severity))
    return ", ".join(parts) or "no problems"


def _is_error(code: str) -> bool:
    # Warnings are numbered from 200 within each area's hundred block: D2xx, T2xx, M2xx ...
    return code[1:2] != "2"
