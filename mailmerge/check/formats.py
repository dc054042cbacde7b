"""Problems in the forms that programs read: one line each, GitHub's annotations, SARIF."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from mailmerge.check.diagnostics_text import occurrences, position
from mailmerge.model import Severity
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.collector import Group, Problems
    from mailmerge.model import Diagnostic, Place

OutputFormat = Literal["full", "concise", "json", "github", "sarif"]

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def concise(problems: Problems) -> Iterator[str]:
    """Yield one line a problem: place, severity, code, message, rows."""
    for group in problems:
        first = group.first
        where = position(first.place) if first.place else ""
        yield (
            f"{printable(where)}{': ' if where else ''}{first.severity}[{first.code}] "
            f"{printable(first.message)}{occurrences(group)}"
        )


def github(problems: Problems) -> Iterator[str]:
    """Yield workflow commands that GitHub shows beside the lines they are about."""
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


def sarif(problems: Problems, version: str) -> str:
    """Give a SARIF 2.1.0 log, which code scanners and editors read."""
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
