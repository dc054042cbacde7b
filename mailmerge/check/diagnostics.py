"""Diagnostics, collected over any number of rows, and formatted for people and for programs.

A problem that many rows have is kept once, with a count and the first rows: memory does not grow with the
list.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from mailmerge.model import Diagnostic, Severity
from mailmerge.text import numbers, padded, plural, printable, width

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailmerge.model import Place


FIRST_ROWS = 8
"""How many row numbers a group keeps."""
GROUPS_PER_CODE = 200
"""Beyond this many different problems with one code, further ones are only counted."""
_MAX_SOURCE = 160
"""How many characters of a source line are shown around a fault."""
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class Group(Struct):
    """One problem, as it was first found, and where else it occurs."""

    first: Diagnostic
    count: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, row: int | None) -> None:
        """Count one more occurrence, in *row* if it is about one."""
        self.count += 1
        if row is not None and len(self.rows) < FIRST_ROWS and (not self.rows or self.rows[-1] != row):
            self.rows.append(row)


class Findings(Struct, frozen=True):
    """The contents of a collector, as a value that can be stored and recalled."""

    groups: list[Group] = field(default_factory=list)
    uncounted: dict[str, tuple[int, Severity]] = field(default_factory=dict)


class DiagnosticCollector:
    """All diagnostics so far, grouped; iterates over the groups, errors first, in order of discovery."""

    def __init__(self, ignore: Iterable[str] = ()) -> None:
        self._ignore = frozenset(ignore)
        self._groups: dict[tuple[object, ...], Group] = {}
        self._per_code: dict[str, int] = {}
        self._severities: dict[str, Severity] = {}
        self.uncounted: dict[str, int] = {}
        """By code: how many occurrences were counted but not kept."""

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Add diagnostics, except warnings with a code that the campaign silences."""
        for found in diagnostics:
            if found.code not in self._ignore or found.severity is Severity.ERROR:
                self._add(found)

    def _add(self, found: Diagnostic) -> None:
        identity = _identity(found)
        group = self._groups.get(identity)
        if group is None:
            if self._per_code.get(found.code, 0) >= GROUPS_PER_CODE:
                self.uncounted[found.code] = self.uncounted.get(found.code, 0) + 1
                self._severities[found.code] = found.severity
                return
            self._per_code[found.code] = self._per_code.get(found.code, 0) + 1
            group = self._groups[identity] = Group(found)
        group.add(found.row)

    def findings(self) -> Findings:
        """Return everything so far, for `recall`."""
        uncounted = {code: (count, self._severities[code]) for code, count in self.uncounted.items()}
        return Findings(list(self._groups.values()), uncounted)

    def recall(self, findings: Findings) -> None:
        """Add the findings of another collector whose campaign silenced the same codes."""
        for kept in findings.groups:
            identity = _identity(kept.first)
            group = self._groups.get(identity)
            if group is None:
                self._per_code[kept.first.code] = self._per_code.get(kept.first.code, 0) + 1
                self._groups[identity] = Group(kept.first, kept.count, list(kept.rows))
            else:
                group.count += kept.count
                group.rows += kept.rows[: FIRST_ROWS - len(group.rows)]
        for code, (count, severity) in findings.uncounted.items():
            self.uncounted[code] = self.uncounted.get(code, 0) + count
            self._severities[code] = severity

    def __iter__(self) -> Iterator[Group]:
        groups = self._groups.values()
        yield from (group for group in groups if group.first.severity is Severity.ERROR)
        yield from (group for group in groups if group.first.severity is not Severity.ERROR)

    def count(self, severity: Severity) -> int:
        """Return how many different problems of this severity there are."""
        return sum(group.first.severity is severity for group in self._groups.values())

    def total(self, severity: Severity) -> int:
        """Return how often problems of this severity occurred, including those that were not kept."""
        more = (n for code, n in self.uncounted.items() if self._severities[code] is severity)
        return self.count(severity) + sum(more)

    @property
    def campaign_errors(self) -> list[Group]:
        """Return the errors that are about the campaign, not about single rows: nothing can be sent."""
        return [group for group in self if group.first.severity is Severity.ERROR and stops(group.first)]


def _identity(found: Diagnostic) -> tuple[object, ...]:
    """Return what makes two diagnostics the same problem: the message, and the place in a template."""
    place = found.place
    where = (place.path, place.line, place.column) if place and place.cell is None else None
    return (found.code, found.message, where)


_NAMED_BY_A_ROW = frozenset({"T100", "T101", "T103", "T104", "T109"})
"""What can be wrong with a template that a cell names in ``{% include cell %}``. Templates that the author
names are checked before the first row; so one of these codes with a row is about that row's cell."""


def stops(diagnostic: Diagnostic) -> bool:
    """Return whether this error stops the whole campaign, because it is not the fault of a single row."""
    if diagnostic.row is None:
        return True
    return diagnostic.code.startswith("T") and diagnostic.code not in _NAMED_BY_A_ROW


# --- for people -------------------------------------------------------------------------------------


def diagnostic_lines(
    diagnostic: Diagnostic, *, count: int = 1, rows: list[int] | None = None
) -> Iterator[str]:
    """Yield the lines of one diagnostic, as ``check`` and every error message show it."""
    what = printable(diagnostic.message)
    yield f"{diagnostic.severity}[{diagnostic.code}]: {what}{_rows(diagnostic, count, rows)}"
    if diagnostic.place:
        yield from _place(diagnostic.place)
    if diagnostic.hint:
        yield f"   = hint: {printable(diagnostic.hint)}"


def occurrences(group: Group) -> str:
    """Return in which rows a group was found, in brackets; empty if it is about the whole campaign."""
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
    """Return a place as ``file:line:column``, with the cell if it is one."""
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
    number = f"{padded(str(line), 3, right=True)} | "
    shown = source.replace("\t", " ")[start : start + _MAX_SOURCE]
    yield number + printable(shown)
    if column is not None:
        before = printable(shown[: column - 1 - start])
        under = printable(shown[column - 1 - start : column - 1 - start + place.width])
        yield " " * (len(number) - 2) + "| " + " " * width(before) + "^" * max(1, width(under))


def listing(problems: DiagnosticCollector, *, most: int = 10) -> Iterator[str]:
    """Yield the lines of all groups; at most *most* groups with the same code are shown in full."""
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
        yield f"... and {count:,} more of {code}: see results.csv, or check with --json"


def group_lines(group: Group) -> Iterator[str]:
    """Yield the lines of one group."""
    yield from diagnostic_lines(group.first, count=group.count, rows=group.rows)


def found(problems: DiagnosticCollector) -> str:
    """Return how many errors and warnings there are: ``1 error, 2 warnings``."""
    totals = ((problems.total(severity), severity) for severity in (Severity.ERROR, Severity.WARNING))
    return ", ".join(plural(number, severity) for number, severity in totals if number) or "no problems"


# --- for programs -----------------------------------------------------------------------------------


def concise(problems: DiagnosticCollector) -> Iterator[str]:
    """Yield one line for each problem: place, severity, code, message, rows."""
    for group in problems:
        first = group.first
        where = position(first.place) if first.place else ""
        yield (
            f"{printable(where)}{': ' if where else ''}{first.severity}[{first.code}] "
            f"{printable(first.message)}{occurrences(group)}"
        )


def github(problems: DiagnosticCollector) -> Iterator[str]:
    """Yield GitHub workflow commands, which GitHub shows next to the lines that they are about."""
    for group in problems:
        first, place = group.first, group.first.place
        facts = {
            "file": place.path if place else None,
            "line": place.line if place else None,
            "col": place.column if place else None,
            "title": first.code,
        }
        said = ",".join(f"{name}={_property(value)}" for name, value in facts.items() if value is not None)
        cell = f" ({place.cell})" if place and place.cell else ""
        hint = f"\nhint: {first.hint}" if first.hint else ""
        yield f"::{first.severity} {said}::{_escaped(first.message + cell + occurrences(group) + hint)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: object) -> str:
    return _escaped(str(value)).replace(":", "%3A").replace(",", "%2C")


def sarif(problems: DiagnosticCollector, version: str) -> str:
    """Return a SARIF 2.1.0 log, which code scanners and editors read."""
    from mailmerge.check.catalogue import catalogue

    groups = list(problems)
    entries = catalogue()
    codes = sorted({group.first.code for group in groups})
    rules = [
        {
            "id": code,
            "shortDescription": {"text": entries[code].what},
            "fullDescription": {"text": entries[code].why},
            "help": {"text": entries[code].do},
        }
        for code in codes
    ]
    log = {
        "$schema": _SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "mailmerge-kit", "version": version, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(group, codes.index(group.first.code)) for group in groups],
            }
        ],
    }
    return json.dumps(log, ensure_ascii=False, indent=2)


def _result(group: Group, rule: int) -> dict[str, Any]:
    first = group.first
    hint = f" Hint: {first.hint}" if first.hint else ""
    result: dict[str, Any] = {
        "ruleId": first.code,
        "ruleIndex": rule,
        "level": "error" if first.severity is Severity.ERROR else "warning",
        "message": {"text": first.message + occurrences(group) + hint},
        "occurrenceCount": max(group.count, 1),
    }
    if first.place:
        result["locations"] = [_location(first, first.place)]
    return result


def _location(first: Diagnostic, place: Place) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if place.path:
        from urllib.parse import quote

        physical: dict[str, Any] = {"artifactLocation": {"uri": quote(place.path)}}
        region = {"startLine": place.line, "startColumn": place.column}
        if place.column is not None:
            region["endColumn"] = place.column + place.width
        if place.line is not None:
            physical["region"] = {name: value for name, value in region.items() if value is not None}
        location["physicalLocation"] = physical
    if place.cell:
        row = f"row {first.row}, " if first.row is not None else ""
        location["logicalLocations"] = [{"name": row + place.cell, "kind": "member"}]
    return location
